"""Compilation of kernels with numba, with its on-disk cache where there is a place for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `function` on its first call; the machine code is cached on disk if possible."""
    return _compile(function)


def reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    """`kernel` for sums: the compiler may reorder the additions to use vector instructions.

    The order is fixed at compilation, thus results repeat exactly on one machine.
    """
    return _compile(function, fastmath={"reassoc", "contract", "nsz"})


def borrower(function: Callable[..., Any]) -> Callable[..., Any]:
    """`kernel` for small functions that are called often with many arrays and allocate none.

    They only borrow the arrays of their caller, thus need no reference counts, which take four
    fifths of the time of a merge. The option is internal to numba; without it all still works.
    """
    try:
        return _compile(function, _nrt=False)
    except KeyError:
        return _compile(function)


def _compile(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile with numba's disk cache, or without it where it has no place.

    numba refuses to decorate when neither the package folder nor the user's cache folder can be
    written (a read-only install, an unknown user in a container). The kernel then compiles anew in
    each process, which costs seconds and changes no result.
    """
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)
