"""Names change and values do not; every tensor that finds no place is counted and named."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from unsam.checkpoint.conversion import detect_layout, require_complete, to_native, to_published
from unsam.checkpoint.layouts import LAYOUTS
from unsam.checkpoint.layouts.base import Layout, Recipe
from unsam.errors import CheckpointError

NAMES = {
    "encoder.weight": ("trunk.w",),
    "encoder.bias": ("trunk.b",),
    "code": ("pe.matrix",),
    "code_again": ("pe.matrix",),
    "points": ("point.0", "point.1", "point.2"),
    "same": ("same",),
}
LAYOUT = Layout(
    name="toy",
    title="Toy",
    matches=lambda weights: "trunk.w" in weights,
    recipe=lambda weights: Recipe("toy.yaml", ("MODEL.QUERIES", len(weights["trunk.b"]))),
    published=lambda name: NAMES.get(name, ()),
    aliases=lambda name: "same" if name == "same_again" else None,
    computed=(r"table\.\d+",),
    computed_values=lambda native: {"table.0": torch.arange(2), "same_again": native["same"]},
    fresh=(r"extra\..*",),
)


@pytest.fixture
def native():
    generator = torch.Generator().manual_seed(0)
    code = torch.randn(2, 2, generator=generator)
    return {
        "encoder.weight": torch.randn(3, 2, generator=generator),
        "encoder.bias": torch.randn(3, generator=generator),
        "code": code,
        "code_again": code.clone(),
        "points": torch.randn(3, 4, generator=generator),
        "same": torch.randn(5, generator=generator),
    }


@pytest.fixture
def published(native):
    return to_published(native, LAYOUT, "toy")


def shapes(native):
    return {name: tensor.shape for name, tensor in native.items()}


def test_there_and_back_is_bit_equal(native, published):
    assert set(published) == {
        *("trunk.w", "trunk.b", "pe.matrix", "point.0", "point.1", "point.2"),
        *("same", "same_again", "table.0"),
    }
    assert published["point.1"].shape == (1, 4)
    # A slice would drag the whole tensor into a file.
    assert published["point.1"].untyped_storage().nbytes() == 16
    back, report = to_native(published, LAYOUT, shapes(native))
    assert back.keys() == native.keys()
    assert all(torch.equal(back[name], native[name]) for name in native)
    assert report.is_complete
    assert report.num_matched == 7
    assert report.repeats == ("same_again",)
    assert report.computed == ("table.0",)
    require_complete(report, "file.pth")


def test_the_table_counts_and_names(native, published):
    del published["trunk.b"]
    published["head.weight"] = torch.zeros(1)
    published["trunk.w"] = torch.zeros(7, 2)
    layout = dataclasses.replace(LAYOUT, recipe=lambda weights: Recipe("toy.yaml"))
    _, report = to_native(published, layout, shapes(native) | {"extra.a": torch.Size([1])})
    lines = report.table().splitlines()
    assert lines[0] == "Toy (toy), made with toy.yaml"
    counts = {line[:20].strip(): int(line[20:]) for line in lines[1:10]}
    assert counts == {
        "matched": 5,
        "renamed": 2,
        "repeats": 1,
        "computed": 1,
        "fresh": 1,
        "missing": 1,
        "left over": 1,
        "of another shape": 1,
        "unequal repeats": 0,
    }
    text = report.table()
    assert "missing:\n  trunk.b" in text
    assert "left over:\n  head.weight" in text
    assert "trunk.w [7, 2] in the file, [3, 2] in the model" in text
    assert "     1 x point.*, ... -> points" in text
    assert "same -> same" not in text


def test_a_partial_fit_is_refused_in_one_line_unless_allowed(native, published):
    del published["point.1"]
    published["head.weight"] = torch.zeros(1)
    back, report = to_native(published, LAYOUT, shapes(native))
    assert "points" not in back
    with pytest.raises(CheckpointError) as caught:
        require_complete(report, "file.pth")
    text = str(caught.value)
    assert "\n" not in text
    assert "file.pth: weights of Toy do not fit the model: 1 missing (point.1)" in text
    assert "3 left over (point.0, point.2, head.weight)" in text
    assert "0 of another shape" in text
    assert "the 4 that fit with convert-checkpoint --allow-partial" in text
    require_complete(report, "file.pth", allow_partial=True)


def test_other_settings_are_named(native, published):
    expected = shapes(native) | {"encoder.bias": torch.Size([9])}
    _, report = to_native(published, LAYOUT, expected)
    with pytest.raises(CheckpointError) as caught:
        require_complete(report, "file.pth")
    assert "trunk.b [3] in the file, [9] in the model" in str(caught.value)
    assert "made with toy.yaml MODEL.QUERIES 3: use that config" in str(caught.value)


def test_what_published_files_never_have_stays_as_it_is(native, published):
    expected = shapes(native) | {"extra.token": torch.Size([4])}
    back, report = to_native(published, LAYOUT, expected)
    assert report.fresh == ("extra.token",)
    assert "extra.token" not in back
    assert report.is_complete


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused_always(native, published, value):
    published["trunk.w"][1, 1] = value
    _, report = to_native(published, LAYOUT, shapes(native))
    with pytest.raises(CheckpointError, match=r"1 with NaN or infinity \(trunk\.w\)"):
        require_complete(report, "file.pth", allow_partial=True)


def test_large_finite_numbers_are_numbers(native, published):
    published["trunk.w"].fill_(3e38)
    _, report = to_native(published, LAYOUT, shapes(native))
    assert not report.not_finite


def test_repeats_that_differ_are_no_repeats(native, published):
    published["same_again"] = published["same"] + 1
    _, report = to_native(published, LAYOUT, shapes(native))
    assert report.unequal == ("same_again",)
    with pytest.raises(CheckpointError, match=r"1 unequal repeats \(same_again\)"):
        require_complete(report, "file.pth")


def test_a_layout_that_cannot_hold_a_model_says_so(native):
    with pytest.raises(CheckpointError, match=r"1 without a name in it \(extra\.token\)"):
        to_published(native | {"extra.token": torch.zeros(1)}, LAYOUT, "Sam")
    native["code_again"] = native["code"] + 1
    with pytest.raises(CheckpointError, match=r"1 that it holds once but differ \(pe\.matrix\)"):
        to_published(native, LAYOUT, "Sam")


def test_parts_that_do_not_go_together_are_of_another_shape(native, published):
    published["point.1"] = torch.zeros(1, 5)
    back, report = to_native(published, LAYOUT, shapes(native))
    assert "points" not in back
    assert len(report.other_shape) == 1


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (
            ["proposal_generator.rpn_head.conv.weight", "roi_heads.box_head.0.fc1.weight"],
            "DIVIDE.CUTLER.WEIGHTS",
        ),
        (["proposal_generator.rpn_head.conv.weight"], "a detector of detectron2"),
        (["cls_token", "blocks.0.attn.qkv.weight"], "FEATURES.VIT.WEIGHTS"),
        (["stem.conv1.weight", "res2.0.conv1.weight"], "MODEL.BACKBONE.NAME ResNet50"),
        (["conv1.weight", "layer1.0.conv1.weight"], "MODEL.BACKBONE.NAME ResNet50"),
        (
            ["patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table"],
            "MODEL.BACKBONE.NAME SwinTransformer",
        ),
        (["psp.bottleneck.weight", "feats.conv1.weight"], "REFINE.CASCADEPSP.WEIGHTS"),
        (["sem_seg_head.predictor.query_feat.weight"], "know no classes"),
        (["wte.weight", "wpe.weight"], r"unknown model \(2 tensors: wte.weight, wpe.weight"),
    ],
)
def test_other_files_are_named_with_their_use(names, text):
    with pytest.raises(CheckpointError, match=text) as caught:
        detect_layout({name: torch.zeros(1) for name in names}, "file.pth")
    assert "\n" not in str(caught.value)


def test_layouts_have_names_of_their_own():
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


@pytest.mark.parametrize("pack", ["unsam_whole", "unsam_promptable", "sam", "sam2", "unsamv2"])
def test_one_layout_and_no_other_matches_a_published_file(golden_root, pack):
    keys = json.loads((golden_root / pack / "keys.json").read_text())
    weights = {name: torch.empty(entry["shape"], device="meta") for name, entry in keys.items()}
    assert [layout.name for layout in LAYOUTS if layout.matches(weights)] == [pack]
