"""Gaussian filtering in many dimensions on the permutohedral lattice.

Source: Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice"
(2010). Positions of D dimensions are moved into the plane of D + 1 coordinates that sum to zero,
which the lattice tiles with equal simplices. Splat: each value goes to the D + 1 corners of its
simplex by barycentric weights. Blur: corners exchange along each of the D + 1 axes. Slice: values
are read back with the same weights. Corners that no position touches do not exist, so the work
grows with the number of positions and only linearly with D.

A lattice depends on positions alone. It is built once and filters any number of channels, any
number of times. Vertex 0 stands for all missing corners: it holds zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unsam.regions.compiled import kernel

_FIRST_CAPACITY = 1 << 15
# Odd, so that multiplying by it is one to one on 64 bits; its high bits are well mixed.
_HASH = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class PermutohedralLattice:
    """The simplices around P positions of D dimensions, and which vertices are neighbours.

    Attributes:
        vertices: ``uint32 [P, D + 1]``, corners of the simplex of each position, from 1.
        weights: ``float32 [P, D + 1]``, their barycentric weights, which sum to 1.
        neighbours: ``uint32 [D + 1, M, 2]``, neighbours of each vertex along each axis; 0 for none.
    """

    vertices: np.ndarray
    weights: np.ndarray
    neighbours: np.ndarray

    @classmethod
    def build(cls, positions: np.ndarray) -> PermutohedralLattice:
        """Build the lattice of ``positions float [P, D]`` for a Gaussian of standard deviation 1.

        Raises:
            ValueError: not two axes, nothing in it, or so far spread that vertices cannot be
                numbered in 63 bits.
        """
        if positions.ndim != 2 or not positions.size:
            raise ValueError(f"positions must be [P, D] with P, D > 0, got {positions.shape}")
        elevated = _elevate(np.ascontiguousarray(positions, np.float32))
        lowest, stride = _numbering(elevated)
        vertices, weights, codes, slots = _find_vertices(elevated, lowest, stride)
        return cls(vertices, weights, _find_neighbours(codes, slots, stride))

    def scaled(self, factor: np.ndarray) -> PermutohedralLattice:
        """Return the lattice that multiplies what goes in and what comes out by ``factor [P]``.

        One multiplication of the weights, so that it costs nothing in each `add_filtered`.
        """
        weights = self.weights * factor.astype(np.float32)[:, None]
        return PermutohedralLattice(self.vertices, weights, self.neighbours)

    def filter(self, values: np.ndarray) -> np.ndarray:
        """Return ``float32 [P, C]``: each channel of ``values float32 [P, C]`` blurred.

        The result is scaled by a constant that depends on D alone.
        """
        blurred = np.zeros(values.shape, np.float32)
        self.add_filtered(np.ascontiguousarray(values, np.float32), blurred, self.grids(values))
        return blurred

    def grids(self, values: np.ndarray) -> np.ndarray:
        """Return working memory for `add_filtered` of ``values [P, C]``: ``float32 [2, M, C]``."""
        return np.zeros((2, self.neighbours.shape[1], values.shape[1]), np.float32)

    def add_filtered(self, values: np.ndarray, total: np.ndarray, grids: np.ndarray) -> None:
        """Add the blurred ``values float32 [P, C]`` to ``total float32 [P, C]``, in place.

        The kernels are compiled anew for each number of channels; use few different ones.
        """
        lanes = (0,) * values.shape[1]
        grids[0] = 0
        _splat(self.vertices, self.weights, values, grids[0], lanes)
        blurred = _blur(self.neighbours, grids[0], grids[1], lanes)
        _add_read(self.vertices, self.weights, blurred, total, lanes)


def _elevate(positions: np.ndarray) -> np.ndarray:
    """Move ``float32 [P, D]`` into the plane, ``float32 [P, D + 1]``, scaled for unit deviation.

    Splatting, blurring and slicing together have a variance of 2/3 (D + 1)^2 in each direction.
    """
    dims = positions.shape[1]
    axis = np.arange(dims)
    scale = (dims + 1) * np.sqrt(2 / 3) / np.sqrt((axis + 1.0) * (axis + 2.0))
    scaled = positions * scale.astype(np.float32)
    elevated = np.zeros((len(positions), dims + 1), np.float32)
    # Coordinate i holds the sum of the scaled ones from i on, less i times the one before.
    elevated[:, :dims] = np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]
    elevated[:, 1:] -= (axis + 1).astype(np.float32) * scaled
    return elevated


def _numbering(elevated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest coordinates and the strides that give each vertex one 63-bit code.

    The last coordinate follows from the others; its stride is 0.
    """
    dims = elevated.shape[1] - 1
    # A corner is at most two lattice steps from its position, its neighbours three.
    margin = 3 * (dims + 1)
    lowest = np.zeros(dims + 1, np.int64)
    stride = np.zeros(dims + 1, np.int64)
    total = 1
    for axis in range(dims):
        values = elevated[:, axis]
        lowest[axis] = math.floor(values.min()) - margin
        stride[axis] = total
        total *= math.ceil(values.max()) + margin - int(lowest[axis]) + 1
        if total >= 2**63:
            raise ValueError("positions are spread too far for a permutohedral lattice")
    return lowest, stride


@kernel
def _find_vertices(
    elevated: np.ndarray, lowest: np.ndarray, stride: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices, weights, the code of each vertex, and the table that finds them."""
    count, corners = elevated.shape
    vertices = np.empty((count, corners), np.uint32)
    weights = np.empty((count, corners), np.float32)
    slots = np.zeros(2 * _FIRST_CAPACITY, np.uint32)
    codes = np.empty(_FIRST_CAPACITY, np.int64)
    codes[0] = -1
    used = 1
    total_stride = stride.sum()
    origin = np.empty(corners, np.int64)
    rank = np.empty(corners, np.int64)
    at_rank = np.empty(corners, np.int64)
    previous = np.full(corners, np.int64(-1))
    for point in range(count):
        _enclosing_simplex(elevated[point], origin, rank, weights[point])
        code = np.int64(0)
        for axis in range(corners):
            code += (origin[axis] - lowest[axis]) * stride[axis]
            at_rank[rank[axis]] = axis
        for corner in range(corners):
            if code == previous[corner]:
                # Neighbouring pixels mostly share corners.
                vertices[point, corner] = vertices[point - 1, corner]
            else:
                slot = _slot_of(code, codes, slots)
                if slots[slot] == 0:
                    if used == codes.size:
                        codes, slots = _grown(codes)
                        slot = _slot_of(code, codes, slots)
                    codes[used] = code
                    slots[slot] = used
                    used += 1
                vertices[point, corner] = slots[slot]
                previous[corner] = code
            # The next corner is one step further on all axes, less a round on one of them.
            code += total_stride - corners * stride[at_rank[corners - 1 - corner]]
    return vertices, weights, codes[:used], slots


@kernel
def _enclosing_simplex(
    position: np.ndarray, origin: np.ndarray, rank: np.ndarray, weights: np.ndarray
) -> None:
    """Find the simplex around one elevated position ``float32 [D + 1]``; results are written.

    Args:
        position: in the plane.
        origin: receives the corner whose coordinates are multiples of D + 1.
        rank: receives the place of each coordinate by descending distance from the origin.
        weights: receives the barycentric weights of the corners, the origin first.
    """
    corners = position.size
    excess = np.int64(0)
    for axis in range(corners):
        rounded = np.int64(np.floor(position[axis] / corners + np.float32(0.5)))
        origin[axis] = rounded * corners
        excess += rounded
        rank[axis] = 0
    for first in range(corners):
        for second in range(first + 1, corners):
            if position[first] - origin[first] < position[second] - origin[second]:
                rank[first] += 1
            else:
                rank[second] += 1
    # Rounding may leave the plane; the coordinates that were rounded furthest go back.
    for axis in range(corners):
        rank[axis] += excess
        if rank[axis] < 0:
            rank[axis] += corners
            origin[axis] += corners
        elif rank[axis] >= corners:
            rank[axis] -= corners
            origin[axis] -= corners
    for corner in range(corners):
        weights[corner] = 0
    for axis in range(corners):
        share = (position[axis] - origin[axis]) / np.float32(corners)
        weights[corners - 1 - rank[axis]] += share
        if rank[axis] > 0:
            weights[corners - rank[axis]] -= share
        else:
            weights[0] += np.float32(1) - share


@kernel
def _slot_of(code: int, codes: np.ndarray, slots: np.ndarray) -> np.uint64:
    """Return the slot that holds the vertex of a code, or the free one where it belongs."""
    mask = np.uint64(slots.size - 1)
    slot = ((np.uint64(code) * _HASH) >> np.uint64(24)) & mask
    while slots[slot] != 0 and codes[slots[slot]] != code:
        slot = (slot + np.uint64(1)) & mask
    return slot


@kernel
def _grown(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a copy of the full code list with twice the room, and its table."""
    larger = np.empty(2 * codes.size, np.int64)
    larger[: codes.size] = codes
    slots = np.zeros(4 * codes.size, np.uint32)
    for vertex in range(1, codes.size):
        slots[_slot_of(larger[vertex], larger, slots)] = vertex
    return larger, slots


@kernel
def _find_neighbours(codes: np.ndarray, slots: np.ndarray, stride: np.ndarray) -> np.ndarray:
    """Return ``uint32 [D + 1, M, 2]``: along an axis all coordinates move by one, it by D back."""
    corners = stride.size
    neighbours = np.zeros((corners, codes.size, 2), np.uint32)
    for axis in range(corners):
        step = stride.sum() - corners * stride[axis]
        for vertex in range(1, codes.size):
            neighbours[axis, vertex, 0] = slots[_slot_of(codes[vertex] - step, codes, slots)]
            neighbours[axis, vertex, 1] = slots[_slot_of(codes[vertex] + step, codes, slots)]
    return neighbours


# `lanes` is a tuple with one entry per channel: its length is known to the compiler, which unrolls
# the loops over the channels; that is two to seven times faster.
@kernel
def _splat(
    vertices: np.ndarray,
    weights: np.ndarray,
    values: np.ndarray,
    grid: np.ndarray,
    lanes: tuple[int, ...],
) -> None:
    """Add ``values float32 [P, C]`` to the corners of their simplices in ``grid [M, C]``."""
    for point in range(vertices.shape[0]):
        for corner in range(vertices.shape[1]):
            vertex, weight = vertices[point, corner], weights[point, corner]
            for channel in range(len(lanes)):
                grid[vertex, channel] += weight * values[point, channel]


@kernel
def _blur(
    neighbours: np.ndarray, grid: np.ndarray, spare: np.ndarray, lanes: tuple[int, ...]
) -> np.ndarray:
    """Blur ``grid float32 [M, C]`` along each axis with weights 1/2, 1, 1/2; both are overwritten.

    Args:
        neighbours: of the lattice.
        grid: values at the vertices; row 0 is zero.
        spare: the same shape; row 0 is zero.
        lanes: one entry per channel.

    Returns:
        The one of the two that holds the result.
    """
    half = np.float32(0.5)
    for axis in range(neighbours.shape[0]):
        for vertex in range(1, grid.shape[0]):
            before, after = neighbours[axis, vertex, 0], neighbours[axis, vertex, 1]
            for channel in range(len(lanes)):
                around = grid[before, channel] + grid[after, channel]
                spare[vertex, channel] = grid[vertex, channel] + half * around
        grid, spare = spare, grid
    return grid


@kernel
def _add_read(
    vertices: np.ndarray,
    weights: np.ndarray,
    grid: np.ndarray,
    total: np.ndarray,
    lanes: tuple[int, ...],
) -> None:
    """Add to ``total float32 [P, C]`` what ``grid float32 [M, C]`` holds at each position."""
    for point in range(vertices.shape[0]):
        for corner in range(vertices.shape[1]):
            vertex, weight = vertices[point, corner], weights[point, corner]
            for channel in range(len(lanes)):
                total[point, channel] += weight * grid[vertex, channel]
