"""Thinning of boundary maps, on their marked pixels only."""

from __future__ import annotations

import numpy as np

from unsam.regions.compiled import kernel


def thinned(marked: np.ndarray) -> np.ndarray:
    """Return ``bool [H, W]`` thinned to lines of one pixel, until nothing changes.

    Guo and Hall 1989 in the words of Lam, Lee and Suen 1992, as in MATLAB and in scikit-image,
    which gives the same pixels; here the work goes with the marked pixels, not with all.
    """
    framed = np.pad(np.asarray(marked, bool), 1).astype(np.uint8, order="C")
    _thin(framed.reshape(-1), framed.shape[1], _REMOVABLE)
    return framed[1:-1, 1:-1].astype(bool)


def _removable() -> np.ndarray:
    """Return for both halves of a step which neighbourhoods lose their centre, ``bool [2, 256]``.

    Bit k of a neighbourhood is neighbour k + 1 of the papers, from the right counter-clockwise.
    """
    x = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    direct, corner = x[:, 0::2], x[:, 1::2]
    following = np.roll(direct, -1, axis=1)
    crossings = (~direct & (corner | following)).sum(axis=1)
    pairs = np.minimum((direct | corner).sum(axis=1), (corner | following).sum(axis=1))
    ends_kept = (crossings == 1) & (pairs >= 2) & (pairs <= 3)
    first = ends_kept & ~((x[:, 1] | x[:, 2] | ~x[:, 7]) & x[:, 0])
    second = ends_kept & ~((x[:, 5] | x[:, 6] | ~x[:, 3]) & x[:, 4])
    return np.stack([first, second])


_REMOVABLE = _removable()


@kernel
def _thin(flat: np.ndarray, stride: int, removable: np.ndarray) -> None:
    """Thin ``flat uint8 [H * W]`` in place; its outermost pixels are 0."""
    steps = np.array([1, 1 - stride, -stride, -1 - stride, -1, stride - 1, stride, stride + 1])
    places = np.flatnonzero(flat)
    gone = np.empty(places.size, np.int64)
    changed = True
    while changed:
        changed = False
        for half in range(2):
            count = left = 0
            for place in places:
                code = 0
                for bit in range(8):
                    code |= flat[place + steps[bit]] << bit
                if removable[half, code]:
                    gone[count] = place
                    count += 1
                else:
                    places[left] = place
                    left += 1
            # All at once: a half step looks at the map before it.
            for index in range(count):
                flat[gone[index]] = 0
            places = places[:left]
            changed |= count > 0
