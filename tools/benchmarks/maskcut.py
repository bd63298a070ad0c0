"""MaskCut on a grid of 60 x 60 patches, beside the plain way by ``scipy.linalg.eigh``."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

SIDE = 60
DIMS = 768
ROUNDS = 3
TAU = 0.15


def benchmark_maskcut() -> dict[str, Any]:
    """Return seconds per grid (median) of both, their ratio, and whether the cuts are the same."""
    from benchmark import median_seconds
    from divide_and_conquer.divide.ncut import maskcut
    from unsam.regions.conquer import grid_edges

    edges = grid_edges(SIDE, SIDE)
    corners = np.array([0, SIDE - 1, (SIDE - 1) * SIDE, SIDE * SIDE - 1])
    figures: dict[str, Any] = {}
    ratios = []
    for name, features in grids().items():
        run = lambda: maskcut(features, edges, corners, tau=TAU, rounds=ROUNDS)  # noqa: B023, E731
        plain = lambda: plain_maskcut(features, TAU, ROUNDS)  # noqa: B023, E731
        same = bool(np.array_equal(run(), plain()))
        assert same, f"{name}: the cuts differ"
        ours = median_seconds(run, repeats=7, warm_up=1)
        theirs = median_seconds(plain, repeats=3, warm_up=0)
        figures[f"{name}_seconds"] = ours
        figures[f"{name}_plain_eigh_seconds"] = theirs
        figures[f"{name}_same_cuts"] = same
        ratios.append(theirs / ours)
    # Objects of noise are single patches among many equal ones: a matter of rounding, only timed.
    noise = np.random.default_rng(0).standard_normal((SIDE * SIDE, DIMS // 2)).astype(np.float32)
    figures["noise_seconds"] = median_seconds(
        lambda: maskcut(noise, edges, corners, tau=TAU, rounds=ROUNDS), repeats=7, warm_up=1
    )
    figures["smallest_ratio"] = min(ratios)
    return figures


def grids() -> dict[str, np.ndarray]:
    """Return features ``float32 [3600, 768]``: patches that blend, and objects under noise."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((SIDE, SIDE, DIMS)).astype(np.float32)
    kinds = np.zeros((SIDE, SIDE), int)
    kinds[6:26, 8:30] = 1
    kinds[32:52, 20:54] = 2
    kinds[38:56, 4:14] = 3
    objects = rng.standard_normal((4, DIMS)).astype(np.float32)[kinds] + 1.5 * noise
    return {
        "smooth": gaussian_filter(noise, (3, 3, 0)).reshape(-1, DIMS),
        "objects": objects.reshape(-1, DIMS),
    }


def plain_maskcut(features: np.ndarray, tau: float, rounds: int) -> np.ndarray:
    """Return the objects ``bool [rounds, N]`` of a square grid, each round built from scratch."""
    import scipy.linalg
    from scipy.ndimage import label

    side = int(np.sqrt(len(features)))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    masks: list[np.ndarray] = []
    painted = np.zeros(len(unit), bool)
    for index in range(rounds):
        unit[painted] = 0
        affinity = np.where(unit @ unit.T > tau, 1.0, 1e-5)
        degrees = np.diag(affinity.sum(axis=1))
        vector = scipy.linalg.eigh(degrees - affinity, degrees, subset_by_index=[1, 2])[1][:, 0]
        # LAPACK's sign is arbitrary; ours makes the largest entry positive.
        vector *= np.sign(vector[np.abs(vector).argmax()])
        inside = (vector > vector.mean()).reshape(side, side)
        if inside[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= 3:
            inside, vector = ~inside, -vector
        seed = np.unravel_index(vector.argmax(), inside.shape)
        pieces = label(inside)[0]
        found = ((pieces == pieces[seed]) & inside[seed]).reshape(-1)
        if index > 0:
            union = (found | masks[-1]).sum()
            if (found & masks[-1]).sum() > 0.5 * union or found.sum() <= 0.01 * found.size:
                found[:] = False
        masks.append(found & ~painted)
        painted |= found
    return np.stack(masks)
