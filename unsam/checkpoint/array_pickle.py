"""Plain pickles of numpy arrays, as detectron2 keeps weights in: read, and nothing is executed.

A pickle names functions to call. Of those only the few that rebuild arrays are known here, and
each is our own, with checked arguments; any other name ends the reading before anything is called.
"""

from __future__ import annotations

import collections
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from unsam.errors import CheckpointError, first_line

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
# Pickles of arrays hand the class on and never call it; as a text it cannot be called.
_NDARRAY = "numpy.ndarray"


def read_array_pickle(path: str | Path) -> Any:
    """Return what a pickle of plain values and numpy arrays of numbers holds.

    Raises:
        CheckpointError: truncated or damaged, or it names anything else, which could run code.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            # Python 2 wrote the bytes of arrays as text.
            return _ArrayUnpickler(stream, encoding="latin1").load()
    except _Forbidden as error:
        raise CheckpointError(
            f"{file}: refused: holds {error}, which could run code; weights are tensors, arrays "
            "and plain values"
        ) from None
    # A pickle of garbage can raise nearly anything that its few functions can.
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        MemoryError,
        OSError,
    ) as error:
        raise CheckpointError(
            f"{file}: damaged: a truncated or broken pickle ({first_line(error)}); get it again"
        ) from None


class _Forbidden(Exception):  # noqa: N818 - the name of what was asked for, not an error's
    """A pickle asks for something that is not needed to rebuild arrays."""


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the functions of `_known` and no other name."""

    def find_class(self, module: str, name: str, /) -> Any:
        """Return our function for a name that rebuilds arrays."""
        known = _known().get((module, name))
        if known is None:
            raise _Forbidden(f"{module}.{name}")
        return known

    def persistent_load(self, pid: Any, /) -> Any:
        """Refuse what lies outside the file."""
        raise _Forbidden(f"a reference outside the file ({pid!r})")


def _known() -> dict[tuple[str, str], Any]:
    functions: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): _number_type,
        ("_codecs", "encode"): _encode,
    }
    for module in _MULTIARRAY:
        functions[module, "_reconstruct"] = _empty_array
        functions[module, "scalar"] = _scalar
    for module in _NUMERIC:
        functions[module, "_frombuffer"] = _from_buffer
    return functions


def _number_type(name: str, *unused: Any) -> np.dtype:
    """Return the type of a number by its name; those of objects would hold pickles of their own."""
    # A copy, for the pickle sets its byte order afterwards.
    kind = np.dtype(name, align=False, copy=True)
    if kind.kind not in "biuf":
        raise _Forbidden(f"an array of {kind}")
    return kind


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """Return the array of no elements that numpy fills afterwards."""
    if kind is not _NDARRAY:
        raise _Forbidden("a kind of array that is not numpy's own")
    return np.ndarray((0,), np.uint8)


def _scalar(kind: np.dtype, content: bytes | str) -> Any:
    raw = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(raw, kind)[0]


def _from_buffer(content: Any, kind: np.dtype, shape: Any, order: str) -> np.ndarray:
    return np.frombuffer(content, kind).reshape(shape, order=order)  # type: ignore[call-overload]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Forbidden(f"text in {encoding}")
    return text.encode("latin1")
