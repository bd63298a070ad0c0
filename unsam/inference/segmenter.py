"""`Segmenter`: photos in, masks out: by clicks, for the whole photo, or as a hierarchy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from fvcore.common.config import CfgNode
from numpy.typing import ArrayLike
from torch import Tensor

from unsam.checkpoint.checkpointer import load_model_weights, read_checkpoint_config
from unsam.config.device import resolve_device
from unsam.data.augmentation import view_photo, whole_view
from unsam.errors import ConfigError
from unsam.inference.validation import (
    check_box,
    check_granularity,
    check_mask,
    check_photo,
    check_points,
)
from unsam.modeling import EncodedImages, GranularSam, Prompts, build_model
from unsam.modeling.automatic_masks import crop_to_input, upsample
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST
from unsam.structures import MaskSet, RegionTree

_UPSAMPLE_PIXELS = 32_000_000


@dataclass(frozen=True)
class Prediction:
    """The answers to one prompt, one per granularity.

    Attributes:
        masks: bool ``[G, H, W]``, in the size of the photo.
        quality: float32 ``[G]``, the predicted IoU of each mask, in [0, 1].
        logits: float32 ``[G, h, w]``, to be passed back as ``mask`` with the next click.
        granularity: float32 ``[G]``, as asked for.
    """

    masks: np.ndarray
    quality: np.ndarray
    logits: np.ndarray
    granularity: np.ndarray


@dataclass(frozen=True)
class _Photo:
    """A photo that the encoder has seen."""

    features: EncodedImages
    size: tuple[int, int]
    input_size: tuple[int, int]


class Segmenter:
    """Segments photos with a model. The encoder runs once per photo, whatever is asked about it.

    Example:
        >>> segmenter = Segmenter.from_checkpoint("model.pth")  # doctest: +SKIP
        >>> segmenter.set_image(photo)  # doctest: +SKIP
        >>> segmenter.predict(points=[[120, 80]], granularity=[0.2, 1.0]).masks  # doctest: +SKIP

    Args:
        model: a `GranularSam`; it is moved to the device and put in evaluation mode.
        device: "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:1".
    """

    def __init__(self, model: GranularSam, device: str | torch.device = "auto") -> None:
        self.device = resolve_device(str(device))
        self.model = model.to(self.device).eval()
        self._photo: _Photo | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Segmenter:
        """Build the model of a config, with the weights of ``MODEL.WEIGHTS`` if it names some.

        Raises:
            CheckpointError: the weights are missing, truncated or of another model.
        """
        model = _build(cfg)
        if cfg.MODEL.WEIGHTS:
            load_model_weights(model, cfg.MODEL.WEIGHTS)
        return cls(model, cfg.DEVICE)

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], device: str = "auto") -> Segmenter:
        """Build the model that a checkpoint was saved from, with its weights.

        Raises:
            CheckpointError: the file is missing, truncated or no checkpoint of this package.
        """
        model = _build(read_checkpoint_config(path))
        load_model_weights(model, path)
        return cls(model, device)

    def set_image(self, image: np.ndarray) -> None:
        """Encode one photo for the calls of `predict` and `predict_batch` that follow.

        Args:
            image: ``uint8 [H, W, 3]``, RGB, any size from 1x1 up.

        Raises:
            ValueError: another type, shape or dtype.
        """
        self._photo = self._encode(image)

    def predict(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        granularity: float | Sequence[float] = 1.0,
    ) -> Prediction:
        """Segment what a prompt points at, at one or several granularities.

        Args:
            points: clicks ``[K, 2]``, x and y in pixels of the photo.
            labels: ``[K]``, 1 for a click on the object, 0 for one off it; None for all on it.
            box: ``(x_min, y_min, x_max, y_max)`` in pixels, maxima exclusive.
            mask: logits of an earlier answer on this photo, ``[h, w]`` or ``[G, h, w]``.
            granularity: in [0.1, 1], 0.1 the finest part and 1 the whole.

        Raises:
            ValueError: no photo is set, there is no prompt, or one that cannot be.
        """
        photo = self._current()
        wanted = check_granularity(granularity)
        if points is None and labels is not None:
            raise ValueError("labels are of points; pass points too")
        if points is None and box is None and mask is None:
            raise ValueError("nothing to segment; pass points, a box or a mask")
        xy, kinds = check_points(np.zeros((0, 2)) if points is None else points, labels, photo.size)
        if xy.ndim != 2:
            raise ValueError(f"points are [K, 2]; predict_batch takes many, got {xy.shape}")
        # A pixel's centre is half a pixel beyond its edge; boxes are given by edges already.
        xy = xy + 0.5
        if box is not None:
            xy = np.concatenate((check_box(box, photo.size), xy))
            kinds = np.concatenate((np.array([BOX_FIRST, BOX_LAST]), kinds))
        logits_before = None
        if mask is not None:
            logits_before = check_mask(mask, len(wanted), self._logits_shape(photo))
        count = len(wanted)
        masks, quality, logits = self._answer(
            photo,
            np.repeat(xy[None], count, axis=0),
            np.repeat(kinds[None], count, axis=0),
            logits_before,
            wanted,
        )
        return Prediction(masks.cpu().numpy(), quality.cpu().numpy(), logits.cpu().numpy(), wanted)

    def predict_batch(
        self,
        points: ArrayLike,
        labels: ArrayLike,
        mask_logits: Tensor | np.ndarray | None = None,
        granularity: float | ArrayLike = 1.0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer P independent prompts on the photo in one run of the decoder.

        Args:
            points: ``[P, K, 2]``, x and y in pixels of the photo.
            labels: ``[P, K]``, 1 on the object, 0 off it, -1 for padding, which has no effect.
            mask_logits: ``[P, h, w]`` as returned for the same prompts before, or None.
            granularity: ``[P]`` or one for all, in [0.1, 1].

        Returns:
            Masks bool ``[P, H, W]``, quality float32 ``[P]`` in [0, 1], logits float32
            ``[P, h, w]``.

        Raises:
            ValueError: no photo is set, or a prompt that cannot be.
        """
        photo = self._current()
        xy, kinds = check_points(points, labels, photo.size, allow_padding=True)
        if xy.ndim != 3:
            raise ValueError(f"points are [P, K, 2], K for each of P prompts, got {xy.shape}")
        count = len(xy)
        wanted = check_granularity(granularity)
        if len(wanted) == 1:
            wanted = np.repeat(wanted, count)
        if len(wanted) != count:
            raise ValueError(f"granularity needs one value for each of {count} prompts")
        logits_before = None
        if mask_logits is not None:
            plain = torch.as_tensor(mask_logits).cpu().numpy()
            logits_before = check_mask(plain, count, self._logits_shape(photo))
        return self._answer(photo, xy + 0.5, kinds, logits_before, wanted)

    def generate(
        self,
        image: np.ndarray | None = None,
        granularity: float | Sequence[float] | None = None,
    ) -> MaskSet:
        """Segment a whole photo, without prompts.

        Args:
            image: ``uint8 [H, W, 3]``, RGB; None for the photo of `set_image`, which is not
                encoded again.
            granularity: in [0.1, 1], one or several; None for ``INFERENCE.GRANULARITIES``.

        Returns:
            Masks in the size of the photo, best first: score is the predicted IoU, granularity
            the one asked for, parent the smallest mask that contains the mask.

        Raises:
            ValueError: a granularity outside [0.1, 1], or an image that is no photo.
        """
        wanted = None if granularity is None else check_granularity(granularity).tolist()
        photo = self._current() if image is None else self._encode(image)
        return self.model.automatic(
            self.model, photo.features, photo.input_size, photo.size, wanted
        )

    def hierarchy(self, image: np.ndarray | None = None) -> RegionTree:
        """Segment a whole photo into regions that nest, to be cut at any granularity.

        Args:
            image: ``uint8 [H, W, 3]``, RGB; None for the photo of `set_image`.

        Raises:
            ValueError: an image that is no photo.
        """
        return RegionTree.from_masks(self.generate(image))

    def _current(self) -> _Photo:
        if self._photo is None:
            raise ValueError("no image is set; call set_image(image) first")
        return self._photo

    @torch.inference_mode()
    def _encode(self, image: np.ndarray) -> _Photo:
        photo = check_photo(image)
        size = (photo.shape[0], photo.shape[1])
        resized = view_photo(photo, whole_view(size, self.model.image_size))
        pixels = torch.from_numpy(np.ascontiguousarray(resized)).permute(2, 0, 1)
        features = self.model.encode([pixels])
        return _Photo(features, size, (resized.shape[0], resized.shape[1]))

    def _logits_shape(self, photo: _Photo) -> tuple[int, int]:
        h, w = photo.features.embedding.shape[-2:]
        return 4 * h, 4 * w

    @torch.inference_mode()
    def _answer(
        self,
        photo: _Photo,
        points: np.ndarray,
        labels: np.ndarray,
        mask_logits: np.ndarray | None,
        granularity: np.ndarray,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode checked prompts; points count from the photo's corner, not a pixel's centre."""
        (H, W), (h, w) = photo.size, photo.input_size
        scaled = points * np.array([w / W, h / H], np.float32)
        before = None
        if mask_logits is not None:
            before = torch.from_numpy(mask_logits).to(self.device)
        prompts = Prompts(
            points=torch.from_numpy(scaled.astype(np.float32)).to(self.device),
            labels=torch.from_numpy(labels).to(self.device),
            granularity=torch.from_numpy(granularity).to(self.device),
            image_of_prompt=torch.zeros(len(points), dtype=torch.int64, device=self.device),
            mask_logits=before,
        )
        logits, quality = self.model.decode(photo.features, prompts)
        cropped = crop_to_input(logits, self.model.mask_stride, photo.input_size)
        masks = torch.empty((len(points), H, W), dtype=torch.bool, device=self.device)
        chunk = max(1, _UPSAMPLE_PIXELS // (H * W))
        for start in range(0, len(points), chunk):
            some = slice(start, start + chunk)
            grown = upsample(cropped[some], self.model.mask_stride, photo.input_size, photo.size)
            masks[some] = grown > 0
        return masks, quality, logits


def _build(cfg: CfgNode) -> GranularSam:
    model = build_model(cfg)
    if not isinstance(model, GranularSam):
        raise ConfigError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} takes no prompts; "
            "Segmenter needs GranularSam"
        )
    return model
