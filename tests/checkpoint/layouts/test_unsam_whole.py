from __future__ import annotations

import json

import pytest
import torch

from unsam.checkpoint.conversion import to_native, to_published
from unsam.checkpoint.layouts.base import Recipe
from unsam.checkpoint.layouts.unsam_whole import UNSAM_WHOLE

_HEAD = "sem_seg_head.predictor."


@pytest.fixture
def published(golden_root) -> dict[str, torch.Tensor]:
    """Every published tensor in its shape, without memory of its own."""
    keys = json.loads((golden_root / "unsam_whole" / "keys.json").read_text())
    return {name: torch.zeros(()).expand(entry["shape"]) for name, entry in keys.items()}


def _expected() -> dict[str, torch.Size]:
    # Imported here: the layout itself knows no model.
    from unsam.config import get_cfg
    from unsam.modeling.build import build_model

    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "Mask2Former"
    with torch.device("meta"):
        model = build_model(cfg)
    return {name: value.shape for name, value in model.state_dict().items()}


def test_all_558_tensors_find_their_place(published):
    assert len(published) == 558
    assert UNSAM_WHOLE.matches(published)
    native, report = to_native(published, UNSAM_WHOLE, _expected())
    assert report.is_complete
    assert report.computed == ("criterion.empty_weight",)
    assert len(native) == 557


def test_writing_gives_the_file_back(published):
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.rand((), generator=generator).expand(value.shape)
        for name, value in published.items()
    }
    weights["criterion.empty_weight"] = torch.tensor((1.0, 0.1))
    native, _ = to_native(weights, UNSAM_WHOLE, _expected())
    written = to_published(native, UNSAM_WHOLE, "model")
    assert set(written) == set(weights)
    assert all(torch.equal(written[name], value) for name, value in weights.items())


def test_the_recipe_is_read_off_the_tensors(published):
    assert UNSAM_WHOLE.recipe(published) == Recipe("unsam/whole_image_R50.yaml")
    published[_HEAD + "query_feat.weight"] = torch.zeros(300, 256)
    assert UNSAM_WHOLE.recipe(published) == Recipe(
        "unsam/whole_image_R50.yaml", ("MODEL.QUERY_DECODER.NUM_QUERIES", 300)
    )


@pytest.mark.parametrize(("width", "overrides"), [(192, ()), (96, ("MODEL.BACKBONE.SIZE", "tiny"))])
def test_swin_backbones_are_told_by_their_width(published, width, overrides):
    swin = {name: value for name, value in published.items() if "backbone." not in name}
    swin["backbone.patch_embed.proj.weight"] = torch.zeros(width, 3, 4, 4)
    assert UNSAM_WHOLE.recipe(swin) == Recipe("unsam/whole_image_SwinL.yaml", overrides)


def test_mask2former_of_coco_classes_is_another_model(published):
    published[_HEAD + "class_embed.weight"] = torch.zeros(81, 256)
    assert not UNSAM_WHOLE.matches(published)


def test_tensors_of_granularity_have_no_published_name():
    assert UNSAM_WHOLE.published("query_decoder.film.modulation.weight") == ()
    assert UNSAM_WHOLE.published("image_encoder.conv.weight") == ()
    assert UNSAM_WHOLE.published("backbone.stages.0.blocks.1.norm1.bias") == (
        "backbone.layers.0.blocks.1.norm1.bias",
    )


def test_files_with_a_swin_backbone_have_its_tables_of_positions():
    name = "backbone.stages.0.blocks.1.attention.offset_bias"
    written = to_published({name: torch.zeros((2 * 7 - 1) ** 2, 3)}, UNSAM_WHOLE, "model")
    table = written["backbone.layers.0.blocks.1.attn.relative_position_index"]
    assert table.shape == (49, 49)
    # A cell sees itself in the middle row of the table; sight is symmetric about it.
    assert (table.diagonal() == 84).all()
    assert (table + table.T == 2 * 84).all()
    assert len(table.unique()) == 169
