"""The golden pack of BSDS500: contour maps, people's segmentations, counts, scores."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np


@dataclass(frozen=True)
class GoldenPhoto:
    """One photo: contour map [2H + 1, 2W + 1], label maps from 0, boundary maps, counts [24, 4]."""

    name: str
    ucm: np.ndarray
    segments: list[np.ndarray]
    boundaries: np.ndarray
    boundary_counts: np.ndarray
    region_counts: np.ndarray


def read_bsds(golden_root: Path) -> tuple[np.ndarray, list[GoldenPhoto], dict[str, Any]]:
    """Return thresholds, photos and the summary."""
    folder = golden_root / "evaluation"
    summary = json.loads((folder / "bsds_summary.json").read_text())
    truth, counts = np.load(folder / "bsds_gt.npz"), np.load(folder / "bsds_counts.npz")
    photos = []
    for name in summary["ids"]:
        height, width = truth[f"{name}_hw"]
        code = cv2.imread(str(folder / "bsds_ucm" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        bits = np.unpackbits(truth[f"{name}_boundaries"], axis=1)[:, : height * width]
        photos.append(
            GoldenPhoto(
                name=name,
                ucm=np.where(code > 0, (code + 0.5) / 256, 0),
                segments=[
                    np.unique(item, return_inverse=True)[1].reshape(height, width)
                    for item in truth[f"{name}_segments"]
                ],
                boundaries=bits.reshape(-1, height, width).astype(bool),
                boundary_counts=counts[f"{name}_boundary"],
                region_counts=counts[f"{name}_region"],
            )
        )
    return counts["thresholds"], photos, summary["summary"]
