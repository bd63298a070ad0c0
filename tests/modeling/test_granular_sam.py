from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.modeling.conftest import make_sample
from unsam.modeling import Prompts
from unsam.modeling.prompts import PADDING, POSITIVE

LOSSES = {"loss_focal", "loss_dice", "loss_quality"}


def _prompts(P: int = 6, K: int = 2, B: int = 2, with_mask: bool = False) -> Prompts:
    torch.manual_seed(3)
    return Prompts(
        points=torch.rand(P, K, 2) * 48,
        labels=torch.randint(0, 2, (P, K)),
        granularity=torch.linspace(0.1, 1.0, P),
        image_of_prompt=torch.arange(P) % B,
        mask_logits=torch.randn(P, 12, 16) if with_mask else None,
    )


def _take(prompts: Prompts, index: list[int]) -> Prompts:
    return Prompts(
        *(
            None if value is None else value[index]
            for value in (getattr(prompts, f.name) for f in dataclasses.fields(prompts))
        )
    )


def _total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(value for name, value in losses.items() if name.startswith("loss_"))


def test_training_gives_named_losses_and_gradients_for_every_parameter(model):
    torch.manual_seed(1)
    model.clicks = dataclasses.replace(model.clicks, box_probability=0.5)
    losses = model([make_sample(i) for i in range(4)])
    assert set(losses) == LOSSES | {"iou_first", "iou_last"}
    assert not losses["iou_first"].requires_grad
    _total(losses).backward()
    dead = [
        name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0
    ]
    assert dead == []


@pytest.mark.parametrize("counts", [(0, 3), (0, 0)])
def test_photos_without_masks_keep_every_parameter_in_the_graph(model, counts):
    losses = model([make_sample(i, num_masks=count) for i, count in enumerate(counts)])
    _total(losses).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    if counts == (0, 0):
        assert _total(losses).item() == 0
        assert all(parameter.grad.abs().sum() == 0 for parameter in model.parameters())


def test_an_empty_mask_is_left_out(model):
    sample = make_sample(0, num_masks=3)
    sample["masks"][1] = False
    without = make_sample(0, num_masks=3)
    without["masks"] = without["masks"][[0, 2]]
    without["granularity"] = without["granularity"][[0, 2]]
    results = []
    for one in (sample, without):
        torch.manual_seed(5)
        results.append(_total(model([one])))
    torch.testing.assert_close(*results)


def test_the_same_seed_gives_the_same_gradients_bit_for_bit(model):
    gradients = []
    for _ in range(2):
        torch.manual_seed(11)
        model.zero_grad()
        _total(model([make_sample(0), make_sample(1, size=(64, 40))])).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_autocast_losses_are_near_those_of_float32(model):
    batch = [make_sample(0), make_sample(1)]
    torch.manual_seed(2)
    plain = model(batch)
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(batch)
    _total(mixed).backward()
    for name in LOSSES:
        assert mixed[name].dtype == torch.float32
        assert mixed[name].item() == pytest.approx(plain[name].item(), rel=0.1, abs=0.02)


def test_it_learns_one_photo(model):
    torch.manual_seed(0)
    sample = make_sample(0)
    sample["image"] = (sample["masks"].sum(0) * 60).to(torch.uint8).expand(3, -1, -1).contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
    for _ in range(60):
        losses = model([sample])
        optimizer.zero_grad()
        _total(losses).backward()
        optimizer.step()
        history.append(losses)
    first = float(np.mean([float(step["iou_last"]) for step in history[:5]]))
    last = float(np.mean([float(step["iou_last"]) for step in history[-5:]]))
    assert last > first + 0.3
    assert last > 0.6
    # The quality head predicts the IoU of the mask that is returned.
    assert float(np.mean([float(step["loss_quality"].detach()) for step in history[-5:]])) < 0.25


@pytest.mark.parametrize("with_mask", [False, True])
@torch.no_grad()
def test_prompts_are_answered_independently_and_in_any_order(model, with_mask):
    model.eval()
    images = model.encode([make_sample(i)["image"] for i in range(2)])
    prompts = _prompts(with_mask=with_mask)
    logits, quality = model.decode(images, prompts)
    assert logits.shape == (6, 12, 16)
    assert quality.shape == (6,)
    assert ((quality >= 0) & (quality <= 1)).all()
    order = [3, 1, 5, 0]
    some_logits, some_quality = model.decode(images, _take(prompts, order))
    torch.testing.assert_close(some_logits, logits[order], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(some_quality, quality[order], atol=1e-5, rtol=1e-4)
    one_logits, _ = model.decode(images, _take(prompts, [3]))
    torch.testing.assert_close(one_logits[0], logits[3], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_all_prompts_on_the_second_photo_see_the_second_photo(model):
    """As many prompts as photos, all about one of them: nothing may be paired by position."""
    model.eval()
    pictures = [make_sample(i)["image"] for i in range(2)]
    prompts = _prompts(P=2)
    second = dataclasses.replace(prompts, image_of_prompt=torch.tensor([1, 1]))
    alone = dataclasses.replace(prompts, image_of_prompt=torch.tensor([0, 0]))
    both, _ = model.decode(model.encode(pictures), second)
    single, _ = model.decode(model.encode(pictures[1:]), alone)
    torch.testing.assert_close(both, single, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_order_of_points_and_padding_do_not_matter(model):
    model.eval()
    images = model.encode([make_sample(0)["image"]])
    prompts = _prompts(B=1)
    logits, _ = model.decode(images, prompts)
    swapped = dataclasses.replace(
        prompts, points=prompts.points.flip(1), labels=prompts.labels.flip(1)
    )
    torch.testing.assert_close(model.decode(images, swapped)[0], logits, atol=1e-4, rtol=1e-3)
    padded = dataclasses.replace(
        prompts,
        points=torch.cat(
            (prompts.points[:, :1], torch.rand(6, 3, 2) * 99, prompts.points[:, 1:]), 1
        ),
        labels=torch.cat(
            (prompts.labels[:, :1], torch.full((6, 3), PADDING), prompts.labels[:, 1:]), 1
        ),
    )
    torch.testing.assert_close(model.decode(images, padded)[0], logits, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_every_input_has_an_effect(model):
    model.eval()
    images = model.encode([make_sample(0)["image"]])
    prompts = dataclasses.replace(_prompts(B=1), labels=torch.full((6, 2), POSITIVE))
    base, _ = model.decode(images, prompts)
    changes = {
        "granularity": prompts.granularity.flip(0),
        "labels": 1 - prompts.labels,
        "points": prompts.points.flip(0),
        "mask_logits": torch.randn(6, 12, 16),
    }
    for name, value in changes.items():
        other, _ = model.decode(images, dataclasses.replace(prompts, **{name: value}))
        assert (other - base).abs().max() > 1e-4, name


@torch.no_grad()
def test_a_photo_is_encoded_alike_in_every_batch(model):
    """Same size: exactly alike. With padding beside it: alike away from the padded edge."""
    model.eval()
    pictures = [make_sample(i)["image"] for i in range(2)]
    together, alone = model.encode(pictures), model.encode(pictures[:1])
    torch.testing.assert_close(together.embedding[:1], alone.embedding, atol=1e-4, rtol=1e-3)
    large = make_sample(2, size=(64, 64))["image"]
    padded = model.encode([pictures[0], large])
    near = torch.nn.functional.cosine_similarity(
        padded.embedding[0, :, :2, :4].flatten(1), alone.embedding[0, :, :2, :4].flatten(1), dim=0
    )
    assert near.min() > 0.98


def test_evaluation_gives_whole_image_masks_of_the_original_size(model):
    model.eval()
    batch = [make_sample(0), make_sample(1, size=(64, 40))]
    results = model(batch)
    assert [masks.size for masks in results] == [(96, 128), (128, 80)]
    (alone,) = model(batch[1:])
    assert results[1] == alone
