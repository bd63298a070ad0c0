"""Attention to a few places of several maps, which each query chooses itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Queries that are sampled at once: bounds the memory, and the intermediate results fit a cache.
_CHUNK = 4096


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, section 4.1).

    Each head of a query reads `num_points` places of each map, at offsets from a reference that
    the query predicts, and averages what it reads with weights that the query predicts too.

    Args:
        dim: channels of queries and values, a multiple of `num_heads`.
        num_heads: heads; each reads places of its own.
        num_levels: maps.
        num_points: places that a head reads in each map.

    Raises:
        ValueError: `dim` is not a multiple of `num_heads`.
    """

    def __init__(self, *, dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not a multiple of {num_heads} heads; change either")
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with equal weights, and with head k's places on a ray of its own direction."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        ray = torch.stack((angle.cos(), angle.sin()), dim=-1)
        ray = ray / ray.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1)
        offsets = (ray[:, None, None] * steps[:, None]).expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())

    def forward(
        self, query: Tensor, reference: Tensor, value: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return what each query reads, ``[B, Q, C]``.

        Args:
            query: ``[B, Q, C]``, position included.
            reference: ``[B, Q, L, 2]`` points x, y, or ``[B, Q, L, 4]`` boxes cx, cy, w, h, as
                shares of the map in [0, 1]. Offsets are in cells of the map for points, in
                ``1 / (2 * num_points)`` of the box for boxes. B and L may be 1 for all alike.
            value: ``[B, S, C]``, the cells of all maps, map after map and row after row.
            shapes: height and width of the L maps, S cells in all.

        Raises:
            ValueError: the maps have another number or other sizes than was said.
        """
        return self.read_values(query, reference, self.value_proj(value), shapes)

    def read_values(
        self, query: Tensor, reference: Tensor, values: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return what `forward` does, for values that `value_proj` has projected before.

        Projecting all cells takes far longer than reading a few of them: who asks many times about
        one photo projects once.

        Args:
            query: as in `forward`.
            reference: as in `forward`.
            values: ``value_proj(value)``, ``[B, S, C]``.
            shapes: as in `forward`.

        Raises:
            ValueError: the maps have another number or other sizes than was said.
        """
        cells = sum(height * width for height, width in shapes)
        if len(shapes) != self.num_levels or cells != values.shape[1]:
            raise ValueError(
                f"{values.shape[1]} cells came for {len(shapes)} maps of {cells} cells; expected "
                f"{self.num_levels} maps, and the cells of all of them"
            )
        grouped = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*grouped, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        x, y = _places(reference, offsets, shapes)
        by_head = values.unflatten(-1, (self.num_heads, -1))
        read = sample_maps(by_head, x, y, weights.unflatten(-1, grouped[1:]), shapes)
        return self.output_proj(read.flatten(2).to(values.dtype))


def _places(
    reference: Tensor, offsets: Tensor, shapes: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Return where to read, x and y ``[B, Q, heads, L, points]``, in cells from a cell's centre.

    In float32 at least: bfloat16 cannot tell neighbouring cells of a large map apart.
    """
    dtype = torch.promote_types(offsets.dtype, torch.float32)
    num_points = offsets.shape[-2]
    reference, offsets = reference.to(dtype), offsets.to(dtype)
    places = []
    for axis in (0, 1):
        sizes = torch.tensor([shape[1 - axis] for shape in shapes], dtype=dtype)
        sizes = sizes.to(reference.device)
        step = offsets[..., axis]
        if reference.shape[-1] == 4:
            unit = reference[..., 2 + axis] * sizes * (0.5 / num_points)
            step = step * unit[:, :, None, :, None]
        centre = (reference[..., axis] * sizes - 0.5)[:, :, None, :, None]
        # Repeated for each point first, so that the sum runs over long rows.
        places.append(centre.repeat_interleave(num_points, dim=-1) + step)
    return places[0], places[1]


def sample_maps(
    values: Tensor, x: Tensor, y: Tensor, weights: Tensor, shapes: Sequence[tuple[int, int]]
) -> Tensor:
    """Read several maps at several places and return the weighted sums, ``[B, Q, heads, d]``.

    Bilinear between the four cells around a place, 0 outside the map: the values of
    ``grid_sample(padding_mode="zeros", align_corners=False)``, summed over maps and points. All
    cells that a sum needs are rows of one table, so that one ``embedding_bag`` does the sum
    without ever storing what was read at the single places.

    Args:
        values: ``[B, S, heads, d]``, the cells of all maps, map after map and row after row.
        x: places ``[B, Q, heads, L, points]`` in cells; the centre of a cell is an integer.
        y: the same from top to bottom.
        weights: ``[B, Q, heads, L, points]``.
        shapes: height and width of the L maps.

    Returns:
        Of the type of `x`.
    """
    batch, _, heads, dim = values.shape
    table = values.to(x.dtype).reshape(-1, dim)
    index = _RowIndex(shapes, batch, heads, x.shape[-1], x.device)
    bags = []
    chunks = (part.flatten(3).split(_CHUNK, dim=1) for part in (x, y, weights.to(x.dtype)))
    for columns, lines, shares in zip(*chunks, strict=True):
        rows, factors = index.corners(columns, lines, shares)
        bag = F.embedding_bag(
            rows.flatten(0, 2), table, mode="sum", per_sample_weights=factors.flatten(0, 2)
        )
        bags.append(bag.view(batch, -1, heads, dim))
    return torch.cat(bags, dim=1)


class _RowIndex:
    """Where the cells of several maps are among the rows of the table, ``[B * S * heads]``."""

    def __init__(
        self,
        shapes: Sequence[tuple[int, int]],
        batch: int,
        heads: int,
        num_points: int,
        device: torch.device,
    ) -> None:
        maps = []
        start = 0
        for height, width in shapes:
            maps.append((width - 1, height - 1, width * heads, start * heads))
            start += height * width
        # One entry per map and point, as the places come.
        columns = torch.tensor(maps, dtype=torch.int32).repeat_interleave(num_points, dim=0).T
        self.last_x, self.last_y, self.stride_y, start_row = columns.contiguous().to(device)
        self.stride_x = heads
        images = torch.arange(batch, device=device, dtype=torch.int32) * (start * heads)
        head = torch.arange(heads, device=device, dtype=torch.int32)
        self.first = (images[:, None] + head)[:, None, :, None] + start_row

    def corners(self, x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows ``int32 [B, Q, heads, 4 * n]`` around n places, and their factors.

        A cell outside its map gets a row inside and the factor 0.
        """
        left, right = _ends(x, self.last_x)
        rows, factors = [], []
        for line, part_y in _ends(y, self.last_y):
            row = line * self.stride_y + self.first
            part_y = part_y * weights
            for column, part_x in (left, right):
                rows.append(torch.add(row, column, alpha=self.stride_x))
                factors.append(part_x * part_y)
        return torch.cat(rows, dim=-1), torch.cat(factors, dim=-1)


def _ends(place: Tensor, last: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the cells before and after `place` along an axis, each with its share in [0, 1]."""
    low = place.floor()
    share = place - low
    cell = low.to(torch.int32)
    return _inside(cell, 1 - share, last), _inside(cell + 1, share, last)


def _inside(cell: Tensor, share: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    # As integers: a place that is not a number must not become a row outside the table.
    clamped = torch.minimum(cell, last).clamp(min=0)
    return clamped, share * (clamped == cell)
