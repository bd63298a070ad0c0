"""A golden pack of the SAM 2 family: the model with its weights, the photo encoded, the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.golden_weights import recipe_state_dict
from tests.parity import Parity
from unsam.checkpoint.conversion import require_complete, to_native
from unsam.checkpoint.layouts.sam2 import SAM2
from unsam.checkpoint.layouts.unsamv2 import UNSAMV2
from unsam.config import get_cfg
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, POSITIVE, Prompts
from unsam.modeling.sam2 import Sam2
from unsam.structures import MaskSet, read_photo

# What the packs' READMEs state.
MAP_TOLERANCE = 1e-4
LOGIT_TOLERANCE = 0.02
SCORE_TOLERANCE = 1e-3
MASK_IOU = 0.995


def published_model(weights: dict[str, Tensor]) -> Sam2:
    """The model of a published file, by way of its layout."""
    layout = next(layout for layout in (SAM2, UNSAMV2) if layout.matches(weights))
    recipe = layout.recipe(weights)
    assert "hiera_small" in recipe.config
    cfg = get_cfg()
    cfg.INPUT.IMAGE_SIZE = 1024
    cfg.MODEL.META_ARCHITECTURE = "Sam2"
    cfg.MODEL.GRANULARITY.ENABLED = layout is UNSAMV2
    cfg.merge_from_list(list(recipe.overrides))
    model = Sam2(**Sam2.from_config(cfg)).eval()
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    native, report = to_native(weights, layout, own)
    require_complete(report, layout.name)
    model.load_state_dict(native)
    return model


class GoldenPack:
    """The photo of a pack, encoded by the model of its weights, and what must come out."""

    def __init__(self, folder: Path, parity: Parity) -> None:
        weights = recipe_state_dict(folder)
        self.name, self.parity = folder.name, parity
        parity.keys[folder.name] = len(weights)
        self.model = published_model(weights)
        self.outputs = np.load(folder / "outputs.npz")
        self.rles = json.loads((folder / "masks.json").read_text())
        self.photo = read_photo(folder / "photo.png")
        self.frame = self.model.frame(self.photo.shape[:2])
        with torch.inference_mode():
            self.features = self.model.encode([self.model.prepare(self.photo)])

    def check_features(self) -> None:
        maps = {
            "image_embed": (self.features.embedding[0], 8, 4),
            "high_res0": (self.features.fine[0], 4, 16),
            "high_res1": (self.features.middle[0], 8, 8),
        }
        for name, (found, channels, step) in maps.items():
            stats, expected = self.outputs[f"{name}_stats"], self.outputs[f"{name}_sub"]
            tolerance = MAP_TOLERANCE * stats[2]
            values = found.double()
            ours = [values.mean(), values.std(), values.abs().max()]
            assert np.allclose(ours, stats, rtol=0, atol=tolerance), name
            part = found[::channels, ::step, ::step].numpy()
            assert part.shape == expected.shape, name
            assert np.abs(part - expected).max() <= tolerance, name
            self.parity.error(self.name, "features", part, expected)

    def prompts(self, names: list[str], granularity: list[float] | None = None) -> Prompts:
        """The prompts that go by these names in the pack, all with the same number of points."""
        points, labels = [], []
        for name in names:
            if name == "box":
                points.append(self.outputs["box_xyxy"].reshape(2, 2))
                labels.append([BOX_FIRST, BOX_LAST])
            elif name == "two_points":
                points.append(self.outputs["two_points_xy"])
                labels.append(self.outputs["two_points_labels"].tolist())
            else:
                points.append(self.outputs["points"][[int(name.removeprefix("point"))]])
                labels.append([POSITIVE])
        kinds = np.array(labels)
        placed = self.model.place(np.stack(points), kinds >= BOX_FIRST, self.frame)
        return Prompts(
            points=torch.from_numpy(placed),
            labels=torch.from_numpy(kinds),
            granularity=None if granularity is None else torch.tensor(granularity),
            image_of_prompt=torch.zeros(len(names), dtype=torch.int64),
        )

    def check(self, name: str, logits: Tensor, quality: Tensor, score: Tensor) -> None:
        """Hold ``[M, h, w]`` logits, their quality and object score against an entry."""
        expected = self.outputs[f"{name}_low_res"].astype(np.float32)
        assert np.abs(logits.numpy() - expected).max() <= LOGIT_TOLERANCE, name
        stored = self.outputs[f"{name}_low_res"]
        assert self.parity.error(self.name, "logits", logits, stored) <= MAP_TOLERANCE, name
        wanted: dict[str, Any] = {"iou": quality, "object_score": score}
        for kind, found in wanted.items():
            error = np.abs(found.numpy() - self.outputs[f"{name}_{kind}"]).max()
            assert error <= SCORE_TOLERANCE, f"{name} {kind}"
            self.parity.error(self.name, kind, found, self.outputs[f"{name}_{kind}"])
        grown = MaskSet.from_masks((self.model.grow(logits, self.frame) > 0).numpy())
        true = MaskSet.from_rles(self.frame.photo_size, self.rles[name])
        assert (np.diag(grown.iou(true)) >= MASK_IOU).all(), name
