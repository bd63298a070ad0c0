"""From a record of the catalog to a training sample."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from fvcore.common.config import CfgNode

from unsam.data import augmentation
from unsam.data.sampler import SampleKey
from unsam.errors import ConfigError, DataError
from unsam.structures import MaskSet, read_photo

Sample = dict[str, Any]


class Record(Protocol):
    """What the mapper needs of an `unsam.data.catalog.ImageRecord`."""

    @property
    def image_id(self) -> int:
        """Number of the photo in its data set."""

    @property
    def file_name(self) -> str:
        """Path of the photo."""

    def masks(self) -> MaskSet:
        """Read the masks of the photo."""


class TrainingMapper:
    """Turns a record into a training sample; random only through ``(seed, epoch, photo)``.

    So a sample is the same whichever process makes it and however many others were made before.

    Args:
        image_size: longer side of a sample in pixels.
        max_masks: most masks of a sample; the others of the photo are never decoded.
        min_mask_area: least pixels of a mask in the sample; smaller ones are dropped.
        balanced: draw masks evenly over the bands of granularity rather than evenly over masks.
        crop_scale: range of the crop's side as a share of the photo's; ``(1, 1)`` never crops.
        flip_probability: chance of mirroring left and right.
        colour_jitter: strength of the change of brightness, contrast and saturation, 0 for none.
        seed: seed of the run.
    """

    def __init__(
        self,
        *,
        image_size: int,
        max_masks: int,
        min_mask_area: int = 1,
        balanced: bool = True,
        crop_scale: tuple[float, float] = (1.0, 1.0),
        flip_probability: float = 0.0,
        colour_jitter: float = 0.0,
        seed: int = 0,
    ) -> None:
        low, high = crop_scale
        if not 0 < low <= high <= 1:
            raise ConfigError(f"INPUT.CROP_SCALE must be 0 < low <= high <= 1, got {crop_scale}")
        if image_size < 1 or max_masks < 1:
            raise ConfigError(
                "INPUT.IMAGE_SIZE and DATALOADER.MAX_MASKS must be at least 1, got "
                f"{image_size} and {max_masks}"
            )
        self._image_size = image_size
        self._max_masks = max_masks
        self._min_mask_area = max(1, min_mask_area)
        self._balanced = balanced
        self._crop_scale = (low, high)
        self._flip_probability = flip_probability
        self._colour_jitter = colour_jitter
        self._seed = seed

    @classmethod
    def from_config(cls, cfg: CfgNode) -> TrainingMapper:
        """Build from ``INPUT``, ``DATALOADER`` and ``SEED``."""
        return cls(
            image_size=cfg.INPUT.IMAGE_SIZE,
            max_masks=cfg.DATALOADER.MAX_MASKS,
            min_mask_area=cfg.DATALOADER.MIN_MASK_AREA,
            balanced=cfg.DATALOADER.BALANCE_GRANULARITY,
            crop_scale=tuple(cfg.INPUT.CROP_SCALE),
            flip_probability=cfg.INPUT.FLIP_PROBABILITY,
            colour_jitter=cfg.INPUT.COLOUR_JITTER,
            seed=cfg.SEED,
        )

    def __call__(self, record: Record, key: SampleKey) -> Sample:
        """Return the sample of `record` for `key`.

        Returns:
            ``image`` uint8 tensor [3, h, w] RGB with longer side `image_size`; ``masks`` bool
            tensor [M, h, w] with M from 0 to `max_masks`; ``granularity`` float32 tensor [M];
            ``image_id``; ``file_name``; ``original_size`` (H, W) of the photo; ``seed``, an
            integer for what training draws for this sample.

        Raises:
            DataError: the photo is unreadable, or of another size than its masks.
        """
        # The streams are apart, so that another number of masks leaves the view as it was.
        for_view, for_masks, for_colour, for_training = np.random.default_rng(
            [self._seed, key.epoch, key.photo]
        ).spawn(4)
        photo = read_photo(record.file_name)
        masks = record.masks()
        size = (photo.shape[0], photo.shape[1])
        if masks.size != size:
            raise DataError(
                f"{record.file_name}: the photo has {size[0]}x{size[1]} pixels (height x width), "
                f"its masks {masks.size[0]}x{masks.size[1]}; make the masks again for this photo"
            )
        view = augmentation.draw_view(
            for_view,
            size,
            self._image_size,
            crop_scale=self._crop_scale,
            flip_probability=self._flip_probability,
        )
        image = augmentation.view_photo(photo, view)
        image = augmentation.jitter_colour(for_colour, image, self._colour_jitter)
        dense, chosen = self._draw_masks(masks, view, for_masks)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "masks": torch.from_numpy(dense),
            "granularity": torch.from_numpy(masks.granularity[chosen]),
            "image_id": record.image_id,
            "file_name": os.fspath(record.file_name),
            "original_size": size,
            "seed": int(for_training.integers(2**62)),
        }

    def _draw_masks(
        self, masks: MaskSet, view: augmentation.View, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        # Masks outside the crop, or too small even if wholly inside, are out before any decoding.
        boxes = masks.boxes
        possible = (masks.areas * view.scale * 1.5 >= self._min_mask_area) & (
            (boxes[:, 0] < view.left + view.width)
            & (boxes[:, 2] > view.left)
            & (boxes[:, 1] < view.top + view.height)
            & (boxes[:, 3] > view.top)
        )
        candidates = np.flatnonzero(possible)
        order = augmentation.draw_order(
            generator, masks.granularity[candidates], balanced=self._balanced
        )
        return augmentation.view_masks(
            masks,
            candidates[order],
            view,
            limit=self._max_masks,
            min_area=self._min_mask_area,
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

        The error is handed over, not raised: a data loader's worker would wrap it in a traceback
        of its own, and all ranks have to hear of it before one of them stops.
        """
        try:
            return self._mapper(self._records[key.photo], key)
        except DataError as error:
            return error
