from __future__ import annotations

import dataclasses

import pytest
import torch

from unsam.config import get_cfg
from unsam.modeling.objectives.second_view import SecondViewAugmentation
from unsam.modeling.sample_random import SampleRandom

CPU = torch.device("cpu")
SIZES = [(96, 128), (128, 80), (100, 100)]
NONE = SecondViewAugmentation((1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0)
MIRROR = dataclasses.replace(NONE, flip_probability=1.0)
# No colours: the places are what is tested.
MOVED = SecondViewAugmentation((0.6, 0.9), 20.0, 10.0, 0.5, 0.0, 0.0)


def _draw(augmentation, sizes=SIZES, seed=3):
    seeds = [seed + index for index in range(len(sizes))]
    return augmentation.draw(sizes, SampleRandom(seeds), CPU)


def _disc(size, centre, radius):
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) < radius**2


def test_no_change_is_the_identity():
    view = _draw(NONE)
    images = [torch.randint(0, 256, (3, *size)) for size in SIZES]
    for image, same in zip(images, view.images(images), strict=True):
        torch.testing.assert_close(same, image.float(), atol=0.01, rtol=0)
    points = torch.rand(3, 2, 2) * 80
    photos = torch.arange(3)
    torch.testing.assert_close(view.transform.points(points, photos), points)
    maps = torch.randn(3, 32, 32)
    warped, seen = view.transform.warp(maps, photos, 4)
    torch.testing.assert_close(warped, maps, atol=1e-4, rtol=1e-4)
    assert [int(one.sum()) for one in seen] == [24 * 32, 32 * 20, 25 * 25]


def test_mirroring_moves_every_pixel_to_the_other_side():
    view = _draw(MIRROR, [(8, 12)])
    image = torch.randint(0, 256, (3, 8, 12))
    torch.testing.assert_close(view.images([image])[0], image.flip(2).float(), atol=0.01, rtol=0)
    moved = view.transform.points(torch.tensor([[[0.5, 1.5]]]), torch.tensor([0]))
    torch.testing.assert_close(moved, torch.tensor([[[11.5, 1.5]]]))


@pytest.mark.parametrize("seed", range(4))
def test_points_go_where_the_painted_pixels_go(seed):
    view = _draw(MOVED, seed=seed)
    for photo, (h, w) in enumerate(SIZES):
        target = torch.tensor([[[0.45 * w, 0.55 * h]]])
        centre = view.transform.inverse.points(target, torch.tensor([photo]))
        images = [torch.zeros(3, *size) for size in SIZES]
        images[photo] = 255.0 * _disc((h, w), centre[0, 0], 6).expand(3, h, w)
        seen = view.images(images)[photo][0]
        y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        total = seen.sum()
        found = torch.stack(((seen * x).sum() / total, (seen * y).sum() / total))
        torch.testing.assert_close(found, target[0, 0], atol=0.3, rtol=0)


def test_points_come_back():
    transform = _draw(MOVED).transform
    points, photos = torch.rand(6, 4, 2) * 100, torch.arange(6) % 3
    there = transform.points(points, photos)
    assert (there - points).abs().max() > 5
    back = transform.inverse.points(there, photos)
    torch.testing.assert_close(back, points, atol=1e-3, rtol=0)


@pytest.mark.parametrize("stride", [1, 4])
def test_a_mask_that_goes_and_comes_back_agrees_where_both_views_see(stride):
    transform = _draw(MOVED).transform
    photos = torch.arange(3)
    full = torch.stack(
        [_disc((128, 128), (0.5 * w, 0.45 * h), 0.35 * min(h, w)) for h, w in SIZES]
    ).float()
    cells = torch.nn.functional.avg_pool2d(full[:, None], stride)[:, 0]
    there, known = transform.warp(20 * (cells - 0.5), photos, stride)
    back, seen = transform.inverse.warp(torch.where(known, there, -10.0), photos, stride)
    # What the first view did not know does not come back right.
    known_back, _ = transform.inverse.warp(known.float(), photos, stride)
    agree = seen & (known_back > 0.999)
    for photo in range(3):
        mask, again = (cells[photo] > 0.5) & agree[photo], (back[photo] > 0) & agree[photo]
        assert mask.sum() > 500 / stride**2
        assert (mask & again).sum() / (mask | again).sum() > 0.97


def test_cells_that_are_seen_lie_in_both_photos():
    transform = _draw(MOVED).transform
    seen = transform.seen((32, 32), 4)
    y, x = torch.meshgrid((torch.arange(32) + 0.5) * 4, (torch.arange(32) + 0.5) * 4, indexing="ij")
    cells = torch.stack((x, y), -1).view(1, -1, 2).expand(3, -1, -1)
    sources = transform.inverse.points(cells, torch.arange(3))
    for photo, (h, w) in enumerate(SIZES):
        own, other = cells[photo][seen[photo].flatten()], sources[photo][seen[photo].flatten()]
        limit = torch.tensor([w, h])
        assert len(own) > 100
        assert bool((own <= limit).all())
        assert bool((other >= 1.9).all() and (other <= limit - 1.9).all())


def test_what_is_drawn_for_a_photo_does_not_depend_on_the_others():
    alone = SecondViewAugmentation().draw([SIZES[1]], SampleRandom([8]), CPU)
    among = SecondViewAugmentation().draw(SIZES, SampleRandom([7, 8, 9]), CPU)
    assert torch.equal(alone.transform.matrices[0], among.transform.matrices[1])
    image = torch.randint(0, 256, (3, *SIZES[1]), dtype=torch.uint8)
    others = [torch.zeros(3, *size) for size in SIZES]
    others[1] = image
    assert torch.equal(alone.images([image])[0], among.images(others)[1])


def test_colours_change_within_their_range_and_nothing_moves():
    augmentation = SecondViewAugmentation((1.0, 1.0), 0.0, 0.0, 0.0, 0.5, 2.0)
    view = _draw(augmentation)
    image = torch.rand(3, 96, 128) * 255
    changed = view.images([image, torch.zeros(3, 128, 80), torch.zeros(3, 100, 100)])[0]
    assert (changed - image).abs().mean() > 5
    assert changed.min() >= 0
    assert changed.max() <= 255.01
    identity = torch.eye(3)[:2].expand(3, 2, 3)
    torch.testing.assert_close(view.transform.matrices, identity, atol=1e-4, rtol=0)


def test_the_crop_lies_within_the_photo():
    only_crop = dataclasses.replace(NONE, crop_scale=(0.5, 0.5))
    transform = _draw(only_crop).transform
    for photo, (h, w) in enumerate(SIZES):
        corners = torch.tensor([[[0.0, 0.0], [w, h]]])
        first, last = transform.inverse.points(corners, torch.tensor([photo]))[0]
        torch.testing.assert_close(last - first, torch.tensor([w, h]) / 2.0)
        assert bool((first >= -1e-3).all() and (last <= torch.tensor([w, h]) + 1e-3).all())


def test_the_config_is_read():
    cfg = get_cfg()
    assert SecondViewAugmentation(**SecondViewAugmentation.from_config(cfg)) == (
        SecondViewAugmentation()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"crop_scale": (0.0, 1.0)},
        {"crop_scale": (0.8, 0.6)},
        {"crop_scale": (0.8, 1.2)},
        {"rotation": -10.0},
        {"shear": 60.0},
        {"flip_probability": 1.5},
        {"colour_jitter": 1.0},
        {"blur": -1.0},
    ],
)
def test_values_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=r"INPUT\.SECOND_VIEW"):
        dataclasses.replace(NONE, **change)
