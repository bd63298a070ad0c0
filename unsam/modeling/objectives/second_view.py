"""A second view of prepared photos, and the way of points and masks from one view to the other.

Pixel i covers [i, i + 1) in both views; the second view of a photo has the size of the first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as transforms

from unsam.modeling.sample_random import SampleRandom

_NUM_DRAWS = 10
# Blurs of a smaller standard deviation, in pixels, change no grey level.
_LEAST_BLUR = 0.1
# Pixels by which rounding moves a point; what lies on an edge has to stay on its side.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class ViewTransform:
    """An affine map from the pixels of one view of B photos to those of another.

    Attributes:
        matrices: float32 ``[B, 2, 3]``, take ``(x, y, 1)`` of the first view to the second.
        inverses: float32 ``[B, 2, 3]``, the way back.
        sizes: float32 ``[B, 2]``, width and height of each photo, in either view.
    """

    matrices: Tensor
    inverses: Tensor
    sizes: Tensor

    @property
    def inverse(self) -> ViewTransform:
        """The map from the second view to the first."""
        return ViewTransform(self.inverses, self.matrices, self.sizes)

    def points(self, points: Tensor, photo_of_prompt: Tensor) -> Tensor:
        """Bring points ``[P, K, 2]`` (x, y in pixels) of photos ``[P]`` to the second view."""
        return _apply(self.matrices[photo_of_prompt], points)

    def warp(self, maps: Tensor, photo_of_map: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """Bring maps of the first view to the second, bilinearly.

        Args:
            maps: float ``[P, h, w]``, over the padded input of the first view.
            photo_of_map: int64 ``[P]``.
            stride: pixels per cell of the maps.

        Returns:
            Maps of the second view, float32 ``[P, h, w]``; and where they are right, bool
            ``[P, h, w]``: both views see the photo there. Elsewhere they are of no meaning.
        """
        h, w = maps.shape[-2:]
        sources, seen = self._sources((h, w), stride)
        grid = _normalised(sources, w * stride, h * stride).view(-1, h, w, 2)[photo_of_map]
        maps = maps[:, None].to(torch.float32)
        warped = F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
        return warped[:, 0], seen[photo_of_map]

    def seen(self, size: tuple[int, int], stride: int) -> Tensor:
        """Return which cells of the second view the first sees too, bool ``[B, h, w]``.

        Args:
            size: ``(h, w)`` of the maps in question.
            stride: pixels per cell.
        """
        return self._sources(size, stride)[1]

    def _sources(self, size: tuple[int, int], stride: int) -> tuple[Tensor, Tensor]:
        """Return where the second view's cells are in the first, ``[B, h * w, 2]``, and `seen`.

        Half a cell at the edge of the photo counts as unseen: beyond the last centre of a cell
        maps are mixed with the padding.
        """
        h, w = size
        cells = _centres(h, w, stride, self.sizes.device)
        sources = _apply(self.inverses, cells)
        limits = self.sizes[:, None] + _ROUNDING
        margin = stride / 2
        inside = (cells <= limits) & (sources + _ROUNDING >= margin) & (sources <= limits - margin)
        return sources, inside.all(-1).view(-1, h, w)


@dataclass(frozen=True)
class SecondView:
    """A second view of the photos of a batch.

    Attributes:
        transform: from the pixels of the photos to those of the view.
        colours: brightness, contrast and saturation of each photo, as factors.
        blurs: standard deviation of each photo's blur in pixels.
    """

    transform: ViewTransform
    colours: list[tuple[float, float, float]]
    blurs: list[float]

    def images(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the view of prepared photos.

        Args:
            images: ``[3, h, w]`` each, RGB from 0 to 255, of any type.

        Returns:
            float32 ``[3, h, w]`` each, 0 to 255, on the device of the transform. What the photo
            does not show is its mirror image: that has no edges of its own.
        """
        return [self._image(image, index) for index, image in enumerate(images)]

    def _image(self, image: Tensor, index: int) -> Tensor:
        _, h, w = image.shape
        inverse = self.transform.inverses[index : index + 1]
        sources = _apply(inverse, _centres(h, w, 1, inverse.device))
        grid = _normalised(sources, w, h).view(1, h, w, 2)
        photo = image.to(inverse.device, torch.float32)[None] / 255
        view = F.grid_sample(photo, grid, padding_mode="reflection", align_corners=False)
        brightness, contrast, saturation = self.colours[index]
        view = transforms.adjust_brightness(view, brightness)
        view = transforms.adjust_contrast(view, contrast)
        view = transforms.adjust_saturation(view, saturation)
        blur = self.blurs[index]
        if blur > _LEAST_BLUR:
            side = 2 * math.ceil(2 * blur) + 1
            view = transforms.gaussian_blur(view, [side, side], [blur, blur])
        return view[0] * 255


@dataclass(frozen=True)
class SecondViewAugmentation:
    """How second views differ from the first.

    Attributes:
        crop_scale: range of the side of the crop, as a share of the photo's, within (0, 1].
        rotation: up to so many degrees either way.
        shear: up to so many degrees either way, along the rows.
        flip_probability: chance of mirroring left and right.
        colour_jitter: brightness, contrast and saturation change by up to this share, below 1.
        blur: largest standard deviation of the blur in pixels, 0 for none.

    Raises:
        ValueError: a value out of its range.
    """

    crop_scale: tuple[float, float] = (0.6, 1.0)
    rotation: float = 10.0
    shear: float = 5.0
    flip_probability: float = 0.5
    colour_jitter: float = 0.3
    blur: float = 1.5

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(
                "INPUT.SECOND_VIEW.CROP_SCALE is a range within (0, 1], smaller first, got "
                f"{self.crop_scale}"
            )
        if not (0 <= self.rotation <= 180 and 0 <= self.shear <= 45):
            raise ValueError(
                "INPUT.SECOND_VIEW needs ROTATION in [0, 180] and SHEAR in [0, 45], got "
                f"{self.rotation} and {self.shear}"
            )
        if not (0 <= self.flip_probability <= 1 and 0 <= self.colour_jitter < 1):
            raise ValueError(
                "INPUT.SECOND_VIEW needs FLIP_PROBABILITY in [0, 1] and COLOUR_JITTER in [0, 1), "
                f"got {self.flip_probability} and {self.colour_jitter}"
            )
        if not 0 <= self.blur < math.inf:
            raise ValueError(f"INPUT.SECOND_VIEW needs BLUR of at least 0, got {self.blur}")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``INPUT.SECOND_VIEW`` into the constructor's arguments."""
        node = cfg.INPUT.SECOND_VIEW
        return {
            "crop_scale": tuple(node.CROP_SCALE),
            "rotation": node.ROTATION,
            "shear": node.SHEAR,
            "flip_probability": node.FLIP_PROBABILITY,
            "colour_jitter": node.COLOUR_JITTER,
            "blur": node.BLUR,
        }

    def draw(
        self, sizes: Sequence[tuple[int, int]], random: SampleRandom, device: torch.device
    ) -> SecondView:
        """Draw a second view of each photo of a batch.

        Args:
            sizes: ``(h, w)`` of the prepared photos.
            random: the streams of the samples.
            device: where the view is made.
        """
        draws = random.uniform([1] * len(sizes), _NUM_DRAWS).to(torch.float64)
        shapes = torch.tensor([(w, h) for h, w in sizes], dtype=torch.float64).view(-1, 2)
        matrices = self._matrices(shapes, draws)
        colours = 1 + self.colour_jitter * (2 * draws[:, 6:9] - 1)
        return SecondView(
            transform=ViewTransform(
                matrices[:, :2].to(device, torch.float32),
                torch.linalg.inv(matrices)[:, :2].to(device, torch.float32),
                shapes.to(device, torch.float32),
            ),
            colours=[(b, c, s) for b, c, s in colours.tolist()],
            blurs=(self.blur * draws[:, 9]).tolist(),
        )

    def _matrices(self, shapes: Tensor, draws: Tensor) -> Tensor:
        """Return ``[B, 3, 3]``: the centre of a crop goes to the centre of the view, enlarged."""
        low, high = self.crop_scale
        crop = low + (high - low) * draws[:, :1]
        angle = math.radians(self.rotation) * (2 * draws[:, 3] - 1)
        shear = torch.tan(math.radians(self.shear) * (2 * draws[:, 4] - 1))
        sign = torch.where(draws[:, 5] < self.flip_probability, -1.0, 1.0)
        cos, sin = angle.cos(), angle.sin()
        top = torch.stack((sign * cos, sign * (shear * cos - sin)), -1)
        bottom = torch.stack((sin, shear * sin + cos), -1)
        linear = torch.stack((top, bottom), 1) / crop[..., None]
        centre = shapes * (crop / 2 + (1 - crop) * draws[:, 1:3])
        offset = shapes / 2 - (linear * centre[:, None]).sum(-1)
        matrices = torch.eye(3, dtype=draws.dtype).repeat(len(draws), 1, 1)
        matrices[:, :2] = torch.cat((linear, offset[..., None]), -1)
        return matrices


def _centres(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Return the centres of cells in pixels, x and y, row by row: float32 ``[1, h * w, 2]``."""
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) * stride,
        (torch.arange(width, device=device) + 0.5) * stride,
        indexing="ij",
    )
    return torch.stack((x, y), dim=-1).view(1, -1, 2)


def _normalised(points: Tensor, width: int, height: int) -> Tensor:
    """Return points in pixels as `grid_sample` takes them, -1 to 1 over width and height."""
    return 2 * points / points.new_tensor((width, height)) - 1


def _apply(matrices: Tensor, points: Tensor) -> Tensor:
    """Apply ``[N, 2, 3]`` to points ``[N or 1, K, 2]``."""
    # Products and sums, not a matrix product, which autocast would take to half precision.
    moved = (matrices[:, None, :, :2] * points[..., None, :]).sum(-1)
    return moved + matrices[:, None, :, 2]
