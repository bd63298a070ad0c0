"""Self-supervised ViTs as feature extractors: DINO, DINOv2 and DINOv3 through timm.

UnSAM (section 3.1) merges the keys of the last block of DINO ViT-B/8 on 256 x 256 crops, UnSAMv2
(section 3.2) the normalised patch tokens of DINOv3 ViT-B/16 on crops of longer side 768.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from fvcore.common.config import CfgNode

from divide_and_conquer.features.patch_grid import SHAPES, input_size, to_pixels
from divide_and_conquer.features.vit_forward import OUTPUTS, TimmVit, patch_features
from divide_and_conquer.features.vit_weights import load_vit
from unsam.config.device import resolve_device
from unsam.errors import ConfigError, DataError

_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


class VitFeatures:
    """Callable: photo ``uint8 [H, W, 3]`` to patch features ``float32 [h, w, D]``."""

    def __init__(
        self,
        model: TimmVit,
        *,
        output: str,
        side: int,
        shape: str = "square",
        batch_size: int = 8,
        precision: str = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        """Keep the model, in evaluation mode and without gradients, and the settings.

        Args:
            model: a timm ViT built with ``dynamic_img_size=True``; moved to `device`.
            output: "keys" of the last block or final "tokens".
            side: in pixels, to which crops are resized (see `input_size`).
            shape: "square" or "longest".
            batch_size: crops per forward pass, at most; all of one input shape.
            precision: "float32", "bfloat16", "float16", or "auto": half on a GPU and float32 on
                a CPU.
            device: where the model runs.

        Raises:
            ConfigError: an output, shape, side, batch size or precision that is not known.
        """
        _check("OUTPUT", output, OUTPUTS)
        _check("INPUT_SHAPE", shape, SHAPES)
        _check("PRECISION", precision, ("auto", *_PRECISIONS))
        for key, value in (("INPUT_SIZE", side), ("BATCH_SIZE", batch_size)):
            if value < 1:
                raise ConfigError(f"PSEUDO_MASKS.FEATURES.VIT.{key}: {value} is not 1 or more")
        self.device = torch.device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.output = output
        self.side = side
        self.shape = shape
        self.batch_size = batch_size
        self.precision = precision

    @classmethod
    def from_config(cls, cfg: CfgNode) -> VitFeatures:
        """Build from PSEUDO_MASKS.FEATURES.VIT and DEVICE, with the weights that they name.

        Raises:
            ConfigError: no weights are named, or a key has a wrong value.
            CheckpointError: the weights cannot be got or do not fit the architecture.
        """
        node = cfg.PSEUDO_MASKS.FEATURES.VIT
        return cls(
            load_vit(node.ARCHITECTURE, node.WEIGHTS, node.SHA256),
            output=node.OUTPUT,
            side=node.INPUT_SIZE,
            shape=node.INPUT_SHAPE,
            batch_size=node.BATCH_SIZE,
            precision=node.PRECISION,
            device=resolve_device(cfg.DEVICE),
        )

    def with_input(self, side: int, shape: str) -> VitFeatures:
        """Return an extractor on the same weights (shared, not copied) with other inputs."""
        return VitFeatures(
            self.model,
            output=self.output,
            side=side,
            shape=shape,
            batch_size=self.batch_size,
            precision=self.precision,
            device=self.device,
        )

    def __call__(self, photo: np.ndarray) -> np.ndarray:
        """Return ``float32 [h, w, D]`` for a photo ``uint8 [H, W, 3]`` (RGB)."""
        return self.batch([photo])[0]

    def batch(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return ``float32 [h, w, D]`` for each photo ``uint8 [H, W, 3]`` (RGB), in their order.

        Photos of the same input shape share forward passes; results do not depend on which.
        """
        features: list[np.ndarray] = [np.empty(0)] * len(photos)
        for size, group in self._groups(photos):
            pixels = torch.stack([to_pixels(photos[index], size) for index in group])
            for index, grid in zip(group, self._forward(pixels)):
                features[index] = grid
        return features

    def _groups(self, photos: Sequence[np.ndarray]) -> Iterator[tuple[tuple[int, int], list[int]]]:
        """Yield ``(input size, indices of photos)``, at most a batch at a time."""
        patch = self.model.patch_embed.patch_size[0]
        by_size: dict[tuple[int, int], list[int]] = {}
        for index, photo in enumerate(photos):
            height, width = photo.shape[:2]
            size = input_size(height, width, side=self.side, shape=self.shape, patch=patch)
            by_size.setdefault(size, []).append(index)
        for size, indices in by_size.items():
            for start in range(0, len(indices), self.batch_size):
                yield size, indices[start : start + self.batch_size]

    def _forward(self, pixels: torch.Tensor) -> np.ndarray:
        """Return ``float32 [B, h, w, D]`` of ``[B, 3, H, W]``."""
        name = self.precision
        if name == "auto":
            name = "float16" if self.device.type == "cuda" else "float32"
        dtype = _PRECISIONS[name]
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None),
        ):
            features = patch_features(self.model, pixels.to(self.device), self.output)
        result = features.float().cpu().numpy()
        if not np.isfinite(result).all():
            raise DataError(
                f"the ViT's features overflow in {name}; set "
                "PSEUDO_MASKS.FEATURES.VIT.PRECISION to bfloat16 or float32"
                if name == "float16"
                else "the ViT's features are not finite; its weights are damaged"
            )
        return result


def _check(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(
            f"PSEUDO_MASKS.FEATURES.VIT.{key}: unknown '{value}'; known: {', '.join(known)}"
        )
