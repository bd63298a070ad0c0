from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from unsam.data import get_dataset
from unsam.data.datasets.record import ImageRecord
from unsam.data.preparation.bsds500 import prepare_bsds500
from unsam.errors import DataError


def write_truth(path: Path, maps: list[np.ndarray]) -> None:
    cell = np.empty((1, len(maps)), object)
    for index, labels in enumerate(maps):
        cell[0, index] = {"Segmentation": labels, "Boundaries": labels > 0}
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"groundTruth": cell})


def label_maps(record: ImageRecord) -> list[np.ndarray]:
    rows = record.load_annotations()
    maps = [np.zeros(record.size, np.uint16) for _ in range(1 + max(r["annotator"] for r in rows))]
    masks = record.decode(rows)
    for index, row in enumerate(rows):
        maps[row["annotator"]][masks.mask(index)] = row["region_label"]
    return maps


@pytest.fixture
def download(data_root: Path, tmp_path: Path) -> tuple[Path, list[ImageRecord]]:
    """Three photos of the real set, their masks painted back into label maps."""
    raw, records = tmp_path / "BSDS500" / "data", get_dataset("bsds500_val_all")[:3]
    (raw / "images" / "val").mkdir(parents=True)
    for record in records:
        photo = Path(record.file_name)
        (raw / "images" / "val" / photo.name).symlink_to(photo)
        write_truth(raw / "groundTruth" / "val" / f"{photo.stem}.mat", label_maps(record))
    return raw, records


def test_regions_and_the_distinct_ones_are_those_of_the_published_file(
    download: tuple[Path, list[ImageRecord]], tmp_path: Path
) -> None:
    raw, records = download
    target = tmp_path / "bsds500" / "bsds500_val.json"
    prepare_bsds500(raw, "val", target)
    kept = ("segmentation", "area", "bbox", "annotator", "region_label", "distinct")
    made = get_dataset(str(target))
    assert len(made) == len(records)
    for one, other in zip(made, records, strict=True):
        assert Path(one.file_name).name == Path(other.file_name).name
        first, second = (
            [{key: row[key] for key in kept} for row in record.load_annotations()]
            for record in (one, other)
        )
        assert first == second


def test_half_downloads_are_refused(
    download: tuple[Path, list[ImageRecord]], tmp_path: Path
) -> None:
    raw, _ = download
    target = tmp_path / "bsds500_val.json"
    truth = sorted((raw / "groundTruth" / "val").iterdir())
    whole = truth[0].read_bytes()
    truth[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{truth[0].name}: damaged.*fetch it again") as caught:
        prepare_bsds500(raw, "val", target)
    assert "\n" not in str(caught.value)
    write_truth(truth[0], [np.ones((4, 4), int), np.ones((4, 5), int)])
    with pytest.raises(DataError, match="expected maps of one size"):
        prepare_bsds500(raw, "val", target)
    write_truth(truth[0], [np.ones((4, 4), int)])
    with pytest.raises(DataError, match=r"masks of size \(4, 4\), photo of"):
        prepare_bsds500(raw, "val", target)
    truth[0].unlink()
    with pytest.raises(DataError, match="1 of 3 maps of"):
        prepare_bsds500(raw, "val", target)
    with pytest.raises(DataError, match="give the folder BSDS500/data"):
        prepare_bsds500(raw, "test", target)
    assert not target.exists()
