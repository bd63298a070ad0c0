"""How much every cell looks like the clicked places, as maps that the mask decoder reads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unsam.modeling.prompts import NEGATIVE, POSITIVE, Prompts


class SimilarityMaps(nn.Module):
    """Similarity of learned pixel embeddings to those under the clicks, in several heads.

    Head h of a cell with embedding e and a click with embedding c gives ``exp(-mean((e - c)^2))``,
    the soft affinity by which pixels are grouped in metric learning (De Brabandere et al. 2017,
    Fathi et al. 2017); of several clicks of one label the most similar counts. The gradient of a
    mask reaches the image features through this product at once. Without it a model that starts
    from nothing learns the size that a granularity asks for, draws discs of that size around the
    clicks, and is slow to look at the photo.

    Args:
        in_dim: channels of the finest features.
        num_heads: maps for each label, positive and negative.
        head_dim: channels that each head compares.
    """

    def __init__(self, *, in_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_maps = 2 * num_heads
        self.embed = nn.Conv2d(in_dim, num_heads * head_dim, 1)

    def forward(self, prompts: Prompts, features: Tensor, stride: int) -> Tensor:
        """Return maps float32 ``[P, h, w, 2 * num_heads]`` in [0, 1], negative clicks first.

        Args:
            prompts: P prompts; boxes and padding have no similarity.
            features: finest features of the B photos, ``[B, in_dim, h, w]``.
            stride: pixels per cell of them.
        """
        B, _, h, w = features.shape
        # Differences of large numbers: not in bfloat16.
        embedded = self.embed(features).to(torch.float32)
        embedded = embedded.reshape(B, self.num_heads, -1, h * w)
        norms = embedded.square().mean(2)
        cells = (prompts.points / stride).floor().to(torch.int64)
        cell = cells[..., 1].clamp(0, h - 1) * w + cells[..., 0].clamp(0, w - 1)
        maps = embedded.new_zeros((len(prompts), 2, self.num_heads, h * w))
        with torch.autocast(features.device.type, enabled=False):
            for image in range(B):
                own = (prompts.image_of_prompt == image).nonzero()[:, 0]
                if len(own) == 0 or cell.shape[1] == 0:
                    continue
                found = self._of_one_photo(
                    embedded[image], norms[image], cell[own], prompts.labels[own]
                )
                maps = maps.index_copy(0, own, found) if B > 1 else found
        return maps.flatten(1, 2).transpose(1, 2).reshape(len(prompts), h, w, 2 * self.num_heads)

    def _of_one_photo(self, embedded: Tensor, norms: Tensor, cell: Tensor, label: Tensor) -> Tensor:
        """Return ``[p, 2, heads, h * w]`` for p prompts with K points each.

        Args:
            embedded: ``[heads, head_dim, h * w]``.
            norms: their mean squares, ``[heads, h * w]``.
            cell: int64 ``[p, K]``, the cell under each point.
            label: int64 ``[p, K]``.
        """
        p, num_points = cell.shape
        heads, head_dim, _ = embedded.shape
        flat = cell.reshape(-1)
        clicked = embedded[:, :, flat].transpose(1, 2)
        products = torch.bmm(clicked, embedded) * (2.0 / head_dim)
        distance = norms[:, flat, None] + norms[:, None] - products
        similar = (-distance.clamp(min=0.0)).exp().reshape(heads, p, num_points, -1)
        similar = similar.permute(1, 2, 0, 3)
        of_label = [
            (similar * (label == wanted)[..., None, None]).amax(1)
            for wanted in (NEGATIVE, POSITIVE)
        ]
        return torch.stack(of_label, dim=1)
