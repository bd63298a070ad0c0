"""Every form of a training set gives the same photos and masks, and names what is broken."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.datasets.conftest import NAMES, masks_of, photo_of
from unsam.annotations import records as records_module
from unsam.annotations.convert import convert_annotations
from unsam.annotations.tsv import line_offsets
from unsam.data import get_dataset
from unsam.errors import DataError


def pack(folder: Path, tar: Path, skip: str = "") -> Path:
    """Write a tar as SA-1B's are: photo, then JSON, with ``./`` before the names."""
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as archive:
        for path in sorted(folder.iterdir()):
            if path.name != skip:
                archive.add(path, f"./{path.name}")
    return tar


def as_tsv(folder: Path, out: Path) -> Path:
    convert_annotations(folder, out, "tsv", rows_per_file=2)
    return out


def as_json(folder: Path, out: Path) -> Path:
    convert_annotations(folder, out, "json")
    return out


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "folder": lambda folder, out: folder,
    "tar": lambda folder, out: pack(folder, out / "sa_000000.tar"),
    "folder of tars": lambda folder, out: pack(folder, out / "sa_000000.tar").parent,
    "webdataset": lambda folder, out: (
        convert_annotations(folder, out, "webdataset", rows_per_file=2) and out
    ),
    "folder of tsv": as_tsv,
    "tsv": lambda folder, out: convert_annotations(folder, out, "tsv") and out / "SAM-0.tsv",
    "coco": lambda folder, out: convert_annotations(folder, out / "a.json", "coco") and out,
    "folder of coco": lambda folder, out: convert_annotations(folder, out, "coco") and out,
    "manifest": as_json,
}


@pytest.mark.parametrize("form", FORMS)
def test_photos_masks_and_fields_come_back(form: str, sa1b_folder: Path, tmp_path: Path) -> None:
    path = FORMS[form](sa1b_folder, tmp_path / "out")
    spec = str(path / "a.json") if form == "coco" else str(path)
    root = str(sa1b_folder) if "coco" in form or form == "manifest" else ""
    records = pickle.loads(pickle.dumps(get_dataset(spec, root)))
    assert [record.image_id for record in records] == [1, 2, 3]
    for number, record in enumerate(records):
        assert record.file_name.endswith(NAMES[number])
        assert record.masks() == masks_of(number)
        assert record.size == photo_of(number).shape[:2]
        photo = record.read_photo()
        assert photo.shape == photo_of(number).shape
        assert np.abs(photo.astype(int) - photo_of(number)).max() < 12
        chosen = record.load_annotations()[1:2]
        assert record.decode(chosen).masks()[0].tolist() == masks_of(number).mask(1).tolist()


def test_a_pseudo_mask_folder_may_hold_shards(sa1b_folder: Path, tmp_path: Path) -> None:
    out = FORMS["webdataset"](sa1b_folder, tmp_path / "out")
    manifest = {"format": "webdataset", "image_root": "", "images": {name: {} for name in NAMES}}
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert [record.masks() for record in get_dataset(str(out))] == [masks_of(i) for i in range(3)]


def test_listing_a_folder_opens_no_file(sa1b_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("opened")

    monkeypatch.setattr("unsam.annotations.folders.read_bytes", refuse)
    monkeypatch.setattr(records_module, "read_bytes", refuse)
    assert len(get_dataset(str(sa1b_folder))) == 3


@pytest.mark.parametrize("form", ["tar", "folder of tsv", "folder", "coco"])
def test_a_record_takes_little_memory(form: str, sa1b_folder: Path, tmp_path: Path) -> None:
    path = FORMS[form](sa1b_folder, tmp_path / "out")
    spec = str(path / "a.json") if form == "coco" else str(path)
    records = get_dataset(spec, str(sa1b_folder) if form == "coco" else "")
    one, all_three = (len(pickle.dumps(records[:count])) for count in (1, 3))
    masks = len((sa1b_folder / "sa_1.json").read_bytes()) if form == "coco" else 0
    assert (all_three - one) / 2 < 400 + masks


def test_photos_of_a_folder_may_lie_elsewhere(sa1b_folder: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in NAMES:
        (sa1b_folder / name).rename(photos / name)
    with pytest.raises(DataError, match=r"3 of 3 photos are missing, the first is .*sa_1\.jpg"):
        get_dataset(str(sa1b_folder))
    records = get_dataset(str(sa1b_folder), str(photos))
    assert [record.file_name for record in records] == [str(photos / name) for name in NAMES]


def test_a_photo_of_a_tar_without_masks_is_named(sa1b_folder: Path, tmp_path: Path) -> None:
    tar = pack(sa1b_folder, tmp_path / "a.tar", skip="sa_2.json")
    one_line(lambda: get_dataset(str(tar)), "1 of 3 entries", "a.tar (sa_2)", "without a JSON")


def one_line(action: Callable[[], object], *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


def test_broken_samples_of_a_tar_are_named(sa1b_folder: Path, tmp_path: Path) -> None:
    (sa1b_folder / "sa_1.json").write_text('{"image": {"file_name": "sa_1.jpg"}, "annot')
    (sa1b_folder / "sa_2.jpg").write_bytes((sa1b_folder / "sa_2.jpg").read_bytes()[:300])
    tar = pack(sa1b_folder, tmp_path / "sa_000000.tar", skip="sa_3.jpg")
    first, second, third = get_dataset(str(tar))
    one_line(first.masks, "sa_000000.tar (sa_1.jpg)", "truncated or not JSON")
    one_line(second.read_photo, "sa_000000.tar/sa_2.jpg", "corrupt or truncated photo")
    one_line(third.read_photo, "sa_000000.tar/sa_3.jpg", "not in the archive", "IMAGE_ROOT")
    assert (third.masks(), second.masks()) == (masks_of(2), masks_of(1))


def test_a_tar_that_is_cut_off_is_refused_when_listed(sa1b_folder: Path, tmp_path: Path) -> None:
    tar = pack(sa1b_folder, tmp_path / "tars" / "sa_000007.tar")
    records = get_dataset(str(tar))
    tar.write_bytes(tar.read_bytes()[:-9000])
    one_line(lambda: get_dataset(str(tar.parent)), "sa_000007.tar", "cut off", "fetch")
    # Cut off after it was listed, as by another program.
    tar.write_bytes(tar.read_bytes()[:2000])
    one_line(records[2].masks, "sa_000007.tar", "cut off after 2000 bytes")
    one_line(records[2].read_photo, "sa_000007.tar/sa_3.jpg", "cut off")
    tar.unlink()
    one_line(records[2].masks, "sa_000007.tar", "no such file")


def test_broken_rows_of_a_tsv_are_named(sa1b_folder: Path, tmp_path: Path) -> None:
    tsv = FORMS["tsv"](sa1b_folder, tmp_path / "out")
    rows = tsv.read_bytes().split(b"\n")
    rows[0] = rows[0][:-3] + b"!!!"
    rows[1] = rows[1].replace(b'{"image"', b'{"im', 1)
    tsv.write_bytes(b"\n".join(rows))
    first, second, third = get_dataset(str(tsv))
    one_line(first.read_photo, "SAM-0.tsv/sa_1.jpg", "base64")
    one_line(second.masks, "SAM-0.tsv line 2", "not JSON")
    tsv.write_bytes(b"x" * int(line_offsets(tsv)[2]) + b"no tabs" + b"y" * len(rows[2]))
    one_line(third.masks, "SAM-0.tsv line 3", "has changed")
    tsv.write_bytes(b"one column\n")
    one_line(lambda: get_dataset(str(tsv)), "SAM-0.tsv line 1", "expected key, JSON and photo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": {"height"', "truncated"),
        ("[]", "expected a JSON object"),
        ('{"image": {"height": 20}, "annotations": []}', "expected 'image' with 'height'"),
        ('{"image": {"height": 0, "width": 3}, "annotations": []}', "3x0 pixels"),
        ('{"image": {"height": 4, "width": 3}, "annotations": [7]}', "1 annotations"),
        ('{"image": {"height": 4, "width": 3}, "annotations": [{}]}', "no segmentation"),
    ],
)
def test_broken_files_of_a_folder_are_named(text: str, message: str, sa1b_folder: Path) -> None:
    (sa1b_folder / "sa_1.json").write_text(text)
    records = get_dataset(str(sa1b_folder))
    one_line(records[0].masks, "sa_1.j", message)
    assert records[1].masks() == masks_of(1)


def test_a_field_of_the_wrong_kind_is_one_line(sa1b_folder: Path) -> None:
    content = masks_of(0).to_sa1b("sa_1.jpg", 1)
    content["annotations"][0]["granularity"] = "fine"
    (sa1b_folder / "sa_1.json").write_text(json.dumps(content))
    one_line(get_dataset(str(sa1b_folder))[0].masks, "sa_1.jpg", "wrong kind", "fine")


def test_missing_and_odd_granularity_is_that_of_the_whole(sa1b_folder: Path) -> None:
    content = masks_of(0).to_sa1b("sa_1.jpg", 1)
    content["annotations"][0]["granularity"] = float("nan")
    content["annotations"][1]["granularity"] = float("-inf")
    del content["annotations"][2]["granularity"]
    (sa1b_folder / "sa_1.json").write_text(json.dumps(content))
    assert get_dataset(str(sa1b_folder))[0].masks().granularity.tolist() == [1.0, 1.0, 1.0]


def test_one_kind_of_archive_per_folder(sa1b_folder: Path, tmp_path: Path) -> None:
    out = as_tsv(sa1b_folder, tmp_path / "out")
    shutil.copy(pack(sa1b_folder, tmp_path / "a.tar"), out)
    one_line(lambda: get_dataset(str(out)), "both TSV and tar files")
