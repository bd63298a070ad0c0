from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from tests.modeling.conftest import make_sample
from tests.modeling.sam.tiny import IMAGE_SIZE, click_prompts, images, tiny_sam
from unsam.config import get_cfg
from unsam.errors import ConfigError
from unsam.modeling.build import META_ARCHITECTURES
from unsam.modeling.granular_parts import freeze_all_but_granularity
from unsam.modeling.lora import LoraLinear, merge_lora
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, PADDING, POSITIVE, Prompts
from unsam.modeling.sam import Sam, SamImageEncoder
from unsam.modeling.segmentation_model import InputFrame

CELLS = IMAGE_SIZE // 4


@pytest.fixture(params=[False, True], ids=["plain", "granular"])
def asked(request) -> dict[str, Any]:
    """What a prompt says about granularity."""
    return {"granularity": torch.tensor([0.1, 0.5, 1.0]) if request.param else None}


@pytest.fixture
def model() -> Sam:
    return tiny_sam(granular=True)


def error(ours: torch.Tensor, expected: torch.Tensor) -> float:
    return float((ours - expected).abs().max() / expected.abs().max())


def take(prompts: Prompts, index: list[int]) -> Prompts:
    values = {f.name: getattr(prompts, f.name) for f in dataclasses.fields(prompts)}
    return Prompts(**{k: None if v is None else v[index] for k, v in values.items()})


@torch.no_grad()
def test_padding_points_have_no_effect(model, asked):
    features, prompts = model.encode(images()), click_prompts(**asked)
    padded = dataclasses.replace(
        prompts,
        points=torch.cat((torch.rand(3, 2, 2) * 99, prompts.points, torch.rand(3, 1, 2)), 1),
        labels=torch.nn.functional.pad(prompts.labels, (2, 1), value=PADDING),
    )
    for ours, expected in zip(
        model.decode(features, padded), model.decode(features, prompts), strict=True
    ):
        assert error(ours, expected) <= 1e-5


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_prompts_of_different_kinds_are_answered_as_if_alone(asked, fused):
    """A click, two clicks, a box: in one batch, on two photos."""
    model = tiny_sam(granular=True, fused=fused)
    features = model.encode(images(2))
    labels = torch.tensor([[POSITIVE, PADDING], [POSITIVE, POSITIVE], [BOX_FIRST, BOX_LAST]])
    prompts = click_prompts(num_images=2, labels=labels, **asked)
    masked = dataclasses.replace(prompts, mask_logits=torch.randn(3, CELLS, CELLS) * 3)
    for mixed in (prompts, masked):
        together = model.decode(features, mixed)
        for row, columns in ((0, 1), (1, 2), (2, 2)):
            one = take(mixed, [row])
            one = dataclasses.replace(
                one, points=one.points[:, :columns], labels=one.labels[:, :columns]
            )
            for batch, alone in zip(together, model.decode(features, one), strict=True):
                assert error(batch[row], alone[0]) <= 1e-5


@torch.no_grad()
def test_every_input_has_an_effect(model):
    features = model.encode(images(2))
    prompts = click_prompts(granularity=torch.tensor([0.1, 0.5, 1.0]))
    base, _ = model.decode(features, prompts)
    changes = {
        "granularity": prompts.granularity.flip(0) + 0.01,
        "labels": 1 - prompts.labels,
        "points": prompts.points.flip(0) + 1,
        "mask_logits": torch.randn(3, CELLS, CELLS),
        "image_of_prompt": torch.ones(3, dtype=torch.int64),
    }
    for name, value in changes.items():
        other, _ = model.decode(features, dataclasses.replace(prompts, **{name: value}))
        assert ((other - base).abs().amax((1, 2)) > 1e-4).all(), name


@torch.no_grad()
def test_merged_updates_answer_granularity_alike(model):
    features = model.encode(images())
    prompts = click_prompts(granularity=torch.tensor([0.1, 0.5, 1.0]))
    assert sum(isinstance(m, LoraLinear) for m in model.modules()) == 28
    expected, _ = model.decode(features, prompts)
    merge_lora(model)
    assert error(model.decode(features, prompts)[0], expected) <= 1e-5


@torch.no_grad()
def test_a_plain_model_is_asked_for_the_nearest_of_its_masks():
    model = tiny_sam()
    features = model.encode(images())
    several, quality = model.decode_all(features, click_prompts())
    prompts = click_prompts(granularity=torch.tensor([0.1, 0.1, 0.1]))
    logits, chosen = model.decode(features, prompts)
    smallest = (several > 0).flatten(2).sum(2).argmin(1)
    rows = torch.arange(3)
    assert not model.is_granular
    assert torch.equal(logits, several[rows, smallest])
    assert torch.equal(chosen, quality[rows, smallest])


@torch.no_grad()
def test_it_computes_in_float64(asked):
    single = tiny_sam(granular=True)
    double = tiny_sam(granular=True).double()
    prompts = click_prompts(mask_logits=torch.randn(3, CELLS, CELLS), **asked)
    expected, _ = double.decode(double.encode(images()), prompts)
    assert expected.dtype == torch.float64
    assert error(single.decode(single.encode(images()), prompts)[0], expected) <= 1e-5


@torch.no_grad()
def test_bfloat16_stays_near_float32(model, asked):
    prompts = click_prompts(**asked)
    expected = model.encode(images()), *model.decode(model.encode(images()), prompts)
    with torch.autocast("cpu", torch.bfloat16):
        features = model.encode(images())
        logits, quality = model.decode(features, prompts)
    assert logits.dtype == quality.dtype == torch.float32
    assert torch.equal(features.position, expected[0].position)
    assert 0 < error(features.embedding, expected[0].embedding) <= 0.03
    assert error(logits, expected[1]) <= 0.06
    assert error(quality, expected[2]) <= 0.03


@torch.no_grad()
def test_encoder_and_decoder_compile_without_breaks(model, asked):
    torch._dynamo.reset()
    encode = torch.compile(model.image_encoder, fullgraph=True, backend="eager")
    pixels = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    torch.testing.assert_close(encode(pixels), model.image_encoder(pixels))
    features, prompts = model.encode(images()), click_prompts(**asked)
    decode = torch.compile(model.decode, fullgraph=True, backend="eager")
    for ours, expected in zip(
        decode(features, prompts), model.decode(features, prompts), strict=True
    ):
        assert error(ours, expected) <= 1e-5


@torch.no_grad()
def test_no_prompts_get_no_answers(model):
    features = model.encode(images())
    none = take(click_prompts(), [])
    assert [x.shape for x in model.decode(features, none)] == [(0, CELLS, CELLS), (0,)]
    assert [x.shape for x in model.decode_all(features, none)] == [(0, 3, CELLS, CELLS), (0, 3)]
    asked = dataclasses.replace(none, granularity=torch.zeros(0))
    assert [x.shape for x in model.decode(features, asked)] == [(0, CELLS, CELLS), (0,)]
    grown = model.grow(torch.zeros(0, CELLS, CELLS), model.frame((30, 40)))
    assert grown.shape == (0, 30, 40)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (333, 500), (500, 333), (288, 288)])
def test_any_photo_becomes_an_input_and_its_masks_come_back(model, size):
    prepared = model.prepare(np.zeros((*size, 3), np.uint8))
    frame = model.frame(size)
    assert prepared.dtype == torch.uint8
    assert tuple(prepared.shape[1:]) == frame.input_size
    assert max(frame.input_size) == IMAGE_SIZE
    assert frame.padded_size == (IMAGE_SIZE, IMAGE_SIZE)
    assert model.mask_size(frame) == (CELLS, CELLS)
    assert model.grow(torch.zeros(20, CELLS, CELLS), frame).shape == (20, *size)


def test_growing_does_not_depend_on_how_many_or_which_way_up(model):
    frame = InputFrame((100, 150), (192, 288), (288, 288))
    logits = torch.randn(20, CELLS, CELLS)
    grown = model.grow(logits, frame)
    torch.testing.assert_close(model.grow(logits[17:18], frame)[0], grown[17])
    sideways = model.grow(logits.transpose(1, 2), frame.transposed)
    torch.testing.assert_close(sideways.transpose(1, 2), grown)


@pytest.mark.parametrize("granular", [False, True])
@torch.no_grad()
def test_whole_photos_are_segmented(granular):
    model = tiny_sam(granular=granular, quality_head=granular)
    sample = {"image": images()[0], "original_size": (100, 144)}
    model.automatic = dataclasses.replace(
        model.automatic, granularities=(0.2, 0.9) if granular else ()
    )
    (masks,) = model([sample])
    assert len(masks) > 0
    assert masks.size == (100, 144)


@pytest.mark.parametrize("quality_head", [False, True])
def test_training_moves_the_added_parts_alone_and_learns(quality_head):
    model = tiny_sam(granular=True, quality_head=quality_head)
    freeze_all_but_granularity(model)
    model.train()
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name.startswith("granularity.") for name in trained)
    optimizer = torch.optim.AdamW(trained.values(), lr=3e-3)
    history = []
    torch.manual_seed(0)
    for _ in range(30):
        losses = model([make_sample(0, size=(200, 288))])
        total = sum(value for name, value in losses.items() if name.startswith("loss_"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(float(total.detach()))
    assert np.mean(history[-5:]) < 0.7 * np.mean(history[:5])
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert all(now[name].grad is None for name in frozen)


def test_a_plain_model_trains_whole():
    model = tiny_sam().train()
    losses = model([make_sample(0, size=(200, 288))])
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.image_encoder.patch_embed.proj.weight.grad.abs().sum() > 0


def test_the_config_names_the_architecture():
    cfg = get_cfg()
    cfg.INPUT.IMAGE_SIZE = 64
    cfg.MODEL.META_ARCHITECTURE = "Sam"
    assert META_ARCHITECTURES.get("Sam") is Sam
    cfg.MODEL.SAM.SIZE = "large"
    with torch.device("meta"):
        arguments = Sam.from_config(cfg)
    assert len(arguments["image_encoder"].blocks) == 24
    assert arguments["granularity"] is None
    cfg.MODEL.SAM.SIZE = "enormous"
    with pytest.raises(ConfigError, match="unknown 'enormous'; known: base, large, huge"):
        Sam.from_config(cfg)


def test_what_cannot_be_is_refused_in_one_line(model):
    for size in (100, 16):
        with pytest.raises(ValueError, match=f"multiple of 16, at least 32, got {size}"):
            SamImageEncoder(image_size=size)
    with pytest.raises(ValueError, match="at most 288x288"):
        model.encode([torch.zeros(3, 300, 100, dtype=torch.uint8)])
    with pytest.raises(ValueError, match=r"mask prompts are \[P, 72, 72\], got \(3, 8, 8\)"):
        model.decode(model.encode(images()), click_prompts(mask_logits=torch.zeros(3, 8, 8)))
