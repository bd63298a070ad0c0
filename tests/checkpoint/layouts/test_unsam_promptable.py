"""The 648 tensors of a published file: every one found, and written again as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unsam.checkpoint.conversion import to_native, to_published
from unsam.checkpoint.layouts.base import Recipe
from unsam.checkpoint.layouts.unsam_promptable import UNSAM_PROMPTABLE
from unsam.config import get_cfg
from unsam.modeling import build_model

PREDICTOR = "model.sem_seg_head.predictor."
Shapes = dict[str, torch.Size]


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    """The shapes of the model's tensors by our names."""
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "SemanticSam"
    cfg.MODEL.BACKBONE.NAME = "SwinTransformer"
    cfg.MODEL.PIXEL_DECODER.NUM_LEVELS = 4
    cfg.MODEL.PIXEL_DECODER.FFN_DIM = 2048
    return {name: tensor.shape for name, tensor in build_model(cfg).state_dict().items()}


@pytest.fixture(scope="module")
def pack(golden_root: Path) -> Path:
    return golden_root / "unsam_promptable"


@pytest.fixture(scope="module")
def published(pack: Path) -> dict[str, Tensor]:
    """A file with random values, its repetitions repeated, without the integer tables."""
    keys = json.loads((pack / "keys.json").read_text())
    aliases = json.loads((pack / "recipe.json").read_text())["aliases"]
    torch.manual_seed(0)
    made = {
        key: torch.rand(entry["shape"])
        for key, entry in keys.items()
        if entry["dtype"] == "float32"
    }
    return {key: made[aliases.get(key, key)] for key in made}


def test_every_tensor_is_found_and_none_is_left(
    published: dict[str, Tensor], shapes: Shapes
) -> None:
    extra = {
        "model.backbone.layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49),
        "model.criterion.empty_weight": torch.ones(2),
    }
    native, report = to_native(published | extra, UNSAM_PROMPTABLE, shapes)
    assert report.is_complete
    assert set(native) == set(shapes)
    assert len(report.taken) == len(shapes) == 526
    assert len(report.repeats) == 110
    assert set(report.computed) == set(extra)


def test_a_file_is_written_again_as_it_was(
    published: dict[str, Tensor], shapes: Shapes, pack: Path
) -> None:
    native, _ = to_native(published, UNSAM_PROMPTABLE, shapes)
    written = to_published(native, UNSAM_PROMPTABLE, "test")
    keys = json.loads((pack / "keys.json").read_text())
    assert set(written) == set(keys)
    for key, entry in keys.items():
        assert list(written[key].shape) == entry["shape"]
        assert str(written[key].dtype) == f"torch.{entry['dtype']}"
        if key in published:
            assert torch.equal(written[key], published[key])


def test_written_tables_count_the_rows_of_the_bias_table(
    published: dict[str, Tensor], shapes: Shapes
) -> None:
    native, _ = to_native(published, UNSAM_PROMPTABLE, shapes)
    written = to_published(native, UNSAM_PROMPTABLE, "test")
    table = written["model.backbone.layers.2.blocks.5.attn.relative_position_index"]
    side = 7
    for first, second in ((0, 0), (0, 48), (48, 0), (10, 33)):
        down = first // side - second // side + side - 1
        right = first % side - second % side + side - 1
        assert table[first, second] == down * (2 * side - 1) + right


def test_a_repetition_that_differs_is_noticed(published: dict[str, Tensor], shapes: Shapes) -> None:
    name = PREDICTOR + "decoder.bbox_embed.3.layers.1.bias"
    _, report = to_native(published | {name: published[name] + 1}, UNSAM_PROMPTABLE, shapes)
    assert report.unequal == (name,)


def test_a_tensor_that_is_not_there_is_named_as_published(
    published: dict[str, Tensor], shapes: Shapes
) -> None:
    name = PREDICTOR + "pb_embedding.weight"
    fewer = {key: tensor for key, tensor in published.items() if key != name}
    _, report = to_native(fewer, UNSAM_PROMPTABLE, shapes)
    assert report.missing == (name,)


@pytest.mark.parametrize(("dim", "size"), [(96, "T"), (192, "L")])
def test_the_backbone_tells_the_recipe(dim: int, size: str) -> None:
    weights = {
        "model.backbone.patch_embed.norm.weight": torch.ones(dim),
        PREDICTOR + "mask_tokens.weight": torch.ones(6, 4),
        PREDICTOR + "pb_embedding.weight": torch.ones(2, 4),
    }
    assert UNSAM_PROMPTABLE.matches(weights)
    assert UNSAM_PROMPTABLE.recipe(weights) == Recipe(f"unsam/promptable_Swin{size}.yaml")
    weights[PREDICTOR + "mask_tokens.weight"] = torch.ones(4, 4)
    assert UNSAM_PROMPTABLE.recipe(weights).overrides == ("MODEL.PROMPTED_DECODER.NUM_TOKENS", 4)


def test_other_files_are_not_of_this_layout() -> None:
    whole_image = {"sem_seg_head.predictor.query_feat.weight": torch.ones(1, 1)}
    assert not UNSAM_PROMPTABLE.matches(whole_image)
    assert UNSAM_PROMPTABLE.published("decoder.query_embedding.weight") == ()
