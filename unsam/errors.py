"""The errors a user can cause.

Everything that is the caller's to mend (a wrong key, a corrupt file, a full disk) is raised as an
`UnsamError` whose text is one line: what, what was expected, what to do. The command line prints
that line and exits with `exit_code`; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class UnsamError(Exception):
    """Base of all errors that a user can mend; its text is one line."""

    exit_code = 1


class ConfigError(UnsamError, ValueError):
    """A config file, key or value is wrong."""

    exit_code = 2


class DataError(UnsamError, ValueError):
    """A photo, an annotation file or a folder cannot be used."""


class CheckpointError(UnsamError, ValueError):
    """A checkpoint is missing, truncated or made for another model."""


class TrainingError(UnsamError, RuntimeError):
    """Training cannot go on, for instance because a loss is not finite."""


def first_line(error: BaseException) -> str:
    """Return what an error of a library says, cut to one line of at most 160 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__


def counted(items: Sequence[str], what: str) -> str:
    """Return a count and the first three of what is counted: ``4 missing (a, b, c, ...)``."""
    if not items:
        return f"0 {what}"
    return f"{len(items)} {what} ({', '.join(items[:3])}{', ...' if len(items) > 3 else ''})"
