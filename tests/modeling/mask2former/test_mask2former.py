from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.modeling.conftest import make_sample
from tests.modeling.mask2former.conftest import tiny_mask2former
from unsam.modeling.build import META_ARCHITECTURES, build_model
from unsam.modeling.mask2former import Mask2Former
from unsam.modeling.mask2former import mask2former as module
from unsam.structures import MaskSet

LOSSES = {"loss_class", "loss_mask", "loss_dice"}


def _total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(losses[name] for name in LOSSES)


def _photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.mark.parametrize("backbone", ["ResNet50", "SwinTransformer", "SamVit"])
def test_it_is_built_from_a_config_with_any_backbone(cfg, backbone):
    cfg.MODEL.BACKBONE.SIZE = "base" if backbone == "SamVit" else "tiny"
    cfg.MODEL.BACKBONE.NAME = backbone
    model = build_model(cfg)
    assert isinstance(model, Mask2Former)
    assert META_ARCHITECTURES.get("Mask2Former") is Mask2Former
    assert model.query_decoder.num_queries == 12
    assert not model.is_granular


@pytest.mark.parametrize(
    ("photo", "resized"),
    [
        ((100, 200), (64, 128)),
        ((100, 300), (43, 128)),
        ((300, 100), (128, 43)),
        ((200, 200), (64, 64)),
        # Half pixels go up: 64 * 75.5 / 64.
        ((128, 151), (64, 76)),
        ((1, 1000), (1, 128)),
    ],
)
def test_photos_are_resized_by_the_shorter_side_up_to_a_longer_one(model, photo, resized):
    assert model.resized_size(photo) == resized
    frame = model.frame(photo)
    assert frame.input_size == resized
    assert all(side % 32 == 0 for side in frame.padded_size)
    assert all(0 <= b - a < 32 for a, b in zip(resized, frame.padded_size, strict=True))


def test_photos_are_resized_by_pillow(model):
    photo = _photo((90, 130))
    expected = np.asarray(Image.fromarray(photo).resize((92, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(model.prepare(photo).permute(1, 2, 0).numpy(), expected)


@torch.no_grad()
def test_evaluation_gives_masks_of_the_photos_size_the_same_in_any_batch(model):
    model.eval()
    batch = [make_sample(0), make_sample(1, size=(64, 40))]
    results = model(batch)
    assert [masks.size for masks in results] == [(96, 128), (128, 80)]
    assert all(len(masks) > 0 for masks in results)
    assert (np.diff(results[0].score) <= 0).all()
    (alone,) = model(batch[1:])
    assert results[1] == alone


@torch.no_grad()
def test_it_works_in_float64(model):
    model.eval().double()
    (masks,) = model([make_sample(0)])
    assert len(masks) > 0
    assert torch.stack(list(model.train()([make_sample(0)]).values())).dtype == torch.float64


def test_granularities_are_refused_without_a_granular_decoder(model):
    features = model.encode([make_sample(0)["image"]])
    with pytest.raises(ValueError, match="knows no granularity; leave it out, or train one"):
        model.segment(features, model.frame((48, 64)), [0.5])


def test_something_that_is_no_photo_is_named(model):
    with pytest.raises(ValueError, match=r"image is \[3, h, w\].*got \(1, 3, 48, 64\)"):
        model.encode([make_sample(0)["image"][None]])


@torch.no_grad()
def test_a_granular_model_segments_at_what_it_is_asked_for(granular):
    granular.eval()
    image = granular.prepare(_photo((90, 130)))
    features, frame = granular.encode([image]), granular.frame((90, 130))
    assert set(granular.segment(features, frame, [0.5]).granularity.tolist()) == {0.5}
    default = granular.segment(features, frame)
    assert set(default.granularity.tolist()) <= set(np.float32([0.2, 0.6]).tolist())
    assert default == granular.segment(features, frame, (0.2, 0.6))


def test_training_gives_named_losses_and_gradients_for_every_parameter(granular):
    torch.manual_seed(1)
    # At first deformable attention looks at the same places whatever is asked.
    for layer in granular.pixel_decoder.layers:
        torch.nn.init.normal_(layer.attention.sampling_offsets.weight, std=0.1)
    losses = granular([make_sample(0), make_sample(1, size=(64, 40))])
    assert set(losses) == LOSSES | {"iou_matched"}
    assert not losses["iou_matched"].requires_grad
    _total(losses).backward()
    dead = [
        name
        for name, parameter in granular.named_parameters()
        if parameter.grad is None or parameter.grad.abs().sum() == 0
    ]
    assert dead == []


@pytest.mark.parametrize("counts", [(0, 3), (0, 0)])
def test_photos_without_masks_keep_every_parameter_in_the_graph(granular, counts):
    losses = granular([make_sample(i, num_masks=count) for i, count in enumerate(counts)])
    _total(losses).backward()
    assert all(parameter.grad is not None for parameter in granular.parameters())
    assert losses["loss_class"].item() > 0


def test_an_empty_mask_is_left_out(model):
    sample, without = make_sample(0, num_masks=3), make_sample(0, num_masks=3)
    sample["masks"][1] = False
    for key in ("masks", "granularity"):
        without[key] = without[key][[0, 2]]
    results = []
    for one in (sample, without):
        torch.manual_seed(5)
        results.append(_total(model([one])))
    torch.testing.assert_close(*results)


def test_a_granular_model_is_asked_for_masks_near_one_of_the_photo(granular, monkeypatch):
    seen = []

    def spy(outputs, mask_features, targets, num_masks):
        seen.append(([len(masks) for masks in targets], num_masks))
        return {}

    monkeypatch.setattr(granular.criterion, "forward", spy)
    sample = make_sample(0, num_masks=4)
    sample["granularity"] = torch.tensor([0.2, 0.25, 0.6, 1.0])
    torch.manual_seed(0)
    for _ in range(30):
        granular([sample])
    assert {counts[0] for counts, _ in seen} == {1, 2}
    assert all(num_masks == counts[0] for counts, num_masks in seen)
    twos = sum(counts[0] == 2 for counts, _ in seen)
    # Half of the masks are within 0.1 of each other.
    assert 7 < twos < 23
    generator = torch.Generator().manual_seed(0)
    drawn = {round(module._draw_granularity(torch.zeros(0), generator), 1) for _ in range(50)}
    assert min(drawn) >= 0.1
    assert max(drawn) <= 1.0
    assert len(drawn) > 5


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
    results = []
    for enabled in (False, True):
        torch.manual_seed(2)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            results.append(model(batch))
    _total(results[1]).backward()
    for name in LOSSES:
        assert results[1][name].dtype == torch.float32
        assert results[1][name].item() == pytest.approx(results[0][name].item(), rel=0.1)


def test_it_learns_one_photo(cfg):
    model = tiny_mask2former(cfg)
    sample = make_sample(0)
    sample["image"] = (sample["masks"].sum(0) * 60).to(torch.uint8).expand(3, -1, -1).contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
    history = []
    for _ in range(60):
        losses = model([sample])
        optimizer.zero_grad()
        _total(losses).backward()
        optimizer.step()
        history.append(losses)
    first = float(np.mean([float(step["iou_matched"]) for step in history[:5]]))
    last = float(np.mean([float(step["iou_matched"]) for step in history[-5:]]))
    assert last > first + 0.2
    assert last > 0.8
    assert float(history[-1]["loss_class"].detach()) < 0.5 * float(
        history[0]["loss_class"].detach()
    )


def test_it_learns_what_a_granularity_asks_for(cfg):
    """Two parts and the whole that they lie in: the same queries answer with either."""
    cfg.MODEL.QUERY_DECODER.GRANULARITY = "film"
    cfg.MODEL.QUERY_DECODER.NUM_QUERIES = 4
    # From fewer, the points that are drawn decide whether both parts get a query of their own.
    cfg.CRITERION.QUERIES.NUM_POINTS = 1024
    model = tiny_mask2former(cfg)
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[0, 8:24, 8:24] = masks[1, 40:56, 8:24] = masks[2, 8:56, 8:56] = True
    image = (masks.sum(0) * 80).to(torch.uint8).expand(3, -1, -1).contiguous()
    sample = {"image": image, "masks": masks, "granularity": torch.tensor([0.2, 0.2, 1.0])}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.set_num_threads(1)
    for _ in range(120):
        optimizer.zero_grad()
        _total(model([sample])).backward()
        optimizer.step()
    model.eval()
    features, truth = model.encode([image]), MaskSet.from_masks(masks.numpy())
    for granularity, wanted in ((0.2, [0, 1]), (1.0, [2])):
        found = model.segment(features, model.frame((64, 64)), [granularity])
        sure = found.filter(found.score > 0.5)
        assert sorted(truth.iou(sure).argmax(axis=0).tolist()) == wanted
        assert (truth.iou(sure).max(axis=0) > 0.8).all()
