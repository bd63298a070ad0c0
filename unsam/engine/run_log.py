"""Where the words of a run go: the screen, and a file that may fail without ending the run."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from unsam.engine import distributed


class _LogFile(logging.FileHandler):
    """A log file that is given up, with one line, when it cannot be written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        del record
        logging.getLogger("unsam").removeHandler(self)
        stream, self.stream = self.stream, None
        # What it holds back cannot be written either.
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
        sys.stderr.write(f"unsam: warning: {self.baseFilename} ends here: {sys.exc_info()[1]}\n")


@contextlib.contextmanager
def logging_to(log_file: Path) -> Iterator[None]:
    """Log to stdout and a file, warnings to stderr instead of stdout; other ranks: warnings only.

    Args:
        log_file: appended to, by the main rank.
    """
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setLevel(logging.WARNING)
    handlers: list[logging.Handler] = [warnings]
    if distributed.is_main():
        screen = logging.StreamHandler(sys.stdout)
        screen.addFilter(lambda record: record.levelno < logging.WARNING)
        handlers += [screen, _LogFile(log_file)]
    package = logging.getLogger("unsam")
    before = package.level
    package.setLevel(logging.INFO if distributed.is_main() else logging.WARNING)
    for handler in handlers:
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
        )
        package.addHandler(handler)
    try:
        yield
    finally:
        package.setLevel(before)
        for handler in handlers:
            package.removeHandler(handler)
            handler.close()
