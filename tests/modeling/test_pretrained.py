"""Any published or own weights give the model that they are for, and nothing else loads."""

from __future__ import annotations

import json

import pytest
import torch

from tests.golden_weights import recipe_state_dict
from unsam.checkpoint.checkpointer import save_weights
from unsam.checkpoint.conversion import detect_layout, require_complete, to_native, to_published
from unsam.checkpoint.hub import save_pretrained
from unsam.checkpoint.layouts.sam2 import SAM2
from unsam.config import config_text, load_config
from unsam.errors import CheckpointError, ConfigError
from unsam.modeling import build_model
from unsam.modeling.pretrained import (
    build_without_values,
    load_pretrained,
    load_weights_into,
    locate,
    open_pretrained,
)

SMALL = ["INPUT.IMAGE_SIZE", "64"]
TINY = load_config("sam2/sam2.1_hiera_tiny.yaml", SMALL)
OWN = load_config("quickstart/tiny.yaml", ["MODEL.EMBED_DIM", "32"])


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def sam2():
    torch.manual_seed(0)
    return build_model(TINY)


@pytest.fixture(scope="module")
def sam2_file(sam2, tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "renamed by someone"
    torch.save({"model": to_published(sam2.state_dict(), SAM2, "Sam2")}, path)
    return path


@pytest.fixture
def own():
    return build_model(OWN)


def test_a_published_file_tells_its_model(sam2, sam2_file):
    model, cfg = load_pretrained(sam2_file, overrides=SMALL)
    assert (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SAM2.SIZE) == ("Sam2", "tiny")
    assert equal(model.state_dict(), sam2.state_dict())
    plain = dict(sam2.named_buffers())
    assert all(torch.equal(buffer, plain[name]) for name, buffer in model.named_buffers())


def test_granularity_starts_on_top_of_a_published_model(sam2, sam2_file):
    granular = [*SMALL, "MODEL.GRANULARITY.ENABLED", "True"]
    loaded = open_pretrained(sam2_file, overrides=granular)
    new = loaded.model.state_dict()
    assert all(torch.equal(new[name], tensor) for name, tensor in sam2.state_dict().items())
    assert set(loaded.report.fresh) == set(new) - set(sam2.state_dict())
    # The new parts start as in training: low-rank updates at zero, their other half not.
    assert any(name.endswith("lora_a") and new[name].std() > 0.001 for name in new)
    assert all(not new[name].any() for name in new if name.endswith("lora_b"))


def test_weights_go_into_a_model_that_is_there(sam2, sam2_file):
    model = build_model(
        load_config("unsamv2/sam2_hiera_small.yaml", [*SMALL, "MODEL.SAM2.SIZE", "tiny"])
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_weights_into(model, sam2_file)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in sam2.state_dict().items())
    assert all(torch.equal(after[name], before[name]) for name in report.fresh)


def test_weights_of_another_model_change_nothing(sam2_file, own):
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    with pytest.raises(CheckpointError, match="weights of SAM 2 do not fit") as caught:
        load_weights_into(own, sam2_file)
    assert "\n" not in str(caught.value)
    assert equal(own.state_dict(), before)


def test_own_folders_and_files(own, tmp_path):
    folder = save_pretrained(own, OWN, tmp_path / "model")
    save_weights(own, tmp_path / "model.safetensors", config_text(OWN))
    for source in (
        folder,
        tmp_path / "model.safetensors",
        (tmp_path / "model.safetensors").as_uri(),
    ):
        model, cfg = load_pretrained(source)
        assert equal(model.state_dict(), own.state_dict())
        assert cfg.MODEL.EMBED_DIM == 32
        other = build_model(OWN)
        load_weights_into(other, source)
        assert equal(other.state_dict(), own.state_dict())
    _, cfg = load_pretrained(folder, overrides=["INFERENCE.POINTS_PER_SIDE", "5"])
    assert cfg.INFERENCE.POINTS_PER_SIDE == 5
    with pytest.raises(ConfigError, match="unknown key"):
        load_pretrained(folder, overrides=["INFERENCE.POINTZ", "5"])
    with (folder / "config.yaml").open("a") as config:
        config.write("OF_A_LATER_VERSION: 1\n")
    with pytest.raises(ConfigError, match="unknown key OF_A_LATER_VERSION"):
        load_pretrained(folder)


def test_own_names_without_a_config_need_one(own, tmp_path):
    torch.save(own.state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="unknown model"):
        open_pretrained(tmp_path / "a.pth")
    (tmp_path / "own.yaml").write_text(config_text(OWN))
    loaded = open_pretrained(tmp_path / "a.pth", config_file=str(tmp_path / "own.yaml"))
    assert equal(loaded.model.state_dict(), own.state_dict())


def test_a_folder_with_a_name_of_the_zoo_is_a_folder(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pretrained(own, OWN, "unsamv2")
    assert equal(load_pretrained("unsamv2")[0].state_dict(), own.state_dict())


def test_own_names_without_a_config_go_into_a_model(own, tmp_path):
    torch.save(own.state_dict(), tmp_path / "a.pth")
    other = build_model(OWN)
    load_weights_into(other, tmp_path / "a.pth")
    assert equal(other.state_dict(), own.state_dict())


def test_other_settings_and_nan_are_one_line(own, tmp_path):
    folder = save_pretrained(own, OWN, tmp_path / "model")
    with pytest.raises(CheckpointError, match="of another shape") as caught:
        load_pretrained(folder, overrides=["MODEL.EMBED_DIM", "64"])
    assert "\n" not in str(caught.value)
    name, tensor = next(iter(own.state_dict().items()))
    tensor.view(-1)[0] = float("nan")
    save_weights(own, tmp_path / "nan.safetensors", config_text(OWN))
    with pytest.raises(CheckpointError, match=f"with NaN or infinity .{name}"):
        load_pretrained(tmp_path / "nan.safetensors", allow_partial=True)


def test_a_partial_load_needs_to_be_asked_for(own, tmp_path):
    state = dict(own.state_dict())
    lost = next(iter(state))
    del state[lost]
    torch.save(state, tmp_path / "a.pth")
    other = build_model(OWN)
    kept = other.state_dict()[lost].clone()
    with pytest.raises(CheckpointError, match=f"1 missing .{lost}"):
        load_weights_into(other, tmp_path / "a.pth")
    report = load_weights_into(other, tmp_path / "a.pth", allow_partial=True)
    assert report.missing == (lost,)
    assert torch.equal(other.state_dict()[lost], kept)
    assert all(torch.equal(other.state_dict()[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("unsamv3", "did you mean 'unsamv2'"),
        ("unsam_whole_image", r"download unsam_sa1b_4perc_ckpt_200k\.pth from https://drive"),
        ("cutler", r"no whole model; PSEUDO_MASKS\.DIVIDE\.CUTLER\.WEIGHTS takes"),
        ("nowhere/model.pth", "no such file or folder"),
        ("file:///nowhere/model.pth", "no such weights file"),
    ],
)
def test_sources_that_are_none(source, text):
    with pytest.raises(CheckpointError, match=text) as caught:
        load_pretrained(source)
    assert "\n" not in str(caught.value)


def test_names_of_the_zoo_are_fetched_and_checked(tmp_path, monkeypatch):
    calls = []

    def fetch(source, sha256=""):
        calls.append((source, sha256))
        return tmp_path

    monkeypatch.setattr("unsam.modeling.pretrained.fetch_weights", fetch)
    assert locate("unsamv2_plus") == tmp_path
    assert locate("sam_vit_b") == tmp_path
    assert calls[0][0] == "hf://yujunwei04/UnSAMv2/unsamv2_plus.pt"
    assert calls[0][1].startswith("4067a696")
    assert calls[1][0].endswith("/sam_vit_b_01ec64.pth")


def test_hub_names_are_fetched(own, tmp_path, monkeypatch):
    folder = save_pretrained(own, OWN, tmp_path / "model")
    monkeypatch.setattr("unsam.modeling.pretrained.fetch_repository", lambda name: folder / "")
    for source in ("owner/name", "hf://owner/name", "owner/sam2.1-hiera-small"):
        assert equal(load_pretrained(source)[0].state_dict(), own.state_dict())


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(CheckpointError, match=r"no model folder, without model\.safetensors"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "config",
    ["unsam/promptable_SwinT.yaml", "unsam/whole_image_R50.yaml", "unsamv2/sam2_hiera_small.yaml"],
)
def test_a_build_without_random_values_is_right_in_all_else(config):
    cfg = load_config(config, ["INPUT.IMAGE_SIZE", "64", "MODEL.QUERY_DECODER.NUM_QUERIES", "5"])
    usual, bare = build_model(cfg), build_without_values(cfg)
    saved = usual.state_dict()
    assert {key: value.shape for key, value in saved.items()} == {
        key: value.shape for key, value in bare.state_dict().items()
    }
    others = dict(bare.named_buffers())
    unsaved = [(name, b) for name, b in usual.named_buffers() if name not in saved]
    assert unsaved
    assert all(torch.equal(buffer, others[name]) for name, buffer in unsaved)


@pytest.mark.parametrize("pack", ["unsam_whole", "unsam_promptable", "unsamv2", "sam2", "sam"])
def test_golden(golden_root, pack):
    folder = golden_root / pack
    if not folder.is_dir():
        pytest.skip(f"no pack {pack}")
    keys = json.loads((folder / "keys.json").read_text())
    published = recipe_state_dict(folder)
    layout = detect_layout(published, pack)
    assert layout.name == pack
    recipe = layout.recipe(published)
    model = build_without_values(load_config(recipe.config, [*map(str, recipe.overrides)]))
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    native, report = to_native(published, layout, shapes)
    require_complete(report, pack)
    assert not report.fresh
    accounted = report.num_matched + len(report.repeats) + len(report.computed)
    assert accounted == len(published)
    back = to_published(native, layout, pack)
    assert {name: list(tensor.shape) for name, tensor in back.items()} == {
        name: entry["shape"] for name, entry in keys.items()
    }
    assert all(torch.equal(back[name], tensor) for name, tensor in published.items())
