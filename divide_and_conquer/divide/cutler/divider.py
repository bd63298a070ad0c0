"""`CutlerDivider`: photos to the masks of their objects by CutLER's detector."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from fvcore.common.config import CfgNode
from PIL import Image
from torch import Tensor

from divide_and_conquer.divide.cutler.boxes import clip, has_area
from divide_and_conquer.divide.cutler.detector import CascadeMaskRcnn, padded_size
from divide_and_conquer.divide.cutler.paste import paste_masks
from divide_and_conquer.divide.cutler.roi_heads import Detections
from divide_and_conquer.divide.cutler.weights import load_cutler
from unsam.checkpoint.download import fetch_weights
from unsam.config.device import resolve_device
from unsam.errors import CheckpointError, ConfigError
from unsam.structures import MaskSet

_KEY = "PSEUDO_MASKS.DIVIDE.CUTLER"


class CutlerDivider:
    """Divider: CutLER's class-agnostic detector (UnSAM, arXiv 2406.20081, section 3.1).

    Args:
        net: the detector; it is moved to the device.
        device: "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:1". On CUDA the
            convolutions and linear layers run in half precision.
        score_threshold: detections have a larger score, in [0, 1].
        max_detections: per photo, the best ones.
        short_side: photos are resized so that their shorter side has so many pixels,
        long_side: and the longer one no more than these.
    """

    def __init__(
        self,
        net: CascadeMaskRcnn,
        *,
        device: str = "auto",
        score_threshold: float = 0.3,
        max_detections: int = 100,
        short_side: int = 800,
        long_side: int = 1333,
    ) -> None:
        self.device = resolve_device(device)
        self.net = net.to(self.device).to(memory_format=torch.channels_last).eval()
        self.score_threshold = score_threshold
        self.max_detections = max_detections
        self.short_side = short_side
        self.long_side = long_side

    @classmethod
    def from_config(cls, cfg: CfgNode) -> CutlerDivider:
        """Build from PSEUDO_MASKS.DIVIDE.CUTLER and DEVICE, with the weights that it names.

        Raises:
            CheckpointError: the weights cannot be had, or are another model's.
            ConfigError: a value is out of range.
        """
        node = cfg.PSEUDO_MASKS.DIVIDE.CUTLER
        for name in ("MAX_DETECTIONS", "SHORT_SIDE", "LONG_SIDE"):
            if node[name] < 1:
                raise ConfigError(f"{_KEY}.{name}: {node[name]}, expected at least 1")
        if not 0 <= node.SCORE_THRESHOLD <= 1:
            raise ConfigError(
                f"{_KEY}.SCORE_THRESHOLD: {node.SCORE_THRESHOLD}, expected a number in [0, 1]"
            )
        try:
            net = load_cutler(fetch_weights(node.WEIGHTS, node.SHA256))
        except CheckpointError as error:
            raise CheckpointError(f"{_KEY}.WEIGHTS: {error}") from None
        return cls(
            net,
            device=cfg.DEVICE,
            score_threshold=node.SCORE_THRESHOLD,
            max_detections=node.MAX_DETECTIONS,
            short_side=node.SHORT_SIDE,
            long_side=node.LONG_SIDE,
        )

    def __call__(self, photo: np.ndarray) -> MaskSet:
        """Return the objects of a photo ``uint8 [H, W, 3]`` (RGB); see `batch`."""
        return self.batch([photo])[0]

    def batch(self, photos: Sequence[np.ndarray]) -> list[MaskSet]:
        """Return the objects of photos, best first, source ``divide``, score filled.

        Photos of one padded size go through the net together, others after each other. So no
        photo is padded further than it would be alone, and what is found in it does not depend on
        its company (but for rounding).

        Args:
            photos: ``uint8 [H, W, 3]`` each, RGB, of any sizes.

        Returns:
            One set per photo, of the photo's size. Empty masks are left out.
        """
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        inputs = []
        for index, photo in enumerate(photos):
            inputs.append(resized(photo, self.short_side, self.long_side))
            groups[padded_size(inputs[index].shape[:2])].append(index)
        result: dict[int, MaskSet] = {}
        for group in groups.values():
            found = self.detect([inputs[index] for index in group])
            for index, detections in zip(group, found, strict=True):
                size = photos[index].shape[:2]
                masks = in_photo(detections, inputs[index].shape[:2], size)
                result[index] = masks.filter(masks.areas > 0)
        return [result[index] for index in range(len(photos))]

    def detect(self, inputs: Sequence[np.ndarray]) -> list[Detections]:
        """Run the net on photos ``uint8 [H, W, 3]`` that are resized and of one padded size."""
        half = (
            torch.autocast("cuda", dtype=torch.float16)
            if self.device.type == "cuda"
            else contextlib.nullcontext()
        )
        with torch.inference_mode(), half:
            tensors: list[Tensor] = [
                torch.from_numpy(item).to(self.device).permute(2, 0, 1) for item in inputs
            ]
            return self.net(
                tensors,
                score_threshold=self.score_threshold,
                max_detections=self.max_detections,
            )


def resized(photo: np.ndarray, short_side: int, long_side: int) -> np.ndarray:
    """Return the photo as the net sees it, ``uint8 [H', W', 3]``, by Pillow's bilinear filter.

    Args:
        photo: ``uint8 [H, W, 3]``.
        short_side: target of the shorter side in pixels,
        long_side: which is missed where the longer one would exceed this.
    """
    height, width = input_size(photo.shape[:2], short_side, long_side)
    image = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image)


def input_size(size: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """Return ``(H, W)`` after the resize, each rounded to the nearest integer, at least 1."""
    scale = short_side / min(size)
    height, width = size[0] * scale, size[1] * scale
    if max(height, width) > long_side:
        scale = long_side / max(height, width)
        height, width = height * scale, width * scale
    return max(int(height + 0.5), 1), max(int(width + 0.5), 1)


def in_photo(detections: Detections, from_size: tuple[int, int], size: tuple[int, int]) -> MaskSet:
    """Return detections of a resized photo as masks of the photo itself.

    Args:
        detections: boxes in pixels of the resized photo.
        from_size: ``(H', W')`` of the resized photo.
        size: ``(H, W)`` of the photo.

    Returns:
        In the given order, without the boxes that have no area in the photo.
    """
    boxes, kept = boxes_in_photo(detections.boxes, from_size, size)
    return paste_masks(
        detections.masks[kept].cpu().numpy(),
        boxes.cpu().numpy(),
        detections.scores[kept].cpu().numpy(),
        size,
    )


def boxes_in_photo(
    boxes: Tensor, from_size: tuple[int, int], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Scale boxes ``float32 [N, 4]`` to the photo and clip them; arguments as of `in_photo`.

    Returns:
        Those with an area, ``float32 [K, 4]``, and which ones they are, ``bool [N]``.
    """
    scale_x, scale_y = size[1] / from_size[1], size[0] / from_size[0]
    scaled = clip(boxes * boxes.new_tensor([scale_x, scale_y, scale_x, scale_y]), size)
    kept = has_area(scaled)
    return scaled[kept], kept
