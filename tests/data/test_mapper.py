"""Training samples: the contract, and randomness that depends on the key alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from unsam.config import get_cfg
from unsam.data import ImageRecord, get_dataset
from unsam.data.mapper import TrainingDataset, TrainingMapper
from unsam.data.sampler import SampleKey
from unsam.errors import ConfigError, DataError
from unsam.structures import MaskSet


@pytest.fixture
def record(tmp_path: Path) -> ImageRecord:
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.png")
    dense = np.zeros((20, 30, 40), bool)
    for index in range(20):
        dense[index, index : index + 8, index : index + 9] = True
    masks = MaskSet.from_masks(dense, granularity=np.linspace(0.1, 1.0, 20))
    return ImageRecord(5, str(tmp_path / "a.png"), 30, 40, masks.to_coco(5))


def make_mapper(**changes: Any) -> TrainingMapper:
    settings: dict[str, Any] = {
        "image_size": 32,
        "max_masks": 8,
        "min_mask_area": 4,
        "crop_scale": (0.5, 1.0),
        "flip_probability": 0.5,
        "colour_jitter": 0.3,
        "seed": 1,
    }
    return TrainingMapper(**settings | changes)


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(
        torch.equal(first[name], second[name])
        if isinstance(first[name], torch.Tensor)
        else first[name] == second[name]
        for name in first
    )


def test_sample_is_as_promised(record: ImageRecord) -> None:
    sample = make_mapper()(record, SampleKey(0, 0))
    h, w = sample["image"].shape[1:]
    assert sample["image"].dtype == torch.uint8
    assert sample["image"].shape[0] == 3
    assert max(h, w) == 32
    assert sample["masks"].dtype == torch.bool
    assert sample["masks"].shape[1:] == (h, w)
    assert 0 < len(sample["masks"]) <= 8
    assert (sample["masks"].sum((1, 2)) >= 4).all()
    assert sample["granularity"].dtype == torch.float32
    assert len(sample["granularity"]) == len(sample["masks"])
    assert sample["image_id"] == 5
    assert sample["file_name"].endswith("a.png")
    assert sample["original_size"] == (30, 40)


def test_granularity_stays_with_its_mask(record: ImageRecord) -> None:
    mapper = make_mapper(
        image_size=40, crop_scale=(1.0, 1.0), flip_probability=0.0, max_masks=20, min_mask_area=1
    )
    sample = mapper(record, SampleKey(0, 0))
    assert len(sample["masks"]) == 20
    masks = record.masks()
    for mask, granularity in zip(sample["masks"], sample["granularity"], strict=True):
        index = int(np.argmin(np.abs(masks.granularity - float(granularity))))
        np.testing.assert_array_equal(mask.numpy(), masks.mask(index))


def test_sample_depends_on_seed_pass_and_photo_alone(record: ImageRecord) -> None:
    first = make_mapper()(record, SampleKey(2, 3))
    torch.rand(5)
    np.random.random(5)  # noqa: NPY002
    assert equal(first, make_mapper()(record, SampleKey(2, 3)))
    for key, seed in ((SampleKey(3, 3), 1), (SampleKey(2, 4), 1), (SampleKey(2, 3), 2)):
        assert not torch.equal(
            make_mapper(seed=seed, crop_scale=(1.0, 1.0))(record, key)["image"], first["image"]
        )


def test_number_of_masks_does_not_change_the_view(record: ImageRecord) -> None:
    few = make_mapper(max_masks=2)(record, SampleKey(0, 0))
    many = make_mapper(max_masks=20)(record, SampleKey(0, 0))
    assert torch.equal(few["image"], many["image"])


def test_photo_without_masks(record: ImageRecord) -> None:
    sample = make_mapper()(replace(record, annotations=[]), SampleKey(0, 0))
    assert sample["masks"].shape == (0, *sample["image"].shape[1:])
    assert sample["granularity"].shape == (0,)


@pytest.mark.parametrize("shape", ["keep", "stretch", "fixed"])
def test_one_pixel(tmp_path: Path, shape: str) -> None:
    Image.fromarray(np.full((1, 1, 3), 9, np.uint8)).save(tmp_path / "p.png")
    masks = MaskSet.from_masks(np.ones((1, 1, 1), bool)).to_coco(1)
    record = ImageRecord(1, str(tmp_path / "p.png"), 1, 1, masks)
    sample = make_mapper(shape=shape)(record, SampleKey(0, 0))
    assert sample["image"].shape == (3, 32, 32)
    assert sample["masks"].all()


def test_trouble_names_the_photo(record: ImageRecord) -> None:
    other = replace(record, height=20, width=40, annotations=[])
    with pytest.raises(DataError, match=r"a\.png.*30x40.*20x40"):
        make_mapper()(other, SampleKey(0, 0))
    file = Path(record.file_name)
    file.write_bytes(file.read_bytes()[:200])
    dataset = TrainingDataset([record], make_mapper())
    assert len(dataset) == 1
    error = dataset[SampleKey(0, 0)]
    assert isinstance(error, DataError)
    assert "a.png" in str(error)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_scale": (0.0, 1.0)}, "CROP_SCALE"),
        ({"crop_scale": (0.5, 1.1)}, "CROP_SCALE"),
        ({"max_masks": 0}, "MAX_MASKS"),
        ({"shape": "round"}, "SHAPE must be one of keep, stretch, fixed, got 'round'"),
        ({"jitter_scale": (0.1, 2.0)}, "JITTER_SCALE.*fixed"),
        ({"shape": "fixed", "jitter_scale": (2.0, 0.1)}, "JITTER_SCALE"),
        ({"square_size": 32}, "SQUARE_SIZE.*fixed"),
        ({"shear": 90.0}, "SHEAR"),
        ({"rotation": -10.0}, "ROTATION"),
        ({"copy_paste_scale": (0.0, 1.0)}, "COPY_PASTE_SCALE"),
    ],
)
def test_impossible_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_mapper(**changes)


def test_large_scale_jitter_pads_with_the_mean_and_never_a_mask(record: ImageRecord) -> None:
    mapper = make_mapper(
        shape="fixed",
        jitter_scale=(0.5, 0.5),
        crop_scale=(1.0, 1.0),
        colour_jitter=0.0,
        padding=(123.675, 116.28, 103.53),
        min_mask_area=1,
    )
    sample = mapper(record, SampleKey(0, 0))
    assert sample["image"].shape == (3, 32, 32)
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[:12, :16] = False
    assert (sample["image"][:, outside] == torch.tensor([[124], [116], [104]])).all()
    assert len(sample["masks"]) > 0
    assert not sample["masks"][:, outside].any()


def test_pasted_masks_come_from_another_photo(record: ImageRecord, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 30, 3), 77, np.uint8)).save(tmp_path / "b.png")
    dense = np.zeros((1, 40, 30), bool)
    dense[0, 10:30, 5:25] = True
    annotations = MaskSet.from_masks(dense, granularity=[0.35]).to_coco(6)
    donor = ImageRecord(6, str(tmp_path / "b.png"), 40, 30, annotations)
    settings: dict[str, Any] = {
        "colour_jitter": 0.0,
        "max_masks": 30,
        "crop_scale": (1.0, 1.0),
    }
    mapper = make_mapper(copy_paste_probability=0.5, copy_paste_scale=(0.4, 0.8), **settings)
    pasted = 0
    for photo in range(30):
        key = SampleKey(0, photo)
        sample = mapper(record, key, [donor])
        assert equal(sample, mapper(record, key, [donor]))
        plain = make_mapper(**settings)(record, key)
        if equal(sample, plain):
            continue
        pasted += 1
        grey = (sample["image"] == 77).all(0)
        mask = sample["masks"][sample["granularity"] == np.float32(0.35)]
        assert len(mask) == 1
        assert torch.equal(mask[0], grey)
        assert torch.equal(sample["image"][:, ~grey], plain["image"][:, ~grey])
    assert 5 < pasted < 25
    dataset = TrainingDataset([record, donor], make_mapper(copy_paste_probability=1.0))
    assert isinstance(dataset[SampleKey(0, 0)], dict)
    Path(donor.file_name).unlink()
    failed = [isinstance(dataset[SampleKey(epoch, 0)], DataError) for epoch in range(12)]
    assert 0 < sum(failed) < 12, "each sample draws its own donor"


@pytest.mark.parametrize("num_workers", [1, 2])
def test_sample_is_the_same_whatever_the_worker(record: ImageRecord, num_workers: int) -> None:
    mapper = make_mapper(
        shape="fixed",
        jitter_scale=(0.5, 2.0),
        rotation=25.0,
        shear=20.0,
        grey_probability=0.3,
        copy_paste_probability=0.5,
    )
    records = [record, replace(record, image_id=6), replace(record, image_id=7)]
    dataset = TrainingDataset(records, mapper)
    keys = [SampleKey(epoch, photo) for epoch in range(2) for photo in range(3)]
    loader = DataLoader(dataset, 1, sampler=keys, num_workers=num_workers, collate_fn=list)
    for key, (sample,) in zip(keys, loader, strict=True):
        assert equal(sample, dataset[key])


def test_real_photos(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSAM_DATA", str(data_root))
    records = get_dataset("bsds500_train_all")
    mapper = TrainingMapper.from_config(get_cfg())
    for number in (0, 50, 199):
        sample = mapper(records[number], SampleKey(0, number))
        assert max(sample["image"].shape[1:]) == get_cfg().INPUT.IMAGE_SIZE
        assert len(sample["masks"]) > 10
