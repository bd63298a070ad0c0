"""`Segmenter`: photos in, masks out: by clicks, for the whole photo, or as a hierarchy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from numpy.typing import ArrayLike
from torch import Tensor

from unsam.checkpoint.hub import push_to_hub, save_pretrained
from unsam.config.device import resolve_device
from unsam.inference.snapping import RegionSnapper
from unsam.inference.validation import (
    check_box,
    check_granularity,
    check_mask,
    check_photo,
    check_points,
)
from unsam.modeling import InputFrame, PromptableModel, Prompts, SegmentationModel, build_model
from unsam.modeling.levels import granularity_of_answers
from unsam.modeling.precision import autocast_dtype
from unsam.modeling.pretrained import load_pretrained, load_weights_into
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, PADDING
from unsam.structures import MaskSet, RegionTree

_UPSAMPLE_PIXELS = 32_000_000


@dataclass(frozen=True)
class Prediction:
    """The answers to one prompt: one per granularity, or all that the model has for it.

    Attributes:
        masks: bool ``[G, H, W]``, in the size of the photo.
        quality: float32 ``[G]``, the predicted IoU of each mask.
        logits: float32 ``[G, h, w]``, to be passed back as ``mask`` with the next click.
        granularity: float32 ``[G]``, as asked for, or the mask's place among the answers.
    """

    masks: np.ndarray
    quality: np.ndarray
    logits: np.ndarray
    granularity: np.ndarray


@dataclass(frozen=True)
class _Photo:
    """A photo that the encoder has seen."""

    image: np.ndarray
    features: Any
    frame: InputFrame

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` of the photo."""
        return self.frame.photo_size


class Segmenter:
    """Segments photos with a model. The encoder runs once per photo, whatever is asked about it.

    Example:
        >>> segmenter = Segmenter.from_pretrained("model.safetensors")  # doctest: +SKIP
        >>> segmenter.set_image(photo)  # doctest: +SKIP
        >>> segmenter.predict(points=[[120, 80]], granularity=[0.2, 1.0]).masks  # doctest: +SKIP

    Args:
        model: of any meta-architecture; it is moved to the device and put in evaluation mode.
        device: "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:1".
        precision: of encoding and of answers to prompts: "float32", or by autocast "bfloat16",
            "float16", or "auto" for bfloat16 where the device computes in it.
        cfg: the config of the model, which `save_pretrained` needs.
    """

    def __init__(
        self,
        model: SegmentationModel,
        device: str | torch.device = "auto",
        *,
        precision: str = "float32",
        cfg: CfgNode | None = None,
    ) -> None:
        self.device = resolve_device(str(device))
        self.model = model.to(self.device).eval()
        self.cfg = cfg
        self._dtype = autocast_dtype(precision, self.device, "precision")
        self._photo: _Photo | None = None
        self._snapper: RegionSnapper | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Segmenter:
        """Build the model of a config, with the weights of ``MODEL.WEIGHTS`` if it names some.

        Raises:
            CheckpointError: the weights are missing, truncated or of another model.
        """
        model = build_model(cfg)
        if cfg.MODEL.WEIGHTS:
            load_weights_into(model, cfg.MODEL.WEIGHTS)
        return cls(model, cfg.DEVICE, cfg=cfg)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        device: str = "auto",
        *,
        precision: str = "float32",
        overrides: Sequence[str] = (),
    ) -> Segmenter:
        """Build the model that weights are for, and load them.

        Args:
            source: a folder of `save_pretrained`, a checkpoint or ``.safetensors`` of this
                package, any published file of SAM, SAM 2, UnSAM or UnSAMv2, a name of the model
                zoo (docs/model_zoo.md) such as "unsamv2", a URL, or ``owner/name`` on the hub.
            device: see `Segmenter`.
            precision: see `Segmenter`.
            overrides: config keys and values in turn, such as
                ``["INFERENCE.POINTS_PER_SIDE", "16"]``.

        Raises:
            CheckpointError: no such source, or one that is damaged or of another model.
            ConfigError: wrong overrides.
        """
        model, cfg = load_pretrained(source, overrides=overrides)
        return cls(model, device, precision=precision, cfg=cfg)

    def save_pretrained(
        self, folder: str | os.PathLike[str], metrics: Mapping[str, float] | None = None
    ) -> Path:
        """Write config, weights and a model card to a new folder, for `from_pretrained`.

        Args:
            folder: must not hold anything yet.
            metrics: name to value, for the card.

        Raises:
            CheckpointError: something is there already.
            StorageError: it cannot be written.
            ValueError: the segmenter was made from a model without its config.
        """
        if self.cfg is None:
            raise ValueError("the config of this model is not known; pass Segmenter(..., cfg=cfg)")
        return save_pretrained(self.model, self.cfg, folder, metrics=metrics)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model to the Hugging Face hub and return the address of its repository.

        Args:
            repo_id: ``owner/name``; made if it is not there.
            private: whether others may see it, if it is made.
            token: of the hub; None takes the one that is logged in.

        Raises:
            CheckpointError: the hub cannot be reached or refuses.
            ValueError: see `save_pretrained`.
        """
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "model"
            self.save_pretrained(folder)
            return push_to_hub(folder, repo_id, private=private, token=token)

    def set_image(self, image: np.ndarray) -> None:
        """Encode one photo for the calls of `predict` and `predict_batch` that follow.

        Args:
            image: ``uint8 [H, W, 3]``, RGB, any size from 1x1 up.

        Raises:
            ValueError: another type, shape or dtype.
        """
        self._photo, self._snapper = self._encode(image), None

    def predict(
        self,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        granularity: float | Sequence[float] | None = None,
        multimask: bool = True,
    ) -> Prediction:
        """Segment what a prompt points at, at one or several granularities.

        Args:
            points: clicks ``[K, 2]``, x and y in pixels of the photo.
            labels: ``[K]``, 1 for a click on the object, 0 for one off it; None for all on it.
            box: ``(x_min, y_min, x_max, y_max)`` in pixels, maxima exclusive.
            mask: logits of an earlier answer on this photo, ``[h, w]`` or ``[G, h, w]``.
            granularity: in [0.1, 1], 0.1 the finest part and 1 the whole. None asks for none:
                SAM and SAM 2 then answer as they did before they learned of granularity, the
                promptable UnSAM with its six masks from fine to coarse, and models that answer
                only at a granularity at 1.
            multimask: without granularity, all answers of the model (three of SAM and SAM 2), or
                its single best.

        Raises:
            ValueError: no photo is set, there is no prompt, or one that cannot be.
        """
        photo, model = self._current(), self._promptable()
        if granularity is None and model.needs_granularity:
            granularity = 1.0
        wanted = None if granularity is None else check_granularity(granularity)
        if points is None and labels is not None:
            raise ValueError("labels are of points; pass points too")
        xy, kinds = check_points([] if points is None else points, labels, photo.size)
        if xy.ndim != 2:
            raise ValueError(f"points are [K, 2]; predict_batch takes many, got {xy.shape}")
        if len(xy) == 0 and box is None and mask is None:
            raise ValueError("nothing to segment; pass points, a box or a mask")
        if box is not None:
            xy = np.concatenate((check_box(box, photo.size), xy))
            kinds = np.concatenate((np.array([BOX_FIRST, BOX_LAST]), kinds))
        count = 1 if wanted is None else len(wanted)
        xy, kinds = np.repeat(xy[None], count, axis=0), np.repeat(kinds[None], count, axis=0)
        prompts = self._prompts(photo, xy, kinds, mask, wanted)
        if wanted is None and multimask:
            return self._all_answers(photo, prompts)
        masks, quality, logits = self._answer(photo, prompts, xy, kinds)
        shown = granularity_of_answers(logits[:, None])[:, 0].cpu().numpy()
        return Prediction(
            masks.cpu().numpy(),
            quality.cpu().numpy(),
            logits.cpu().numpy(),
            shown if wanted is None else wanted,
        )

    def predict_batch(
        self,
        points: ArrayLike,
        labels: ArrayLike,
        mask_logits: Tensor | np.ndarray | None = None,
        granularity: float | ArrayLike | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer P independent prompts on the photo in one run of the decoder.

        Args:
            points: ``[P, K, 2]``, x and y in pixels of the photo.
            labels: ``[P, K]``, 1 on the object, 0 off it, -1 for padding, which has no effect.
            mask_logits: ``[P, h, w]`` as returned for the same prompts before, or None.
            granularity: ``[P]`` or one for all, in [0.1, 1]; None for the model's best answer, at
                1 from models that answer only at a granularity.

        Returns:
            Masks bool ``[P, H, W]``; quality float32 ``[P]``, the predicted IoU as the model's
            head gives it (SAM's and promptable UnSAM's are not bounded); logits float32
            ``[P, h, w]``.

        Raises:
            ValueError: no photo is set, or a prompt that cannot be.
        """
        photo, model = self._current(), self._promptable()
        xy, kinds = check_points(points, labels, photo.size, allow_padding=True)
        if xy.ndim != 3:
            raise ValueError(f"points are [P, K, 2], K for each of P prompts, got {xy.shape}")
        if mask_logits is None and not (kinds != PADDING).any(1).all():
            raise ValueError("nothing to segment in some prompt; each needs a point or a mask")
        if granularity is None and model.needs_granularity:
            granularity = 1.0
        wanted = None if granularity is None else check_granularity(granularity, len(xy))
        plain = mask_logits.cpu() if isinstance(mask_logits, Tensor) else mask_logits
        return self._answer(photo, self._prompts(photo, xy, kinds, plain, wanted), xy, kinds)

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
        if image is None:
            known = self._current()
            image, features = known.image, known.features
        else:
            image, features = check_photo(image), None
        with torch.inference_mode(), self._autocast():
            return self.model.segment_photo(image, wanted, features)

    def hierarchy(self, image: np.ndarray | None = None) -> RegionTree:
        """Segment a whole photo into regions that nest, to be cut at any granularity.

        Args:
            image: ``uint8 [H, W, 3]``, RGB; None for the photo of `set_image`.

        Raises:
            ValueError: an image that is no photo.
        """
        return RegionTree.from_masks(self.generate(image))

    @property
    def takes_prompts(self) -> bool:
        """Whether the model answers points, boxes and masks, or segments whole photos alone."""
        return isinstance(self.model, PromptableModel)

    def _current(self) -> _Photo:
        if self._photo is None:
            raise ValueError("no image is set; call set_image(image) first")
        return self._photo

    def _promptable(self) -> PromptableModel:
        if not isinstance(self.model, PromptableModel):
            raise ValueError(
                f"{type(self.model).__name__} segments whole photos and takes no prompts; use "
                "generate, or load a promptable model"
            )
        return self.model

    @torch.inference_mode()
    def _encode(self, image: np.ndarray) -> _Photo:
        photo = check_photo(image)
        frame = self.model.frame((photo.shape[0], photo.shape[1]))
        with self._autocast():
            return _Photo(photo, self.model.encode([self.model.prepare(photo)]), frame)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None)

    def _prompts(
        self,
        photo: _Photo,
        points: np.ndarray,
        labels: np.ndarray,
        mask: ArrayLike | None,
        granularity: np.ndarray | None,
    ) -> Prompts:
        """Bring checked points ``[P, K, 2]`` in pixels of the photo into the model's input."""
        model = self._promptable()
        count, limit = len(points), model.max_points
        most = (labels != PADDING).sum(1).max(initial=0)
        if limit is not None and most > limit:
            raise ValueError(
                f"{type(model).__name__} takes at most {limit} point(s) per prompt (a box is two), "
                f"got {most}"
            )
        before = None
        if mask is not None:
            if not model.takes_masks:
                raise ValueError(f"{type(model).__name__} takes points and boxes, no masks")
            before = torch.from_numpy(check_mask(mask, count, model.mask_size(photo.frame)))
        is_corner = (labels == BOX_FIRST) | (labels == BOX_LAST)
        placed = model.place(points, is_corner, photo.frame)
        device = self.device
        return Prompts(
            points=torch.from_numpy(placed).to(device),
            labels=torch.from_numpy(labels).to(device),
            granularity=None if granularity is None else torch.from_numpy(granularity).to(device),
            image_of_prompt=torch.zeros(count, dtype=torch.int64, device=device),
            mask_logits=None if before is None else before.to(device),
        )

    @torch.inference_mode()
    def _answer(
        self, photo: _Photo, prompts: Prompts, points: np.ndarray, labels: np.ndarray
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return masks ``[P, H, W]``, quality and logits of one answer per prompt.

        The prompts are given in the input of the model and, ``[P, K, 2]``, in the photo.
        """
        with self._autocast():
            logits, quality = self._promptable().decode(photo.features, prompts)
        masks = self._grow(logits, photo)
        if self.model.snap_iou > 0:
            self._snap(masks, logits, photo, points, labels, prompts.granularity)
        return masks, quality, logits

    def _snap(
        self,
        masks: Tensor,
        logits: Tensor,
        photo: _Photo,
        points: np.ndarray,
        labels: np.ndarray,
        granularity: Tensor | None,
    ) -> None:
        """Give masks ``[P, H, W]`` the outlines of the photo's regions that agree, in place."""
        if self._snapper is None:
            with self._autocast():
                regions = self.model.segment_photo(photo.image, None, photo.features)
            self._snapper = RegionSnapper(regions, self.model.snap_iou)
        wanted = [None] * len(logits) if granularity is None else granularity.tolist()
        for index, answer in enumerate(logits):
            grown = self._promptable().grow(answer[None], photo.frame)[0]
            sure = grown.sigmoid().cpu().numpy()
            region = self._snapper(sure, points[index], labels[index], wanted[index])
            if region is not None:
                masks[index] = torch.from_numpy(region)

    @torch.inference_mode()
    def _all_answers(self, photo: _Photo, prompts: Prompts) -> Prediction:
        """Return all answers to one prompt."""
        with self._autocast():
            all_logits, all_quality = self._promptable().decode_all(photo.features, prompts)
        logits, quality = all_logits[0], all_quality[0]
        return Prediction(
            self._grow(logits, photo).cpu().numpy(),
            quality.cpu().numpy(),
            logits.cpu().numpy(),
            granularity_of_answers(all_logits)[0].cpu().numpy(),
        )

    def _grow(self, logits: Tensor, photo: _Photo) -> Tensor:
        """Bring logits ``[N, h, w]`` to the photo, in chunks, and threshold them at 0."""
        H, W = photo.size
        masks = torch.empty((len(logits), H, W), dtype=torch.bool, device=self.device)
        chunk = max(1, _UPSAMPLE_PIXELS // (H * W))
        for start in range(0, len(logits), chunk):
            some = slice(start, start + chunk)
            masks[some] = self._promptable().grow(logits[some], photo.frame) > 0
        return masks
