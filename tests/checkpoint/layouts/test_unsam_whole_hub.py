"""The names that transformers has for whole-image UnSAM, against transformers' own model."""

from __future__ import annotations

import pytest
import torch
from transformers import Mask2FormerForUniversalSegmentation

from unsam.checkpoint.conversion import detect_layout, to_native, to_published
from unsam.checkpoint.foreign_weights import read_weights_file
from unsam.checkpoint.layouts.base import Recipe
from unsam.checkpoint.layouts.unsam_whole import UNSAM_WHOLE
from unsam.checkpoint.layouts.unsam_whole_hub import UNSAM_WHOLE_HUB
from unsam.config import load_config
from unsam.errors import CheckpointError
from unsam.modeling.build import build_model
from unsam.modeling.transformers_config import transformers_config

CONFIGS = ["unsam/whole_image_R50.yaml", "unsam/whole_image_SwinT.yaml"]


def native(config: str, *overrides: object) -> dict[str, torch.Tensor]:
    """Return every tensor of ours with a value of its own, without memory of its own."""
    with torch.device("meta"):
        model = build_model(load_config(config, [str(word) for word in overrides]))
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    return {
        name: torch.tensor(float(index)).expand(shape)
        for index, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("config", CONFIGS)
def test_names_and_shapes_are_those_that_transformers_writes(config, tmp_path):
    with torch.device("meta"):
        theirs = Mask2FormerForUniversalSegmentation(transformers_config(load_config(config)))
    # Written and not listed: names in files differ from those of the modules.
    theirs.to_empty(device="cpu").save_pretrained(tmp_path)
    expected = read_weights_file(tmp_path / "model.safetensors").tensors
    published = to_published(native(config), UNSAM_WHOLE_HUB, "model")
    assert {name: value.shape for name, value in published.items()} == {
        name: value.shape for name, value in expected.items()
    }
    counters = [name for name in published if name.endswith("num_batches_tracked")]
    assert all(published[name].dtype == torch.int64 for name in counters)
    assert len(counters) == (53 if "R50" in config else 0)


@pytest.mark.parametrize("config", CONFIGS)
def test_there_and_back_is_bit_equal(config):
    ours = native(config)
    published = to_published(ours, UNSAM_WHOLE_HUB, "model")
    assert detect_layout(published, "model") is UNSAM_WHOLE_HUB
    shapes = {name: value.shape for name, value in ours.items()}
    back, report = to_native(published, UNSAM_WHOLE_HUB, shapes)
    assert report.is_complete
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], ours[name]) for name in ours)


@pytest.mark.parametrize(
    ("backbone", "stem", "width"),
    [
        ("R50", "embedder.embedder.convolution", 64),
        ("SwinT", "embeddings.patch_embeddings.projection", 96),
        ("SwinL", "embeddings.patch_embeddings.projection", 192),
    ],
)
def test_the_recipe_is_read_off_the_tensors(backbone, stem, width):
    queries = "model.transformer_module.queries_features.weight"
    weights = {
        f"model.pixel_level_module.encoder.{stem}.weight": torch.zeros(width, 3, 4, 4),
        "class_predictor.weight": torch.zeros(2, 8),
        queries: torch.zeros(2000, 8),
    }
    config = f"unsam/whole_image_{backbone}.yaml"
    assert UNSAM_WHOLE_HUB.matches(weights)
    assert UNSAM_WHOLE_HUB.recipe(weights) == Recipe(config)
    weights[queries] = torch.zeros(300, 8)
    assert UNSAM_WHOLE_HUB.recipe(weights) == Recipe(
        config, ("MODEL.QUERY_DECODER.NUM_QUERIES", 300)
    )


def test_layouts_of_the_same_model_are_told_apart():
    ours = native(CONFIGS[0])
    assert not UNSAM_WHOLE_HUB.matches(to_published(ours, UNSAM_WHOLE, "model"))
    theirs = to_published(ours, UNSAM_WHOLE_HUB, "model")
    assert not UNSAM_WHOLE.matches(theirs)
    # Mask2Former of transformers for the 80 classes of COCO.
    theirs["class_predictor.weight"] = torch.zeros(81, 256)
    assert not UNSAM_WHOLE_HUB.matches(theirs)


@pytest.mark.parametrize(
    ("config", "overrides", "named"),
    [
        (CONFIGS[0], ("MODEL.QUERY_DECODER.GRANULARITY", "film"), "query_decoder.film."),
        ("unsam/whole_image_SamVitB.yaml", (), "backbone."),
    ],
)
def test_what_transformers_does_not_have_has_no_name(config, overrides, named):
    with pytest.raises(CheckpointError, match=rf"without a name in it \({named}"):
        to_published(native(config, *overrides), UNSAM_WHOLE_HUB, "model")
