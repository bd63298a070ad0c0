"""The words of a run: on the screen and in a file, and never the end of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from unsam.engine.run_log import logging_to


def test_words_go_to_the_screen_and_the_file_and_warnings_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("unsam.engine.test")
    with logging_to(tmp_path / "log.txt"):
        logger.info("a word")
        logger.warning("a warning")
    logger.warning("after the end")
    text = (tmp_path / "log.txt").read_text()
    assert "INFO a word" in text
    assert "WARNING a warning" in text
    assert "after the end" not in text
    screen = capsys.readouterr()
    assert "a word" in screen.out
    assert "a warning" not in screen.out
    assert "WARNING a warning" in screen.err


def test_a_file_that_cannot_be_written_is_given_up_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "no_folder" / "log.txt"):
        logging.getLogger("unsam").info("first")
        logging.getLogger("unsam").info("second")
    screen = capsys.readouterr()
    assert screen.err.count("log.txt ends here") == 1
    assert "second" in screen.out
