"""From a record of the catalog to a training sample."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from fvcore.common.config import CfgNode

from unsam.data.augmentation import draw_order, jitter_colour
from unsam.data.copy_paste import MaskedPhoto, copy_paste
from unsam.data.sampler import SampleKey
from unsam.data.view import SHAPES, Shape, View, draw_view, view_masks, view_photo
from unsam.errors import ConfigError, DataError
from unsam.regions.contours import contour_strength
from unsam.structures import MaskSet

Sample = dict[str, Any]
Range = tuple[float, float]


class Record(Protocol):
    """What the mapper needs of an `unsam.data.catalog.ImageRecord`."""

    @property
    def image_id(self) -> int:
        """Number of the photo in its data set."""

    @property
    def file_name(self) -> str:
        """Path of the photo."""

    def read_photo(self) -> np.ndarray:
        """Read the photo, ``uint8 [H, W, 3]`` RGB."""

    def masks(self) -> MaskSet:
        """Read the masks of the photo."""


class TrainingMapper:
    """Turns a record into a training sample; random only through ``(seed, epoch, photo)``.

    So a sample is the same whichever process makes it and however many others were made before.
    A mask keeps the granularity that it has in the whole photo, even where a crop cuts it or makes
    it fill the view: what was published does not measure it again, and neither does this.

    Args:
        image_size: longer side of a sample in pixels.
        max_masks: most masks of a sample; the others of the photo never become arrays.
        min_mask_area: least pixels of a mask in the sample; smaller ones are dropped.
        balanced: draw masks evenly over the bands of granularity rather than evenly over masks.
        shape: ``"keep"`` the photo's, ``"stretch"`` it to a square or make it a ``"fixed"`` square
            by large-scale jitter; see `unsam.data.view.draw_view`.
        square_size: with ``"fixed"``, side of the square in pixels; 0 for `image_size`.
        jitter_scale: with ``"fixed"``, range of the scale relative to a photo that fits.
        crop_scale: range of the crop's side as a share of the photo's; ``(1, 1)`` never crops.
        flip_probability: chance of mirroring left and right.
        rotation: most degrees of rotation, either way.
        shear: most degrees of shear, either way.
        padding: RGB, 0 to 255, of what lies outside the photo; never part of a mask.
        colour_jitter: strength of the change of brightness, contrast and saturation, one number
            for all or three; 0 for none.
        grey_probability: chance of losing all colour.
        copy_paste_probability: chance of pasting masks of another photo; see
            `unsam.data.copy_paste`.
        copy_paste_scale: range of the size of the other photo relative to one that fits.
        contours: give each sample the contours of all masks, see `unsam.regions.contours`.
        seed: seed of the run.

    Raises:
        ConfigError: a value out of its range.
    """

    def __init__(
        self,
        *,
        image_size: int,
        max_masks: int,
        min_mask_area: int = 1,
        balanced: bool = True,
        shape: Shape = "keep",
        square_size: int = 0,
        jitter_scale: Range = (1.0, 1.0),
        crop_scale: Range = (1.0, 1.0),
        flip_probability: float = 0.0,
        rotation: float = 0.0,
        shear: float = 0.0,
        padding: Sequence[float] = (0, 0, 0),
        colour_jitter: float | Sequence[float] = 0.0,
        grey_probability: float = 0.0,
        copy_paste_probability: float = 0.0,
        copy_paste_scale: Range = (1.0, 1.0),
        contours: bool = False,
        seed: int = 0,
    ) -> None:
        if image_size < 1 or max_masks < 1:
            raise ConfigError(
                "INPUT.IMAGE_SIZE and DATALOADER.MAX_MASKS must be at least 1, got "
                f"{image_size} and {max_masks}"
            )
        if shape not in SHAPES:
            raise ConfigError(f"INPUT.SHAPE must be one of {', '.join(SHAPES)}, got {shape!r}")
        _check_range("INPUT.CROP_SCALE", crop_scale, most=1.0)
        _check_range("INPUT.JITTER_SCALE", jitter_scale)
        _check_range("INPUT.COPY_PASTE_SCALE", copy_paste_scale)
        if shape != "fixed" and tuple(jitter_scale) != (1.0, 1.0):
            raise ConfigError(
                f"INPUT.JITTER_SCALE {tuple(jitter_scale)} has an effect with INPUT.SHAPE fixed "
                f"only, got {shape}; set it to (1.0, 1.0) or change the shape"
            )
        if shape != "fixed" and square_size:
            raise ConfigError(
                f"INPUT.SQUARE_SIZE {square_size} has an effect with INPUT.SHAPE fixed only, got "
                f"{shape}; set it to 0 or change the shape"
            )
        if not (0 <= rotation <= 180 and 0 <= shear <= 80):
            raise ConfigError(
                "INPUT.ROTATION and INPUT.SHEAR must be degrees from 0 to 180 and 80, got "
                f"{rotation} and {shear}"
            )
        self._image_size = image_size
        self._max_masks = max_masks
        self._min_mask_area = max(1, min_mask_area)
        self._balanced = balanced
        self._view_options: dict[str, Any] = {
            "shape": shape,
            "square_size": square_size,
            "jitter_scale": jitter_scale,
            "crop_scale": crop_scale,
            "flip_probability": flip_probability,
            "rotation": rotation,
            "shear": shear,
        }
        if contours and copy_paste_probability > 0:
            raise ConfigError(
                "MODEL.CONTOURS cannot be learnt from pasted photos; set "
                "INPUT.COPY_PASTE_PROBABILITY 0"
            )
        self._contours = contours
        red, green, blue = (round(value) for value in padding)
        self._padding = (red, green, blue)
        self._colour_jitter = colour_jitter
        self._grey_probability = grey_probability
        self._copy_paste_probability = copy_paste_probability
        self._copy_paste_scale = copy_paste_scale
        self._seed = seed

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TrainingMapper:
        """Build from ``INPUT``, ``DATALOADER`` and ``SEED``; pads with ``INPUT.PIXEL_MEAN``."""
        return cls(
            image_size=cfg.INPUT.IMAGE_SIZE,
            max_masks=cfg.DATALOADER.MAX_MASKS,
            min_mask_area=cfg.DATALOADER.MIN_MASK_AREA,
            balanced=cfg.DATALOADER.BALANCE_GRANULARITY,
            shape=cfg.INPUT.SHAPE,
            square_size=cfg.INPUT.SQUARE_SIZE,
            jitter_scale=tuple(cfg.INPUT.JITTER_SCALE),
            crop_scale=tuple(cfg.INPUT.CROP_SCALE),
            flip_probability=cfg.INPUT.FLIP_PROBABILITY,
            rotation=cfg.INPUT.ROTATION,
            shear=cfg.INPUT.SHEAR,
            padding=cfg.INPUT.PIXEL_MEAN,
            colour_jitter=tuple(cfg.INPUT.COLOUR_JITTER),
            grey_probability=cfg.INPUT.GREY_PROBABILITY,
            copy_paste_probability=cfg.INPUT.COPY_PASTE_PROBABILITY,
            copy_paste_scale=tuple(cfg.INPUT.COPY_PASTE_SCALE),
            contours=cfg.MODEL.CONTOURS.ENABLED,
            seed=cfg.SEED,
        )

    def __call__(self, record: Record, key: SampleKey, donors: Sequence[Record] = ()) -> Sample:
        """Return the sample of `record` for `key`.

        Args:
            record: the photo.
            key: its place in the run.
            donors: the photos that masks to paste may come from; always the same ones in the same
                order, for the sample to be the same.

        Returns:
            ``image`` uint8 tensor [3, h, w] RGB, its longer side `image_size`; ``masks`` bool
            tensor [M, h, w] with M from 0 to `max_masks`; ``granularity`` float32 tensor [M];
            ``image_id``; ``photo``, its number in the training set; ``file_name``;
            ``original_size`` (H, W) of the photo; ``seed``, an integer for what training draws
            for this sample; where contours are learnt ``contours``, uint8 tensor [h, w].

        Raises:
            DataError: the photo, or the one to paste from, is unreadable or of another size than
                its masks.
        """
        # The streams are apart, so that another number of masks leaves the view as it was.
        for_view, for_masks, for_colour, for_training, for_paste = np.random.default_rng(
            [self._seed, key.epoch, key.photo]
        ).spawn(5)
        photo, masks = _read(record)
        size = masks.size
        view = draw_view(for_view, size, self._image_size, **self._view_options)
        shown = self._show(photo, masks, view, for_masks)
        if donors and for_paste.random() < self._copy_paste_probability:
            shown = self._paste(shown, donors, for_paste)
        image = jitter_colour(for_colour, shown.image, self._colour_jitter, self._grey_probability)
        sample: Sample = {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "masks": torch.from_numpy(shown.masks),
            "granularity": torch.from_numpy(shown.granularity),
            "image_id": record.image_id,
            "photo": key.photo,
            "file_name": os.fspath(record.file_name),
            "original_size": size,
            "seed": int(for_training.integers(2**62)),
        }
        if self._contours:
            strength = np.repeat(contour_strength(masks)[..., None], 3, axis=2)
            sample["contours"] = torch.from_numpy(view_photo(strength, view)[..., 0].copy())
        return sample

    def _show(
        self, photo: np.ndarray, masks: MaskSet, view: View, generator: np.random.Generator
    ) -> MaskedPhoto:
        """Return the view of a photo with masks drawn from those that are in it."""
        # Masks outside the crop, or too small even if wholly inside, are out before any reading.
        boxes = masks.boxes
        possible = (masks.areas * view.scale * 1.5 >= self._min_mask_area) & (
            (boxes[:, 0] < view.left + view.width)
            & (boxes[:, 2] > view.left)
            & (boxes[:, 1] < view.top + view.height)
            & (boxes[:, 3] > view.top)
        )
        candidates = np.flatnonzero(possible)
        order = draw_order(generator, masks.granularity[candidates], balanced=self._balanced)
        dense, chosen = view_masks(
            masks,
            candidates[order],
            view,
            limit=self._max_masks,
            min_area=self._min_mask_area,
        )
        return MaskedPhoto(view_photo(photo, view, self._padding), dense, masks.granularity[chosen])

    def _paste(
        self, target: MaskedPhoto, donors: Sequence[Record], generator: np.random.Generator
    ) -> MaskedPhoto:
        """Return the photo with masks of one of `donors` over it."""
        photo, masks = _read(donors[int(generator.integers(len(donors)))])
        side = max(1, round(self._image_size * generator.uniform(*self._copy_paste_scale)))
        # Its own shape, whatever the sample's: padding is nothing to paste.
        options = self._view_options | {"shape": "keep", "jitter_scale": (1.0, 1.0)}
        view = draw_view(generator, masks.size, side, **options)
        donor = self._show(photo, masks, view, generator)
        return copy_paste(
            generator, target, donor, limit=self._max_masks, min_area=self._min_mask_area
        )


class TrainingDataset(torch.utils.data.Dataset):
    """The records with their mapper; indexed by `SampleKey`, as `ResumableSampler` gives them."""

    def __init__(self, records: Sequence[Record], mapper: TrainingMapper) -> None:
        self._records = records
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, key: SampleKey) -> Sample | DataError:
        """Return the sample, or the `DataError` that there was instead.

        Masks to paste may come from any photo of the set.

        The error is handed over, not raised: a data loader's worker would wrap it in a traceback
        of its own, and all ranks have to hear of it before one of them stops.
        """
        try:
            return self._mapper(self._records[key.photo], key, self._records)
        except DataError as error:
            return error


def _read(record: Record) -> tuple[np.ndarray, MaskSet]:
    """Return a photo and its masks, which are of one size."""
    photo, masks = record.read_photo(), record.masks()
    size = (photo.shape[0], photo.shape[1])
    if masks.size != size:
        raise DataError(
            f"{record.file_name}: the photo has {size[0]}x{size[1]} pixels (height x width), "
            f"its masks {masks.size[0]}x{masks.size[1]}; make the masks again for this photo"
        )
    return photo, masks


def _check_range(name: str, given: Range, most: float = float("inf")) -> None:
    low, high = given
    if not 0 < low <= high <= most:
        above = "" if most == float("inf") else f" <= {most:g}"
        raise ConfigError(f"{name} must be 0 < low <= high{above}, got {tuple(given)}")
