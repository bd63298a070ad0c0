"""A model as a folder, and as a repository of the hub; no network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from unsam.checkpoint import hub
from unsam.checkpoint.foreign_weights import read_weights_file
from unsam.checkpoint.hub import fetch_repository, model_card, push_to_hub, save_pretrained
from unsam.config import get_cfg, load_config
from unsam.errors import CheckpointError


@pytest.fixture
def folder(tmp_path):
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = "somewhere/else.pth"
    return save_pretrained(nn.Linear(3, 2), cfg, tmp_path / "owner" / "name", metrics={"AR": 0.5})


def cached(cache: Path, repo_id: str, files: dict[str, bytes]) -> None:
    """Lay files out as the hub's own cache does after a download."""
    root = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = root / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)


def test_a_folder_has_config_weights_and_card(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.yaml",
        "model.safetensors",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["name"]
    cfg = load_config(folder / "config.yaml")
    # Where the weights once came from is of no use to who loads the folder.
    assert cfg.MODEL.WEIGHTS == ""
    assert set(read_weights_file(folder / "model.safetensors").tensors) == {"weight", "bias"}
    card = (folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "unsam"
    assert "| parameters | 8 |" in card
    assert "| AR | 0.5 |" in card


def test_nothing_is_overwritten(folder):
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="is there already"):
        save_pretrained(nn.Linear(3, 2), get_cfg(), folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "save_weights", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        save_pretrained(nn.Linear(3, 2), get_cfg(), tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("unsamv2/sam2_hiera_small.yaml", "SAM 2.1 Hiera small"),
        ("unsam/promptable_SwinL.yaml", "SwinTransformer large"),
        ("unsam/whole_image_R50.yaml", "ResNet50"),
        ("sam/sam_vit_b.yaml", "SAM ViT base"),
    ],
)
def test_cards_name_the_system(config, text):
    card = model_card(load_config(config), 10**7, {})
    assert text in card
    assert "10,000,000" in card
    assert ("granularity | yes" in card) == config.startswith("unsamv2")
    assert "metric" not in card


def test_pushing_uploads_the_folder(folder, monkeypatch):
    calls = []

    class FakeApi:
        def __init__(self, token):
            calls.append(("token", token))

        def create_repo(self, repo_id, **options):
            calls.append((repo_id, options))
            return f"https://huggingface.co/{repo_id}"

        def upload_folder(self, **options):
            calls.append(options)

    monkeypatch.setattr("huggingface_hub.HfApi", FakeApi)
    address = push_to_hub(folder, "owner/name", private=True, token="secret")
    assert address == "https://huggingface.co/owner/name"
    assert calls[0] == ("token", "secret")
    assert calls[1] == ("owner/name", {"private": True, "exist_ok": True})
    assert calls[2]["folder_path"] == str(folder)
    (folder / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"without config\.yaml"):
        push_to_hub(folder, "owner/name")


class Unreachable(Exception):
    """As the HTTP library of the hub's client raises it: neither an OSError nor a ValueError."""


@pytest.mark.parametrize("error", [OSError, Unreachable])
def test_a_hub_that_refuses_is_one_line(folder, monkeypatch, error):
    class RefusingApi:
        def __init__(self, token):
            pass

        def create_repo(self, *arguments, **options):
            raise error("401 Client Error.\n\nUnauthorized")

    monkeypatch.setattr("huggingface_hub.HfApi", RefusingApi)
    with pytest.raises(CheckpointError, match="hf auth login") as caught:
        push_to_hub(folder, "owner/name")
    assert "\n" not in str(caught.value)


def test_repositories_come_from_the_cache_without_a_network(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cache = tmp_path / "cache"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    cached(cache, "owner/name", files)
    found = fetch_repository("owner/name", cache_dir=str(cache))
    assert (found / "config.yaml").is_file()
    assert (found / "model.safetensors").is_file()
    cached(cache, "owner/plain", {"model.safetensors": files["model.safetensors"]})
    assert fetch_repository("owner/plain", cache_dir=str(cache)).name == "model.safetensors"
    with pytest.raises(CheckpointError, match="owner/none") as caught:
        fetch_repository("owner/none", cache_dir=str(cache))
    assert "\n" not in str(caught.value)


def test_weights_survive_the_way(tmp_path):
    model = nn.Linear(3, 2)
    folder = save_pretrained(model, get_cfg(), tmp_path / "model")
    read = read_weights_file(folder / "model.safetensors").tensors
    assert torch.equal(model.weight, read["weight"])
