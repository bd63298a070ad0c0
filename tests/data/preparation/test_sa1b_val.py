from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from unsam.data import get_dataset
from unsam.data.datasets import BENCHMARKS
from unsam.data.preparation import sa1b_val
from unsam.data.preparation.draw import draw
from unsam.data.preparation.sa1b_val import prepare_sa1b_val
from unsam.errors import DataError


def write_tar(path: Path, layout: Path, numbers: list[int]) -> Path:
    """Photos and masks of the layout sample under SA-1B's names."""
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            for suffix in (".jpg", ".json"):
                tar.add(layout / f"layout_00000{number}{suffix}", f"./sa_{number}{suffix}")
    return path


@pytest.fixture
def layout(data_root: Path) -> Path:
    return data_root / "sa1b_layout"


def test_the_draw_and_the_masks(
    layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sa1b_val, "NUM_PHOTOS", 3)
    target = tmp_path / "sa1b" / "annotations" / "sa1b_val.json"
    tar = write_tar(tmp_path / "sa_000999.tar", layout, [1, 2, 3, 4, 5])
    prepare_sa1b_val(tar, target)
    records = get_dataset(str(target))
    assert [record.image_id for record in records] == sorted(draw(range(1, 6), 3))
    for record in records:
        source = layout / f"layout_00000{record.image_id}.json"
        photo = tmp_path / "sa1b" / "images" / Path(record.file_name).name
        assert photo.read_bytes() == source.with_suffix(".jpg").read_bytes()
        published = json.loads(source.read_text())["annotations"]
        kept = [row["segmentation"] for row in record.load_annotations()]
        assert kept == [row["segmentation"] for row in published]
    first = target.read_bytes()
    write_tar(tar, layout, [5, 3, 1, 4, 2])
    prepare_sa1b_val(tar, target)
    assert target.read_bytes() == first


def test_masks_for_clicks_share_no_pixel(layout: Path, tmp_path: Path) -> None:
    target = tmp_path / "sa1b_val.json"
    prepare_sa1b_val(write_tar(tmp_path / "sa_000999.tar", layout, [1, 2]), target)
    for record in get_dataset(str(target)):
        rows = record.load_annotations()
        marked = [row for row in rows if row["interactive"]]
        assert 1 <= len(marked) <= 5
        assert record.decode(marked).masks().sum(axis=0).max() == 1
        order = draw([f"{record.image_id}:{row['local_id']}" for row in rows], len(rows))
        ids = {f"{record.image_id}:{row['local_id']}" for row in marked}
        assert order[0] in ids
        # Fewer than five are taken only where every other mask overlaps one of them.
        if len(marked) < 5:
            rest = [row for row in rows if not row["interactive"]]
            shared = record.decode(rest).intersections(record.decode(marked))
            assert np.all(shared.max(axis=1) > 0)


def test_counts_and_damage(layout: Path, tmp_path: Path) -> None:
    target = tmp_path / "sa1b_val.json"
    tar = write_tar(tmp_path / "sa_000999.tar", layout, [1, 2])
    counts = BENCHMARKS["unsam_sa1b_val"].counts
    with pytest.raises(DataError, match=r"999\.tar: found 2 photos, expected 1,000, 998 are miss"):
        prepare_sa1b_val(tar, target, counts=counts)
    assert not (tmp_path / "images").exists()
    with tarfile.open(tar, "a") as stream:
        for suffix in (".jpg", ".json"):
            stream.add(layout / f"layout_000001{suffix}", f"./again/sa_1{suffix}")
    with pytest.raises(DataError, match=r"sa_000999\.tar: two photos have the id 1$"):
        prepare_sa1b_val(tar, target)
    tar.write_bytes(tar.read_bytes()[:30_000])
    with pytest.raises(DataError, match=r"sa_000999\.tar") as caught:
        prepare_sa1b_val(tar, target)
    assert "\n" not in str(caught.value)
    assert not target.exists()
