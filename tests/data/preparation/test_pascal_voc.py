from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from tests.data.preparation.conftest import SIZE, write_photo
from unsam.data import get_dataset
from unsam.data.datasets.benchmarks import PublishedCounts
from unsam.data.preparation.pascal_voc import pascal_parts, prepare_pascal_voc, sbd_instances
from unsam.errors import DataError


def mask(rows: slice, columns: slice) -> np.ndarray:
    pixels = np.zeros(SIZE, np.uint8)
    pixels[rows, columns] = 1
    return pixels


def struct_array(items: list[dict[str, Any]], names: list[str]) -> np.ndarray:
    """A MATLAB struct array ``1 x N``, empty ones included."""
    array = np.zeros((1, len(items)), [(name, object) for name in names])
    for index, item in enumerate(items):
        for name in names:
            array[0, index][name] = item[name]
    return array


def write_sbd(path: Path, labels: np.ndarray, kinds: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    truth = {"Segmentation": labels, "Categories": np.array(kinds, np.uint8)[:, None]}
    savemat(path, {"GTinst": truth})


def write_parts(path: Path, objects: list[tuple[str, np.ndarray, dict[str, np.ndarray]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    things = [
        {
            "class": kind,
            "class_ind": 1,
            "mask": whole,
            "parts": struct_array(
                [{"part_name": name, "mask": pixels} for name, pixels in parts.items()],
                ["part_name", "mask"],
            ),
        }
        for kind, whole, parts in objects
    ]
    listed = struct_array(things, ["class", "class_ind", "mask", "parts"])
    savemat(path, {"anno": {"imname": path.stem, "objects": listed}})


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """``val.txt`` with two photos, ``img`` with one more."""
    names = ["2008_000002", "2008_000009"]
    (tmp_path / "val.txt").write_text("\n".join(names) + "\n")
    for name in [*names, "2009_000001"]:
        write_photo(tmp_path / "img" / f"{name}.jpg")
    return tmp_path


def test_sbd_takes_each_instance_with_its_class(download: Path) -> None:
    labels = mask(slice(0, 4), slice(0, 4)) + 2 * mask(slice(6, 9), slice(3, 10))
    write_sbd(download / "inst" / "2008_000002.mat", labels, [15, 7])
    write_sbd(download / "inst" / "2008_000009.mat", mask(slice(2, 3), slice(1, 6)), [3])
    target = download / "sbd_val.json"
    counts = PublishedCounts((2,), masks=3)
    places = (download / "val.txt", download / "img", download / "inst", target)
    line = prepare_pascal_voc(*places, sbd_instances, counts=counts)
    assert line == f"2 photos, 3 masks in {target}"
    first, second = get_dataset(str(target))
    np.testing.assert_array_equal(first.masks().masks(), [labels == 1, labels == 2])
    kinds = [row["source_category"] for row in first.load_annotations()]
    assert kinds == ["15", "7"]
    assert [row["source_category"] for row in second.load_annotations()] == ["3"]
    with pytest.raises(DataError, match="found 3 masks, expected 2, 1 too many"):
        prepare_pascal_voc(*places, sbd_instances, counts=PublishedCounts((2,), masks=2))
    with pytest.raises(DataError, match="found 2 photos, expected 2,857, 2,855 are missing"):
        prepare_pascal_voc(*places, sbd_instances, counts=PublishedCounts((2857,)))


def test_parts_belong_to_their_objects_and_the_rest_of_an_object_is_no_part(
    download: Path,
) -> None:
    body = mask(slice(2, 10), slice(2, 12))
    parts = {
        "head": mask(slice(2, 5), slice(2, 5)),
        "tail": mask(slice(0, 0), slice(0, 0)),
        "lleg": mask(slice(8, 10), slice(6, 8)),
    }
    table = mask(slice(0, 2), slice(0, 16))
    truth = download / "Annotations_Part"
    write_parts(truth / "2008_000002.mat", [("table", table, {}), ("dog", body, parts)])
    write_parts(truth / "2008_000009.mat", [("dog", body, {"head": parts["head"]})])
    target = download / "pascalpart_val.json"
    prepare_pascal_voc(download / "val.txt", download / "img", truth, target, pascal_parts)
    first, second = get_dataset(str(target))
    rows = first.load_annotations()
    assert [row["level"] for row in rows] == [0, 0, 1, 1]
    assert [row["source_category"] for row in rows] == ["table", "dog", "dog head", "dog lleg"]
    assert first.masks().parent.tolist() == [-1, -1, 1, 1]
    expected = [table, body, parts["head"], parts["lleg"]]
    np.testing.assert_array_equal(first.masks().masks(), np.array(expected) > 0)
    assert second.masks().parent.tolist() == [-1, 0]


def test_bad_downloads_give_one_line(download: Path) -> None:
    target, listing = download / "out.json", download / "val.txt"

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            prepare_pascal_voc(listing, download / "img", download / "inst", target, sbd_instances)
        assert "\n" not in str(caught.value)
        assert not target.exists()

    refused(r"2 of 2 files of masks of .*val\.txt are missing, the first is .*2008_000002\.mat")
    for name in ("2008_000002", "2008_000009"):
        write_sbd(download / "inst" / f"{name}.mat", mask(slice(0, 4), slice(0, 4))[:6], [1])
    refused(r"2008_000002\.jpg: masks of size \(6, 16\), photo of \(12, 16\)")
    broken = download / "inst" / "2008_000002.mat"
    broken.write_bytes(broken.read_bytes()[:150])
    refused(r"2008_000002\.mat: damaged, or no ground truth of SBD .*fetch it again")
    write_parts(broken, [("dog", mask(slice(0, 4), slice(0, 4)), {})])
    refused(r"2008_000002\.mat: damaged, or no ground truth of SBD \('GTinst'\)")
    with pytest.raises(DataError, match="no ground truth of Pascal-Part"):
        pascal_parts(download / "inst" / "2008_000009.mat")
    (download / "img" / "2008_000009.jpg").unlink()
    refused(r"1 of 2 photos of .*val\.txt are missing, the first is .*2008_000009\.jpg")
    listing.write_text("2008_000002\n2008_000002\n")
    refused(r"val\.txt: names 2008_000002 more than once")
    listing.unlink()
    refused(r"val\.txt: no such file")
