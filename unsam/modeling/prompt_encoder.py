"""Points, boxes, masks and granularity as tokens and dense features (SAM, UnSAMv2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unsam.modeling.granularity_encoding import GranularityEncoding
from unsam.modeling.image_encoder import EncodedImages
from unsam.modeling.layers import ChannelNorm
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, NEGATIVE, PADDING, POSITIVE, Prompts
from unsam.modeling.similarity_maps import SimilarityMaps


class PositionEncoding(nn.Module):
    """Random Fourier features of positions (Tancik et al. 2020), as SAM uses them.

    Args:
        embed_dim: number of features, even: half sines, half cosines.
        image_size: pixels that count as one unit of length, so that a distance is encoded alike
            in photos of every shape.
        scale: standard deviation of the frequencies.
    """

    frequencies: Tensor

    def __init__(self, *, embed_dim: int, image_size: int, scale: float = 1.0) -> None:
        super().__init__()
        self.image_size = image_size
        self.register_buffer("frequencies", scale * torch.randn(2, embed_dim // 2))

    def forward(self, points: Tensor) -> Tensor:
        """Return float32 ``[..., embed_dim]`` of ``[..., 2]`` positions in pixels, x and y."""
        centred = points.to(torch.float32) * (2.0 / self.image_size) - 1.0
        # Two products and a sum, not a matrix product, which autocast would take to bfloat16.
        x, y = centred[..., :1], centred[..., 1:]
        angles = 2 * math.pi * (x * self.frequencies[0] + y * self.frequencies[1])
        return torch.cat((angles.sin(), angles.cos()), dim=-1)

    def grid(self, height: int, width: int, stride: int) -> Tensor:
        """Return the encodings of cell centres, ``[height * width, embed_dim]``, row by row."""
        device = self.frequencies.device
        y = (torch.arange(height, device=device) + 0.5) * stride
        x = (torch.arange(width, device=device) + 0.5) * stride
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        return self(torch.stack((columns, rows), dim=-1).reshape(-1, 2))


class ClickMaps(nn.Module):
    """Clicks and boxes painted on a grid of cells, `Prompts` to ``[P, h, w, num_maps]`` in [0, 1].

    Each cell learns how near the nearest click of either label is, by Gaussians of several widths,
    and whether it lies in the box: what networks for interactive segmentation take as input
    channels (Sofiiuk et al. 2022). A model that starts from nothing finds the clicked place at
    once, where attention between position encodings takes thousands of iterations.

    Args:
        widths: standard deviations of the Gaussians in pixels.
    """

    def __init__(self, widths: Sequence[float]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.num_maps = 2 * len(self.widths) + 1

    def forward(self, prompts: Prompts, height: int, width: int, stride: int) -> Tensor:
        """Return the maps of a grid of ``height x width`` cells of `stride` pixels, float32."""
        device = prompts.points.device
        x = (torch.arange(width, device=device) + 0.5) * stride
        y = (torch.arange(height, device=device) + 0.5) * stride
        points = prompts.points.to(torch.float32)
        across, down = points[..., :1] - x, points[..., 1:] - y
        maps = []
        for label in (NEGATIVE, POSITIVE):
            applies = (prompts.labels == label)[..., None, None]
            for sigma in self.widths:
                near_x = (-0.5 * (across / sigma).square()).exp()[:, :, None]
                near_y = (-0.5 * (down / sigma).square()).exp()[:, :, :, None]
                # One more row of zeros: the nearest of no click at all is infinitely far.
                near = F.pad(near_x * near_y * applies, (0, 0, 0, 0, 0, 1))
                maps.append(near.amax(1))
        maps.append(self._in_box(prompts, across, down))
        return torch.stack(maps, dim=-1)

    def _in_box(self, prompts: Prompts, across: Tensor, down: Tensor) -> Tensor:
        """Return ``[P, h, w]``: 1 where a cell's centre lies between both corners."""
        first = (prompts.labels == BOX_FIRST)[..., None]
        last = (prompts.labels == BOX_LAST)[..., None]
        in_x = ((across <= 0) & first).any(1) & ((across >= 0) & last).any(1)
        in_y = ((down <= 0) & first).any(1) & ((down >= 0) & last).any(1)
        return (in_y[:, :, None] & in_x[:, None]).to(torch.float32)


class PromptEncoder(nn.Module):
    """`Prompts` to sparse tokens and to dense features, which are added to the image embedding.

    Args:
        embed_dim: channels of tokens and dense features.
        image_size: the longer side of the model's input in pixels.
        stride: pixels per cell of the image embedding.
        mask_dim: hidden channels of the network that reads earlier masks.
        point_feature_dims: channels of the maps of `EncodedImages` (embedding, finest) whose
            features at a click are added to its token, so that "what looks like this" needs no
            search by attention; None leaves them out, as SAM does.
        click_widths: widths of the maps in which clicks and boxes are painted on the dense features
            and offered to the decoder too (`ClickMaps`); none for tokens alone, as SAM does.
        similarity: arguments of `SimilarityMaps` over the finest features, which the decoder reads
            beside the click maps; None for none, as SAM.
        fourier_dim: see `GranularityEncoding`.
        temperature: see `GranularityEncoding`.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 128,
        image_size: int = 256,
        stride: int = 16,
        mask_dim: int = 16,
        point_feature_dims: tuple[int, int] | None = None,
        click_widths: Sequence[float] = (),
        similarity: dict[str, int] | None = None,
        fourier_dim: int = 128,
        temperature: float = 100.0,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.position = PositionEncoding(embed_dim=embed_dim, image_size=image_size)
        # Row by label: negative, positive, first and last corner of a box.
        self.label_embedding = nn.Embedding(4, embed_dim)
        self.granularity = GranularityEncoding(
            embed_dim=embed_dim, fourier_dim=fourier_dim, temperature=temperature
        )
        self.no_mask_embedding = nn.Parameter(torch.randn(embed_dim) * 0.02)
        self.mask_reader = nn.Sequential(
            nn.Conv2d(1, mask_dim // 4, 2, stride=2),
            ChannelNorm(mask_dim // 4),
            nn.GELU(),
            nn.Conv2d(mask_dim // 4, mask_dim, 2, stride=2),
            ChannelNorm(mask_dim),
            nn.GELU(),
            nn.Conv2d(mask_dim, embed_dim, 1),
        )
        self.point_features: nn.ModuleList | None = None
        if point_feature_dims is not None:
            self.point_features = nn.ModuleList(
                nn.Linear(dim, embed_dim) for dim in point_feature_dims
            )
        self.click_maps = ClickMaps(click_widths) if click_widths else None
        if self.click_maps is not None:
            self.read_click_maps = nn.Linear(self.click_maps.num_maps, embed_dim, bias=False)
        self.similarity = None if similarity is None else SimilarityMaps(**similarity)
        parts = (self.click_maps, self.similarity)
        self.num_fine_maps = sum(part.num_maps for part in parts if part is not None)

    def sparse(self, prompts: Prompts, images: EncodedImages) -> tuple[Tensor, Tensor]:
        """Return the tokens ``[P, K + 1, C]``, granularity first, and which are real (bool)."""
        labels = prompts.labels
        tokens = self.position(prompts.points)
        tokens = tokens + self.label_embedding(labels.clamp(min=0))
        if self.point_features is not None:
            is_click = ((labels == NEGATIVE) | (labels == POSITIVE))[..., None]
            maps = (images.embedding, images.high_res[0])
            strides = (self.stride, self.stride // 4)
            for layer, features, stride in zip(self.point_features, maps, strides, strict=True):
                tokens = tokens + layer(_at_points(features, prompts, stride)) * is_click
        assert prompts.granularity is not None, "one granularity per prompt"
        granularity = self.granularity(prompts.granularity)
        always = torch.ones((len(labels), 1), dtype=torch.bool, device=labels.device)
        real = torch.cat((always, labels != PADDING), dim=1)
        return torch.cat((granularity.to(tokens.dtype), tokens), dim=1), real

    def dense(self, prompts: Prompts, height: int, width: int) -> Tensor:
        """Return what the prompts add to the cells of a ``height x width`` embedding.

        Returns:
            ``[P, height * width, C]``, or ``[1, 1, C]`` when all prompts add the same everywhere.
        """
        if prompts.mask_logits is None:
            dense = self.no_mask_embedding[None, None]
        else:
            # Confident logits are many; beyond a point they say nothing more.
            logits = prompts.mask_logits[:, None].clamp(-16.0, 16.0)
            dense = self.mask_reader(logits).flatten(2).transpose(1, 2)
        if self.click_maps is not None:
            maps = self.click_maps(prompts, height, width, self.stride)
            dense = dense + self.read_click_maps(maps.flatten(1, 2))
        return dense

    def fine_maps(self, prompts: Prompts, images: EncodedImages) -> Tensor | None:
        """Return what the decoder reads at a quarter of the stride, None if there is nothing.

        Returns:
            Click and similarity maps, float32 ``[P, 4 h, 4 w, num_fine_maps]`` in [0, 1].
        """
        fine = images.high_res[0]
        height, width = fine.shape[-2:]
        maps = []
        if self.click_maps is not None:
            maps.append(self.click_maps(prompts, height, width, self.stride // 4))
        if self.similarity is not None:
            maps.append(self.similarity(prompts, fine, self.stride // 4))
        return torch.cat(maps, dim=-1) if maps else None


def _at_points(features: Tensor, prompts: Prompts, stride: int) -> Tensor:
    """Return the features ``[P, K, C]`` of the cells that contain the points."""
    _, _, h, w = features.shape
    cells = (prompts.points / stride).floor().to(torch.int64)
    x, y = cells[..., 0].clamp(0, w - 1), cells[..., 1].clamp(0, h - 1)
    return features.permute(0, 2, 3, 1)[prompts.image_of_prompt[:, None], y, x]
