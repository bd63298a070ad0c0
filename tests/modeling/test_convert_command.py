"""``unsam convert-checkpoint``: each form into each other, and one line for every mistake."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    Mask2FormerForUniversalSegmentation,
    Sam2VideoModel,
)

from tests.golden_weights import recipe_state_dict
from unsam.checkpoint.conversion import to_published
from unsam.checkpoint.foreign_weights import read_weights_file
from unsam.checkpoint.hub import save_pretrained
from unsam.checkpoint.layouts.sam2 import SAM2
from unsam.checkpoint.layouts.unsamv2 import UNSAMV2, UNSAMV2_MERGED
from unsam.cli import main
from unsam.config import load_config
from unsam.errors import CheckpointError
from unsam.modeling import Prompts, build_model
from unsam.modeling.lora import LoraLinear
from unsam.modeling.pretrained import load_pretrained
from unsam.modeling.segmentation_model import padded_pixels
from unsam.modeling.transformers_config import transformers_config, transformers_processor

SMALL = ["INPUT.IMAGE_SIZE", "64"]
OPTS = ["--opts", *SMALL]
SMALL_QUERIES = [
    *("INPUT.SHORTER_SIDE", "64"),
    *("MODEL.PIXEL_DECODER.DIM", "32"),
    *("MODEL.PIXEL_DECODER.MASK_DIM", "64"),
    *("MODEL.PIXEL_DECODER.NUM_LAYERS", "2"),
    *("MODEL.PIXEL_DECODER.NUM_HEADS", "4"),
    *("MODEL.PIXEL_DECODER.FFN_DIM", "48"),
    *("MODEL.QUERY_DECODER.NUM_QUERIES", "12"),
    *("MODEL.QUERY_DECODER.NUM_LAYERS", "4"),
    *("MODEL.QUERY_DECODER.NUM_HEADS", "4"),
    *("MODEL.QUERY_DECODER.FFN_DIM", "40"),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Tensors as the authors of SAM 2 name them, and a file of them."""
    torch.manual_seed(0)
    model = build_model(load_config("sam2/sam2.1_hiera_tiny.yaml", SMALL))
    tensors = to_published(model.state_dict(), SAM2, "Sam2")
    path = tmp_path_factory.mktemp("published") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": tensors}, path)
    return tensors, path


@pytest.fixture(scope="module")
def native(published, tmp_path_factory):
    folder = tmp_path_factory.mktemp("native") / "model"
    assert main(["convert-checkpoint", str(published[1]), str(folder), *OPTS]) == 0
    return folder


def mistake(capsys, *words):
    assert main(["convert-checkpoint", *map(str, words)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_published_to_native_and_back_is_bit_equal(published, native, tmp_path, capsys):
    tensors, _ = published
    assert sorted(path.name for path in native.iterdir()) == [
        "README.md",
        "config.yaml",
        "model.safetensors",
    ]
    target = tmp_path / "back.pt"
    assert main(["convert-checkpoint", str(native), str(target), "--to", "published"]) == 0
    assert f"{target}: {len(tensors)} tensors, published" in capsys.readouterr().out
    assert list(torch.load(target, weights_only=True)) == ["model"]
    back = read_weights_file(target).tensors
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_the_table_is_printed(published, tmp_path, capsys):
    target = tmp_path / "model.safetensors"
    assert main(["convert-checkpoint", str(published[1]), str(target), *OPTS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "SAM 2 (sam2), made with sam2/sam2.1_hiera_tiny.yaml"
    assert lines[1].split() == ["matched", str(len(published[0]))]
    assert any(line.endswith("no_mem_embed -> network.no_memory_embedding") for line in lines)
    assert load_pretrained(target)[1].MODEL.SAM2.SIZE == "tiny"


def test_transformers_loads_what_is_written_for_it(native, tmp_path):
    target = tmp_path / "hub"
    words = [str(native), str(target), "--to", "huggingface"]
    assert main(["convert-checkpoint", *words]) == 0
    theirs, info = Sam2VideoModel.from_pretrained(target, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ours = load_pretrained(native)[0].network
    assert all(torch.equal(ours.state_dict()[k], v) for k, v in theirs.state_dict().items())
    again = load_pretrained(target, overrides=SMALL)[0].network
    assert all(torch.equal(again.state_dict()[k], v) for k, v in theirs.state_dict().items())


@torch.inference_mode()
def whole_image_logits(ours, theirs, pixels):
    """Return class and mask logits of our Mask2Former, and those of transformers'."""
    features = ours.pixel_decoder(ours.backbone(pixels))
    found = ours.query_decoder(features)[-1]
    masks = torch.einsum("bnc,bchw->bnhw", found.mask_embeddings, features.mask_features)
    expected = theirs(pixel_values=pixels)
    return (
        (found.class_logits, expected.class_queries_logits),
        (masks, expected.masks_queries_logits),
    )


def loaded_by_transformers(folder):
    theirs, info = Mask2FormerForUniversalSegmentation.from_pretrained(
        folder, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return theirs.eval()


@pytest.mark.parametrize("backbone", ["R50", "SwinT"])
def test_transformers_mask2former_gives_our_logits(backbone, tmp_path):
    cfg = load_config(f"unsam/whole_image_{backbone}.yaml", SMALL_QUERIES)
    torch.manual_seed(0)
    ours = build_model(cfg)
    with torch.no_grad():
        for tensor in ours.state_dict().values():
            # Norms and biases start as ones and zeros, which would hide a mistaken name.
            tensor.add_(0.1 * torch.rand_like(tensor))
    words = [str(save_pretrained(ours, cfg, tmp_path / "own")), str(tmp_path / "hub")]
    assert main(["convert-checkpoint", *words, "--to", "huggingface"]) == 0

    theirs = loaded_by_transformers(tmp_path / "hub")
    again = load_pretrained(tmp_path / "hub", overrides=SMALL_QUERIES)[0].state_dict()
    assert again.keys() == ours.state_dict().keys()
    assert all(torch.equal(again[name], value) for name, value in ours.state_dict().items())
    pixels = torch.randn(2, 3, 96, 160, dtype=torch.float64)
    for found, expected in whole_image_logits(ours.double().eval(), theirs.double(), pixels):
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


@pytest.mark.parametrize("pack", ["unsam_whole"])
def test_golden(golden_root, pack, tmp_path):
    torch.save({"model": recipe_state_dict(golden_root / pack)}, tmp_path / "published.pth")
    words = [str(tmp_path / "published.pth"), str(tmp_path / "hub"), "--to", "huggingface"]
    assert main(["convert-checkpoint", *words]) == 0
    theirs = loaded_by_transformers(tmp_path / "hub").double()
    cut = ["INPUT.SHORTER_SIDE", "128"]
    ours = load_pretrained(tmp_path / "hub", overrides=cut)[0].double().eval()
    photo = np.asarray(Image.open(golden_root / pack / "photo.png").convert("RGB"))
    size = ours.frame(photo.shape[:2]).padded_size
    pixels = padded_pixels([ours.prepare(photo)], size, ours.pixel_mean, ours.pixel_std)
    # In float32 the hard attention masks turn rounding into other masks.
    for found, expected in whole_image_logits(ours, theirs, pixels):
        assert (found - expected).abs().max() < 1e-9 * expected.abs().max()


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ("sam/sam_vit_b.yaml", (64, 64)),
        ("sam2/sam2.1_hiera_tiny.yaml", (64, 64)),
        ("unsam/whole_image_R50.yaml", (32, 96)),
    ],
)
def test_transformers_prepares_photos_in_our_size_and_scale(config, shape, tmp_path):
    cfg = load_config(config, [*SMALL, "INPUT.SHORTER_SIDE", "32"])
    transformers_config(cfg).save_pretrained(tmp_path)
    transformers_processor(cfg).save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path) is not None
    process = AutoImageProcessor.from_pretrained(tmp_path)
    # The brightest photo there is, three times as wide as high.
    found = process(np.full((50, 150, 3), 255, np.uint8), return_tensors="pt")["pixel_values"]
    assert found.shape == (1, 3, *shape)
    expected = [(255 - m) / s for m, s in zip(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)]
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor(expected))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["MODEL.PIXEL_DECODER.NUM_LEVELS", "4"], "NUM_LEVELS 3 alone, got 4"),
        (["MODEL.PIXEL_DECODER.NUM_POINTS", "8"], "NUM_POINTS 4 alone, got 8"),
        (["MODEL.PIXEL_DECODER.NUM_HEADS", "4"], "NUM_HEADS 8 alone, got 4"),
        (["MODEL.QUERY_DECODER.GRANULARITY", "film"], "GRANULARITY none alone, got film"),
        (["MODEL.BACKBONE.NAME", "SamVit"], "no backbone SamVit"),
    ],
)
def test_what_transformers_mask2former_cannot_be(overrides, named):
    cfg = load_config("unsam/whole_image_R50.yaml", overrides)
    with pytest.raises(CheckpointError, match=named):
        transformers_config(cfg)


def test_sam_has_the_shape_of_transformers_model():
    config = transformers_config(load_config("sam/sam_vit_b.yaml"))
    assert (config.vision_config.hidden_size, config.vision_config.num_hidden_layers) == (768, 12)
    assert config.prompt_encoder_config.image_embedding_size == 64


def test_nothing_is_overwritten(published, tmp_path, capsys):
    target = tmp_path / "there.safetensors"
    target.write_text("mine")
    assert "is there already" in mistake(capsys, published[1], target)
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    ("form", "name"),
    [("published", "a.pth"), ("native", "a.safetensors"), ("native", "a"), ("huggingface", "a")],
)
def test_a_full_disk_leaves_nothing(published, tmp_path, capsys, form, name):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    (tmp_path / "out").mkdir()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        text = mistake(capsys, published[1], tmp_path / "out" / name, "--to", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "cannot write" in text
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("form", "name", "text"),
    [
        ("published", "folder", "torch files"),
        ("native", "model.pth", "a folder or a .safetensors"),
        ("huggingface", "model.safetensors", "writes a folder"),
    ],
)
def test_a_place_of_the_wrong_kind(published, tmp_path, capsys, form, name, text):
    assert text in mistake(capsys, published[1], tmp_path / name, "--to", form)
    assert not list(tmp_path.iterdir())


def test_forms_that_cannot_hold_a_model(tmp_path, capsys):
    cfg = load_config("quickstart/tiny.yaml", ["MODEL.EMBED_DIM", "32"])
    folder = save_pretrained(build_model(cfg), cfg, tmp_path / "own")
    for form, name in (("published", "a.pt"), ("huggingface", "a")):
        assert "form of GranularSam" in mistake(capsys, folder, tmp_path / name, "--to", form)


def test_granularity_is_not_for_transformers(native, tmp_path, capsys):
    words = (
        "--allow-partial",
        "--to",
        "huggingface",
        "--opts",
        "MODEL.GRANULARITY.ENABLED",
        "True",
    )
    line = mistake(capsys, native, tmp_path / "hub", *words)
    assert "cannot hold this model" in line
    assert "lora_a" in line


def test_granularity_of_whole_photos_is_not_for_transformers(tmp_path, capsys):
    words = [*SMALL_QUERIES, "MODEL.QUERY_DECODER.GRANULARITY", "film"]
    cfg = load_config("unsam/whole_image_R50.yaml", words)
    folder = save_pretrained(build_model(cfg), cfg, tmp_path / "own")
    line = mistake(capsys, folder, tmp_path / "hub", "--to", "huggingface")
    assert "cannot hold this model" in line
    assert "query_decoder.film." in line
    assert not (tmp_path / "hub").exists()


def test_a_partial_file_is_refused_unless_allowed(published, tmp_path, capsys):
    tensors = dict(published[0])
    del tensors["no_mem_embed"]
    torch.save({"model": tensors}, tmp_path / "part.pt")
    target = tmp_path / "model"
    assert "1 missing (no_mem_embed)" in mistake(capsys, tmp_path / "part.pt", target, *OPTS)
    assert not target.exists()
    words = [str(tmp_path / "part.pt"), str(target), "--allow-partial", *OPTS]
    assert main(["convert-checkpoint", *words]) == 0
    assert "missing:\n  no_mem_embed" in capsys.readouterr().out


def test_another_config_is_named(published, tmp_path, capsys):
    other = ("--config-file", "sam2/sam2.1_hiera_small.yaml", *OPTS)
    line = mistake(capsys, published[1], tmp_path / "model", *other)
    assert "made with sam2/sam2.1_hiera_tiny.yaml" in line


def test_the_script_is_the_same_command(repository, tmp_path):
    script = repository / "tools" / "convert_checkpoint.py"
    words = [sys.executable, str(script), "nowhere.pth", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=repository)
    assert done.returncode == 1
    assert done.stderr.startswith("unsam: error: nowhere.pth")


@pytest.mark.parametrize("rank", [8, 0])
def test_unsamv2_keeps_its_updates_or_their_sum(rank, tmp_path):
    overrides = [*SMALL, "MODEL.SAM2.SIZE", "tiny", "MODEL.GRANULARITY.LORA_RANK", str(rank)]
    model = build_model(load_config("unsamv2/sam2_hiera_small.yaml", overrides))
    layout = UNSAMV2 if rank else UNSAMV2_MERGED
    path, folder, back = tmp_path / "unsamv2.pt", tmp_path / "model", tmp_path / "back.pt"
    tensors = to_published(model.state_dict(), layout, "Sam2")
    torch.save({"model": tensors}, path)
    assert main(["convert-checkpoint", str(path), str(folder), *OPTS]) == 0
    assert main(["convert-checkpoint", str(folder), str(back), "--to", "published"]) == 0
    found = read_weights_file(back).tensors
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_updates_are_merged_when_asked(tmp_path, capsys):
    overrides = [*SMALL, "MODEL.SAM2.SIZE", "tiny"]
    cfg = load_config("unsamv2/sam2_hiera_small.yaml", overrides)
    model = build_model(cfg)
    for module in model.modules():
        if isinstance(module, LoraLinear):
            torch.nn.init.normal_(module.lora_b)
    save_pretrained(model, cfg, tmp_path / "model")
    words = [str(tmp_path / "model"), str(tmp_path / "merged"), "--merge-lora"]
    assert main(["convert-checkpoint", *words]) == 0
    merged, _ = load_pretrained(tmp_path / "merged")
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    click = Prompts(
        torch.tensor([[[20.5, 30.5]]]), torch.tensor([[1]]), torch.tensor([0.4]), torch.tensor([0])
    )
    answers = []
    for each in (model.eval(), merged.eval()):
        with torch.inference_mode():
            answers.append(each.decode(each.encode([image]), click)[0])
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-4, atol=1e-4)
    capsys.readouterr()
    again = mistake(capsys, tmp_path / "merged", tmp_path / "twice", "--merge-lora")
    assert "no low-rank updates" in again
