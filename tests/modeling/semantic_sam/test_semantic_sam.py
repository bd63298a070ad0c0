from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.modeling.conftest import make_sample
from tests.modeling.semantic_sam.conftest import tiny_model
from unsam.config import get_cfg
from unsam.inference import Segmenter
from unsam.modeling import InputFrame, Prompts, build_model
from unsam.modeling.prompts import BOX_FIRST, BOX_LAST, PADDING, POSITIVE
from unsam.modeling.semantic_sam import EncodedPhotos, SemanticSam, semantic_sam


def clicks_on(xy: list[tuple[float, float]], images: list[int] | None = None) -> Prompts:
    return Prompts(
        points=torch.tensor(xy)[:, None],
        labels=torch.full((len(xy), 1), POSITIVE),
        granularity=None,
        image_of_prompt=torch.tensor(images or [0] * len(xy)),
    )


def encode(model: SemanticSam, *seeds: int) -> EncodedPhotos:
    return model.encode([make_sample(seed)["image"] for seed in seeds])


@torch.no_grad()
def test_batched_prompts_are_the_single_ones(model: SemanticSam) -> None:
    model.eval().double()
    features = encode(model, 0)
    xy = [(10.5, 20.5), (40.0, 12.0), (63.5, 47.5)]
    together = model.answer_tokens(features, clicks_on(xy))
    for index, point in enumerate(xy):
        alone = model.answer_tokens(features, clicks_on([point]))
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], many[index])


@torch.no_grad()
def test_prompts_about_several_photos_are_those_about_each(model: SemanticSam) -> None:
    model.eval().double()
    both, first, second = encode(model, 0, 1), encode(model, 0), encode(model, 1)
    mixed = model.answer_tokens(both, clicks_on([(9.0, 9.0), (30.0, 20.0)], [1, 0]))
    of_second = model.answer_tokens(second, clicks_on([(9.0, 9.0)]))
    of_first = model.answer_tokens(first, clicks_on([(30.0, 20.0)]))
    for found, one, other in zip(mixed, of_second, of_first, strict=True):
        torch.testing.assert_close(found[0], one[0])
        torch.testing.assert_close(found[1], other[0])


@torch.no_grad()
def test_answers_come_from_fine_to_coarse(model: SemanticSam) -> None:
    model.eval()
    features, prompts = encode(model, 0), clicks_on([(10.5, 20.5), (40.0, 12.0)])
    tokens, token_quality, _ = model.answer_tokens(features, prompts)
    logits, quality = model.decode_all(features, prompts)
    area = (logits > 0).sum((2, 3))
    assert (area.diff(dim=1) >= 0).all()
    assert len(area.unique()) > 2
    for row in range(2):
        for rank in range(6):
            token = (tokens[row] == logits[row, rank]).flatten(1).all(1).nonzero()[0, 0]
            assert token_quality[row, token] == quality[row, rank]


@torch.no_grad()
def test_granularity_chooses_among_the_answers(model: SemanticSam) -> None:
    model.eval()
    features, prompts = encode(model, 0), clicks_on([(10.5, 20.5)])
    logits, _ = model.decode_all(features, prompts)
    for wanted, rank in ((0.1, 0), (1.0, 5)):
        asked = replace(prompts, granularity=torch.tensor([wanted]))
        chosen, _ = model.decode(features, asked)
        assert (chosen[0] > 0).sum() == (logits[0, rank] > 0).sum()


@torch.no_grad()
def test_clicks_are_of_the_kind_that_was_asked_for(model: SemanticSam) -> None:
    model.eval()
    features, click = encode(model, 0), clicks_on([(10.5, 20.5)])
    box = Prompts(
        torch.tensor([[[4.0, 4.0], [30.0, 30.0]]]),
        torch.tensor([[BOX_FIRST, BOX_LAST]]),
        None,
        torch.tensor([0]),
    )
    before = [model.answer_tokens(features, prompts)[0] for prompts in (click, box)]
    model.click_kind = 1
    after = [model.answer_tokens(features, prompts)[0] for prompts in (click, box)]
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])


@torch.no_grad()
def test_photos_encoded_under_autocast_are_decoded_without(model: SemanticSam) -> None:
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        rough = encode(model, 0)
    found = model.answer_tokens(rough, clicks_on([(10.5, 20.5)]))[0]
    exact = model.answer_tokens(encode(model, 0), clicks_on([(10.5, 20.5)]))[0]
    assert (found - exact).abs().max() < 0.05 * exact.abs().max()


@torch.no_grad()
def test_no_prompts_give_no_answers(model: SemanticSam) -> None:
    prompts = Prompts(
        torch.zeros(0, 1, 2),
        torch.zeros(0, 1, dtype=torch.int64),
        None,
        torch.zeros(0, dtype=torch.int64),
    )
    logits, quality = model.eval().decode_all(encode(model, 0), prompts)
    assert logits.shape == (0, 6, 16, 16)
    assert quality.shape == (0, 6)


@pytest.mark.parametrize(
    ("photo", "resized"),
    [((481, 321), (95, 64)), ((50, 50), (64, 64)), ((10, 400), (3, 128)), ((1000, 1), (128, 1))],
)
def test_photos_keep_their_shape_within_the_limits(
    model: SemanticSam, photo: tuple[int, int], resized: tuple[int, int]
) -> None:
    assert model.resized_size(photo) == resized
    assert model.resized_size(photo[::-1]) == resized[::-1]
    prepared = model.prepare(np.zeros((*photo, 3), np.uint8))
    assert (prepared.dtype, tuple(prepared.shape)) == (torch.uint8, (3, *resized))
    height, width = model.frame(photo).padded_size
    assert (height % 32, width % 32) == (0, 0)
    assert height - resized[0] < 32
    assert width - resized[1] < 32


def test_masks_grow_to_the_photo_without_the_padding(model: SemanticSam) -> None:
    frame = InputFrame((300, 450), (40, 60), (64, 64))
    logits = torch.full((1, 16, 16), -1.0)
    logits[:, :10, :15] = 1.0
    grown = model.grow(logits, frame)
    assert grown.shape == (1, 300, 450)
    # Half a cell's width at the rim is mixed with the padding.
    assert (grown[:, :280, :420] == 1).all()
    same = replace(frame, photo_size=(40, 60))
    expected = torch.nn.functional.interpolate(logits[None], (64, 64), mode="bilinear")
    torch.testing.assert_close(model.grow(logits, same), expected[0, :, :40, :60])
    assert model.grow(logits[:0], frame).shape == (0, 300, 450)


def test_masks_grow_in_parts_as_they_do_at_once(
    model: SemanticSam, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = InputFrame((30, 45), (40, 60), (64, 64))
    logits = torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(0))
    at_once = model.grow(logits, frame)
    monkeypatch.setattr(semantic_sam, "_GROWN_PIXELS", 2 * 40 * 60)
    assert torch.equal(model.grow(logits, frame), at_once)


def test_losses_of_all_layers_come_with_gradients(model: SemanticSam) -> None:
    losses = model.train()([make_sample(0), make_sample(1, num_masks=2)])
    names = {"loss_mask", "loss_dice", "loss_box", "loss_giou", "loss_quality"}
    assert set(losses) == names | {"iou_matched"}
    assert not losses["iou_matched"].requires_grad
    sum(losses[name] for name in names).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_bfloat16_losses_are_close_to_those_of_float32(model: SemanticSam) -> None:
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(model.train()([make_sample(0)]))
    exact, rough = (sum(terms[name] for name in terms if name != "iou_matched") for terms in found)
    assert rough.dtype == torch.float32
    assert float((rough - exact).detach().abs()) < 0.1 * float(exact.detach())


def test_training_clicks_are_of_their_own_kind(model: SemanticSam) -> None:
    losses = model.train()([make_sample(0)])
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    in_use, in_training = model.decoder.kind_embedding.weight.grad.abs().sum(1)
    assert in_use == 0
    assert in_training > 0


def test_a_batch_without_masks_still_has_gradients(model: SemanticSam) -> None:
    sample = make_sample(0)
    sample["masks"] = sample["masks"][:0]
    sample["granularity"] = sample["granularity"][:0]
    losses = model.train()([sample])
    assert all(float(value.detach()) == 0 for value in losses.values())
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_training_is_repeatable_from_the_seed(model: SemanticSam) -> None:
    results = []
    for copied in (copy.deepcopy(model), copy.deepcopy(model)):
        torch.manual_seed(7)
        results.append(copied.train()([make_sample(0)]))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_it_learns_the_masks_of_one_photo() -> None:
    model = tiny_model(box_probability=0.2).train()
    sample = make_sample(0)
    sample["masks"] = torch.zeros(3, 48, 64, dtype=torch.bool)
    sample["masks"][0, 16:32, 16:32] = True
    sample["masks"][1, 8:40, 8:40] = True
    sample["masks"][2, :, :48] = True
    for index, level in enumerate((60, 20, 120)):
        sample["image"][:, sample["masks"][2 - index]] = level
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    history = []
    for _ in range(70):
        losses = model([sample])
        total = sum(value for name, value in losses.items() if name.startswith("loss_"))
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        of_masks = losses["loss_mask"] + losses["loss_dice"]
        history.append([float(value.detach()) for value in (of_masks, losses["iou_matched"])])
    ending = np.mean(history[-5:], axis=0)
    # Boxes that start as clicks take longer: so small, they hardly move under the sigmoid.
    assert ending[0] < 0.4 * history[0][0]
    assert ending[1] > 0.8


def test_segmenter_shows_six_masks_and_takes_boxes_and_batches(model: SemanticSam) -> None:
    segmenter = Segmenter(model, "cpu")
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    segmenter.set_image(photo)
    answer = segmenter.predict(points=[[30, 20]])
    assert answer.masks.shape == (6, 60, 90)
    assert (np.diff(answer.granularity) >= 0).all()
    boxed = segmenter.predict(box=[10, 10, 50, 40], multimask=False)
    assert boxed.masks.shape == (1, 60, 90)
    masks, _, _ = segmenter.predict_batch(
        [[[30, 20], [0, 0]], [[50, 40], [0, 0]]], [[1, PADDING], [1, PADDING]]
    )
    assert masks.shape == (2, 60, 90)
    with pytest.raises(ValueError, match="one click or one box"):
        segmenter.predict(points=[[30, 20], [31, 22]])
    with pytest.raises(ValueError, match="at most 2"):
        segmenter.predict(points=[[30, 20]], box=[10, 10, 50, 40])


def test_whole_photos_are_segmented_by_a_grid_of_clicks(model: SemanticSam) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    masks = Segmenter(model, "cpu").generate(photo)
    assert masks.size == (60, 90)
    assert len(masks) > 0


def test_the_published_architecture_is_built_from_a_config() -> None:
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "SemanticSam"
    cfg.MODEL.BACKBONE.NAME = "SwinTransformer"
    cfg.MODEL.PIXEL_DECODER.NUM_LEVELS = 4
    cfg.MODEL.PIXEL_DECODER.FFN_DIM = 2048
    built = build_model(cfg)
    assert isinstance(built, SemanticSam)
    # 52,980,543 of the published files, less the three tensors of its class heads.
    unused = sum(buffer.numel() for name, buffer in built.decoder.named_buffers())
    count = sum(parameter.numel() for parameter in built.parameters())
    assert count + unused == 52_980_543
