"""MATLAB files of ground truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.io import loadmat

from unsam.annotations.records import read_bytes
from unsam.errors import DataError

T = TypeVar("T")


def read_mat(path: Path, parse: Callable[[dict[str, Any]], T], dataset: str) -> T:
    """Return what `parse` takes from the variables of a file, structs as dicts.

    Args:
        path: of the file.
        parse: may raise whatever a file of another layout makes it raise.
        dataset: whose ground truth is expected, for the message.

    Raises:
        DataError: missing, damaged or of another layout.
    """
    read_bytes(path, size=0)
    try:
        return parse(loadmat(path, simplify_cells=True))
    # scipy reports broken files with any of many errors.
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path}: damaged, or no ground truth of {dataset} ({reason}); fetch it again"
        ) from None


def as_list(value: Any) -> list[Any]:
    """Return the elements of a cell or struct array; MATLAB's arrays of one come as the element."""
    return [value] if isinstance(value, dict) else list(np.asarray(value, dtype=object).ravel())
