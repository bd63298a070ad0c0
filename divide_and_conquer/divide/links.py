"""The affinity graph of MaskCut, whose entries are 1 or 1e-5, in forms made for products.

Normalised cuts only ever multiply the affinity ``A`` with vectors. With B the 0/1 matrix of
linked pairs, ``A x = 1e-5 sum(x) + (1 - 1e-5) B x``. A dense B is kept as bits, eight rows to a
byte: for each byte the 256 possible partial sums of its eight entries of x are tabled, so one
product takes N * N / 8 look-ups in float64 and reads 1/64 of the memory of a dense matrix. A
sparse B is kept by rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.sparse

from unsam.regions.compiled import kernel

if TYPE_CHECKING:
    import torch

WEAK_LINK = 1e-5
# Share of linked pairs below which rows of indices are faster than bits.
SPARSE_BELOW = 0.01
# Bytes that one pass of the product takes at a time.
UNROLL = 4


class Links(Protocol):
    """The affinity of N regions: 1 where two are linked, 1e-5 elsewhere."""

    count: int

    def times(self, vector: np.ndarray) -> np.ndarray:
        """Return ``A @ vector``, both ``float64 [N]``."""
        ...

    def linked(self) -> np.ndarray:
        """Return ``bool [N, N]``: where A is 1."""
        ...


class PackedLinks:
    """Links as bits, for graphs where a good part of all pairs is linked."""

    def __init__(self, linked: np.ndarray) -> None:
        """Pack ``bool [N, N]``, symmetric."""
        self.count = len(linked)
        bits = np.packbits(linked, axis=0, bitorder="little")
        self.bits = np.pad(bits, ((0, -len(bits) % UNROLL), (0, 0)))

    def times(self, vector: np.ndarray) -> np.ndarray:
        """Return ``A @ vector``, both ``float64 [N]``."""
        return WEAK_LINK * vector.sum() + (1 - WEAK_LINK) * _packed_product(self.bits, vector)

    def linked(self) -> np.ndarray:
        """Return ``bool [N, N]``: where A is 1."""
        bits = np.unpackbits(self.bits, axis=0, count=self.count, bitorder="little")
        return bits.astype(bool)


class SparseLinks:
    """Links as lists of indices, for graphs where few pairs are linked."""

    def __init__(self, linked: np.ndarray) -> None:
        """Take the rows of ``bool [N, N]``, symmetric."""
        self.count = len(linked)
        self.rows = scipy.sparse.csr_array(linked).astype(np.float64)

    def times(self, vector: np.ndarray) -> np.ndarray:
        """Return ``A @ vector``, both ``float64 [N]``."""
        return WEAK_LINK * vector.sum() + (1 - WEAK_LINK) * (self.rows @ vector)

    def linked(self) -> np.ndarray:
        """Return ``bool [N, N]``: where A is 1."""
        return self.rows.toarray() > 0


class TorchLinks:
    """Links as a dense float64 matrix on a torch device; for GPUs."""

    def __init__(self, linked: np.ndarray, device: str | torch.device) -> None:
        """Move ``bool [N, N]``, symmetric, to `device`."""
        # Only here and in `cosine_above`: cuts on a CPU do without torch, which loads slowly.
        import torch

        self.count = len(linked)
        self.matrix = torch.from_numpy(linked).to(device).to(torch.float64)

    def times(self, vector: np.ndarray) -> np.ndarray:
        """Return ``A @ vector``, both ``float64 [N]``."""
        product = self.matrix @ self.matrix.new_tensor(vector)
        return WEAK_LINK * vector.sum() + (1 - WEAK_LINK) * product.cpu().numpy()

    def linked(self) -> np.ndarray:
        """Return ``bool [N, N]``: where A is 1."""
        return (self.matrix > 0).cpu().numpy()


def cosine_above(
    features: np.ndarray, tau: float, device: str | torch.device | None = None
) -> np.ndarray:
    """Return ``bool [N, N]``: which pairs of rows of ``float [N, D]`` have a cosine over tau.

    The cosines are computed in the precision of the features (the published code: float32), on
    `device` if one is given. A row of zeros has cosine 0 with all.
    """
    features = np.asarray(features)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(length, 1e-12)
    if device is None:
        return unit @ unit.T > tau
    import torch

    on_device = torch.from_numpy(unit).to(device)
    return (on_device @ on_device.T > tau).cpu().numpy()


def build_links(linked: np.ndarray, device: str | torch.device | None = None) -> Links:
    """Choose the form for ``bool [N, N]`` that multiplies fastest."""
    if device is not None:
        return TorchLinks(linked, device)
    if np.count_nonzero(linked) < SPARSE_BELOW * linked.size:
        return SparseLinks(linked)
    return PackedLinks(linked)


@kernel
def _packed_product(bits: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return ``B @ vector`` for bits ``uint8 [G, N]``: bit j of ``[g, i]`` is ``B[8 g + j, i]``."""
    groups, count = bits.shape
    result = np.zeros(count)
    table = np.empty((UNROLL, 256))
    for group in range(0, groups, UNROLL):
        _partial_sums(vector, 8 * group, table)
        first, second, third, fourth = bits[group : group + UNROLL]
        for i in range(count):
            result[i] += (table[0, first[i]] + table[1, second[i]]) + (
                table[2, third[i]] + table[3, fourth[i]]
            )
    return result


@kernel
def _partial_sums(vector: np.ndarray, start: int, table: np.ndarray) -> None:
    """Fill ``table[k, byte]``: the sum of ``vector[start + 8 k + j]`` over the bits j of byte."""
    for k in range(len(table)):
        table[k, 0] = 0.0
        for j in range(8):
            place = start + 8 * k + j
            value = vector[place] if place < len(vector) else 0.0
            for byte in range(1 << j):
                table[k, (1 << j) + byte] = table[k, byte] + value
