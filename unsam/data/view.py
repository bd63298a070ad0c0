"""A random view of a photo and its masks: crop, scale, padding, mirroring, rotation and shear.

The geometry is drawn first, as a `View`. The photo is cropped, resized and, where the view turns,
warped by OpenCV. Each mask goes the same way on its runs: to the runs of the crop at the size of
the output, then into one buffer of that size. So neither the full size of a photo nor the number
of its masks costs memory; only the masks that are asked for become arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from unsam.structures import MaskSet, runs
from unsam.structures.photo import resize_photo, scaled_size

Shape = Literal["keep", "stretch", "fixed"]
SHAPES: tuple[Shape, ...] = ("keep", "stretch", "fixed")


@dataclass(frozen=True)
class View:
    """A crop of a photo, scaled, perhaps mirrored, padded at the right and below, then turned.

    Attributes:
        top: first source row of the crop.
        left: first source column.
        height: source rows of the crop.
        width: source columns.
        shown: ``(h', w')`` of the crop in the output, from the top left corner on.
        size: ``(h, w)`` of the output; what lies beyond `shown` is padding.
        mirrored: left and right of the crop are swapped.
        rotation: degrees, counter-clockwise, about the centre of the output.
        shear: degrees by which the columns of the output lean, before the rotation.
    """

    top: int
    left: int
    height: int
    width: int
    shown: tuple[int, int]
    size: tuple[int, int]
    mirrored: bool = False
    rotation: float = 0.0
    shear: float = 0.0

    @property
    def scale(self) -> float:
        """Output pixels per source pixel, as an area ratio."""
        return self.shown[0] * self.shown[1] / (self.height * self.width)

    @property
    def turned(self) -> bool:
        """Whether the view is rotated or sheared."""
        return self.rotation != 0 or self.shear != 0

    def rows(self) -> np.ndarray:
        """Source row under the centre of each shown row before any turning, ``int64 [h']``."""
        return self.top + _centres(self.height, self.shown[0])

    def columns(self) -> np.ndarray:
        """Source column under the centre of each shown column, likewise, ``int64 [w']``."""
        columns = self.left + _centres(self.width, self.shown[1])
        return columns[::-1].copy() if self.mirrored else columns

    def unturned(self) -> np.ndarray:
        """Return where an output pixel lies before the turning, ``float64 [2, 3]``.

        The matrix maps ``(x, y, 1)`` to ``(x, y)``; pixel centres are whole numbers.
        """
        angle, lean = np.deg2rad([self.rotation, self.shear])
        # The y axis of an image points down, so counter-clockwise has the sine below negative.
        rotate = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        inverse = np.linalg.inv(rotate @ np.array([[1.0, np.tan(lean)], [0.0, 1.0]]))
        centre = (np.array([self.size[1], self.size[0]]) - 1) / 2
        return np.column_stack([inverse, centre - inverse @ centre])


def draw_view(
    generator: np.random.Generator,
    size: tuple[int, int],
    image_size: int,
    *,
    shape: Shape = "keep",
    square_size: int = 0,
    jitter_scale: tuple[float, float] = (1.0, 1.0),
    crop_scale: tuple[float, float] = (1.0, 1.0),
    flip_probability: float = 0.0,
    rotation: float = 0.0,
    shear: float = 0.0,
) -> View:
    """Draw a view.

    Args:
        generator: the sample's own generator.
        size: ``(H, W)`` of the photo.
        image_size: longer side of the output in pixels.
        shape: ``"keep"`` gives the crop as it is; ``"stretch"`` makes it square (UnSAMv2);
            ``"fixed"`` is large-scale jitter (Ghiasi et al., 2021): the crop is scaled by a factor
            of `jitter_scale` relative to one that fits, then cut, at places drawn for x and y
            apart, or padded to a square.
        square_size: with ``"fixed"``, side of that square in pixels; 0 for `image_size`.
        jitter_scale: range of that factor.
        crop_scale: range of the crop's side as a share of the photo's, within (0, 1]; the crop has
            the photo's shape.
        flip_probability: chance of mirroring left and right.
        rotation: most degrees either way.
        shear: most degrees either way.
    """
    share = generator.uniform(*crop_scale)
    side, zoom = image_size, 1.0
    if shape == "fixed":
        side, zoom = square_size or image_size, generator.uniform(*jitter_scale)
    # Source pixels that the side of the output spans.
    span = max(1, round(max(size) * share * (side / image_size) / zoom))
    height = min(max(1, round(size[0] * share)), span)
    width = min(max(1, round(size[1] * share)), span)
    top = int(generator.integers(0, size[0] - height + 1))
    left = int(generator.integers(0, size[1] - width + 1))
    mirrored = bool(generator.random() < flip_probability)
    square = (side, side)
    longer_side = max(1, round(max(height, width) * side / span))
    shown = square if shape == "stretch" else scaled_size((height, width), longer_side)
    return View(
        top,
        left,
        height,
        width,
        shown,
        shown if shape == "keep" else square,
        mirrored,
        rotation=generator.uniform(-rotation, rotation) if rotation else 0.0,
        shear=generator.uniform(-shear, shear) if shear else 0.0,
    )


def view_photo(
    photo: np.ndarray, view: View, padding: tuple[int, int, int] = (0, 0, 0)
) -> np.ndarray:
    """Return the view of ``photo uint8 [H, W, 3]`` as ``uint8 [h, w, 3]``.

    Pixel areas are averaged when shrinking and interpolated when growing and turning.

    Args:
        photo: RGB, 0 to 255.
        view: a view of a photo of this size.
        padding: RGB of what lies outside the crop.
    """
    crop = photo[view.top : view.top + view.height, view.left : view.left + view.width]
    output = resize_photo(crop, view.shown)
    if view.mirrored:
        output = np.ascontiguousarray(output[:, ::-1])
    if view.shown != view.size:
        canvas = np.full((*view.size, 3), padding, np.uint8)
        canvas[: view.shown[0], : view.shown[1]] = output
        output = canvas
    if view.turned:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        output = cv2.warpAffine(
            output, view.unturned(), view.size[::-1], flags=flags, borderValue=padding
        )
    return output


def view_masks(
    masks: MaskSet, order: np.ndarray, view: View, *, limit: int, min_area: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the view of the first masks of `order` that are still large enough in it.

    A mask is read at the source pixel under the centre of each output pixel; padding is no mask.

    Args:
        masks: all masks of the photo.
        order: indices of masks, the wanted ones first.
        view: the view, of a photo of ``masks.size``.
        limit: most masks to return; no more than twice as many are looked at.
        min_area: least pixels of a mask in the view.

    Returns:
        ``(bool [M, h, w], int64 [M] indices of the masks)``, M at most `limit`.
    """
    height, width = view.size
    columns = view.columns()
    first_row = np.searchsorted(view.rows(), np.arange(masks.size[0] + 1))
    # Column by column, as the runs are; one buffer serves all masks.
    flat = np.zeros(width * height, np.uint8)
    kept: list[int] = []
    output = np.zeros((min(limit, order.size), height, width), np.uint8)
    for index in order[: 2 * limit]:
        if len(kept) == output.shape[0]:
            break
        spans = runs.resize_runs(masks.runs_of(index), masks.size[0], first_row, columns, height)
        area = int((spans[:, 1] - spans[:, 0]).sum())
        if area < min_area:
            continue
        runs.paint(spans, flat, 1)
        seen = output[len(kept)]
        _upright(flat.reshape(width, height), view, seen)
        runs.paint(spans, flat, 0)
        if view.turned and np.count_nonzero(seen) < min_area:
            continue  # the next mask overwrites it
        kept.append(int(index))
    return output[: len(kept)].view(bool), np.array(kept, np.int64)


def _upright(tall: np.ndarray, view: View, output: np.ndarray) -> None:
    """Write a mask that lies column by column, ``uint8 [w, h]``, to ``output uint8 [h, w]``."""
    if not view.turned:
        cv2.transpose(tall, dst=output)
        return
    # The mask is transposed, so the map gives y where OpenCV asks for x.
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(tall, view.unturned()[::-1], view.size[::-1], dst=output, flags=flags)


def _centres(source: int, target: int) -> np.ndarray:
    """Return the source pixel under the centre of each of `target` output pixels."""
    return ((np.arange(target) + 0.5) * source / target).astype(np.int64)
