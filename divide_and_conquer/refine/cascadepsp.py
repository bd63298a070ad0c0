"""CascadePSP, the refinement of the published pipelines; its weights learned from human masks.

An adapter to the package `segmentation_refinement` (Cheng et al., "CascadePSP", 2020). Crop and
size rules are those of UnSAM: a square crop of twice the mask's longer side, on which the network
runs once ("fast") at a longer side between two bounds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from divide_and_conquer.refine.acceptance import Acceptance
from divide_and_conquer.refine.crops import CropRefiner, Window
from unsam.config.device import resolve_device
from unsam.errors import CheckpointError, ConfigError

_LEARNED_FROM_PEOPLE = "its weights were trained on human masks, so masks are not label-free"


class CascadePspRefiner(CropRefiner):
    """Refines each mask by CascadePSP.

    Attributes:
        supervised: True; runs with it must be labelled so.
    """

    supervised = True

    def __init__(
        self,
        network: Any,
        *,
        min_size: int,
        max_size: int,
        acceptance: Acceptance,
        channels: str = "RGB",
    ) -> None:
        """Keep the network and the settings.

        Args:
            network: a `segmentation_refinement.Refiner`, or anything with its `refine`.
            min_size: least longer side in pixels at which the network sees the crop.
            max_size: largest one.
            acceptance: when a refined mask is taken.
            channels: "RGB", or "BGR" as the published pipelines mistakenly fed it.

        Raises:
            ConfigError: a value is out of its range.
        """
        super().__init__(acceptance)
        if not 8 <= min_size <= max_size:
            raise ConfigError(
                "PSEUDO_MASKS.REFINE.CASCADEPSP: 8 <= MIN_SIZE <= MAX_SIZE must hold, "
                f"got {min_size} and {max_size}"
            )
        if channels not in ("RGB", "BGR"):
            raise ValueError(f"channels must be RGB or BGR, got {channels!r}")
        self.network = network
        self.min_size = min_size
        self.max_size = max_size
        self.channels = channels

    @classmethod
    def from_config(cls, cfg: CfgNode) -> CascadePspRefiner:
        """Build from PSEUDO_MASKS.REFINE; COMPAT "published" feeds the network BGR.

        Raises:
            ConfigError: the package or the weights are not there.
            CheckpointError: the weights do not fit the network.
        """
        node = cfg.PSEUDO_MASKS.REFINE
        return cls(
            load_network(node.CASCADEPSP.WEIGHTS, str(resolve_device(cfg.DEVICE))),
            min_size=node.CASCADEPSP.MIN_SIZE,
            max_size=node.CASCADEPSP.MAX_SIZE,
            acceptance=Acceptance(node.MIN_IOU, node.MAX_AREA_SHARE),
            channels="BGR" if cfg.PSEUDO_MASKS.COMPAT == "published" else "RGB",
        )

    def window(self, box: np.ndarray, size: tuple[int, int]) -> Window:
        """Return the square of twice the box's longer side around its centre, cut at the photo."""
        left, top, right, bottom = (int(value) for value in box)
        half = max(right - left, bottom - top)
        x, y = (left + right) / 2, (top + bottom) / 2
        return Window(
            max(0, int(x - half)),
            max(0, int(y - half)),
            min(size[1], int(x + half)),
            min(size[0], int(y + half)),
        )

    def refine(self, photo: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Return refined masks ``bool [K, h, w]``; see `CropRefiner.refine`."""
        image = photo if self.channels == "RGB" else np.ascontiguousarray(photo[..., ::-1])
        longer = min(max(max(photo.shape[:2]), self.min_size), self.max_size)
        refined = [
            self.network.refine(image, mask.astype(np.uint8) * 255, fast=True, L=longer)
            for mask in masks
        ]
        return np.stack(refined) > 128


def load_network(weights: str, device: str) -> Any:
    """Return the package's refiner with the weights of a file, on a torch device.

    Nothing is downloaded: the package looks for a file `model` in a folder, which here is a
    temporary one that points at `weights`.

    Raises:
        ConfigError: the package is not installed, or `weights` names no file.
        CheckpointError: the weights do not fit the network.
    """
    try:
        import segmentation_refinement
    except ImportError:
        raise ConfigError(
            "PSEUDO_MASKS.REFINE.NAME: 'cascadepsp' needs the package: pip install "
            "segmentation-refinement, and its weights file named by "
            f"PSEUDO_MASKS.REFINE.CASCADEPSP.WEIGHTS; {_LEARNED_FROM_PEOPLE}"
        ) from None
    path = Path(weights).expanduser().resolve()
    if not weights or not path.is_file():
        raise ConfigError(
            f"PSEUDO_MASKS.REFINE.CASCADEPSP.WEIGHTS: no file '{weights}'; name the file `model` "
            f"of CascadePSP (see the package segmentation-refinement); {_LEARNED_FROM_PEOPLE}"
        )
    with tempfile.TemporaryDirectory(prefix="cascadepsp-") as folder:
        (Path(folder) / "model").symlink_to(path)
        try:
            return segmentation_refinement.Refiner(
                device=device, model_folder=folder, download_and_check_model=False
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise CheckpointError(
                f"{path}: no weights of CascadePSP ({reason}); get the file again"
            ) from error
