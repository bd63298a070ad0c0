"""Conversions lose no mask and no field, and name what they could not read."""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.annotations.conftest import nested_masks, records_of
from unsam.annotations import shards
from unsam.annotations.convert import convert_annotations
from unsam.annotations.folders import JsonFolderWriter
from unsam.annotations.formats import FORMATS, open_source
from unsam.data import get_dataset
from unsam.data.datasets.coco import load_coco_json
from unsam.errors import DataError
from unsam.structures import MaskSet, read_photo

NAMES = ("a/b.jpg", "c d.png", "ünï.tag.jpg", "a/b.png")


@pytest.fixture
def folder(make_folder: Callable[..., Path]) -> Path:
    masks = {name: nested_masks(seed) for seed, name in enumerate(NAMES)}
    return make_folder("masks", {**masks, "bare.jpg": MaskSet.empty((24, 36))})


def through(source: Path, tmp: Path, formats: tuple[str, ...]) -> Path:
    for step, name in enumerate(formats):
        target = tmp / f"step{step}_{name}"
        counts = convert_annotations(source, target, name, rows_per_file=2)
        assert not counts.failures
        source = target
    return source


def test_the_tour_through_all_formats_ends_at_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    end = through(folder, tmp_path, ("json", "tsv", "coco", "webdataset", "json"))
    start = tmp_path / "step0_json"
    for name in (*NAMES, "bare.jpg"):
        assert (end / f"{name}.json").read_bytes() == (start / f"{name}.json").read_bytes()
        given = json.loads((folder / f"{name}.json").read_text())
        assert json.loads((end / f"{name}.json").read_text()) == given


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    order=st.permutations(FORMATS),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=5),
    extra=st.dictionaries(st.sampled_from(["level", "note"]), st.integers() | st.text()),
)
def test_masks_and_fields_survive_any_tour(
    order: list[str], seeds: list[int], extra: dict, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp = tmp_path_factory.mktemp("tour")
    (tmp / "photos").mkdir()
    writer = JsonFolderWriter(tmp / "masks", tmp / "photos")
    for number, seed in enumerate(seeds):
        pixels = np.full((24, 36, 3), seed, np.uint8)
        Image.fromarray(pixels).save(tmp / "photos" / f"{number}.jpg")
        record = nested_masks(seed).to_sa1b(f"{number}.jpg", image_id=0)
        record["annotations"][2] |= extra
        writer.add(record)
    writer.finish({}, {})
    end = records_of(through(tmp / "masks", tmp, (*order, "json")))
    for number, seed in enumerate(seeds):
        assert end[f"{number}.jpg"].masks() == nested_masks(seed)
        start = json.loads((tmp / "masks" / f"{number}.jpg.json").read_text())
        assert end[f"{number}.jpg"].to_json()["annotations"] == start["annotations"]


@pytest.mark.parametrize("to", FORMATS)
def test_the_same_input_gives_the_same_bytes(folder: Path, tmp_path: Path, to: str) -> None:
    for target in ("one", "two"):
        convert_annotations(folder, tmp_path / target, to)
        convert_annotations(folder, tmp_path / target, to)
    files = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    ]
    assert files[0] == files[1]
    assert not [path for path in files[0] if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("name", "file", "count"),
    [
        ("bsds500", "bsds500_val.json", 4),
        ("coco", "coco_train.json", 12),
        ("clothing_parts", "clothing_parts_val.json", 4),
    ],
)
def test_real_sets_through_tsv_and_tar(
    some_of: Callable[..., Path], tmp_path: Path, name: str, file: str, count: int
) -> None:
    source = some_of(name, file, count)
    end = records_of(through(source, tmp_path, ("tsv", "webdataset", "coco")))
    start = records_of(source)
    assert end.keys() == start.keys()
    for key, record in start.items():
        assert end[key].shapes == record.shapes
        assert end[key].annotations == record.annotations
        assert end[key].photo is not None
        assert end[key].photo.read() == record.photo.read()


def test_sa1b_layout_to_the_published_tsv(data_root: Path, tmp_path: Path) -> None:
    """Read back by the published layout alone: offsets, columns, keys."""
    convert_annotations(data_root / "sa1b_layout", tmp_path, "tsv", rows_per_file=3)
    assert sorted(p.name for p in tmp_path.glob("*.tsv")) == ["SAM-0.tsv", "SAM-1.tsv", "SAM-2.tsv"]
    number = 0
    for tsv in sorted(tmp_path.glob("*.tsv")):
        for row in tsv.with_suffix(".lineidx").read_text().splitlines():
            number += 1
            with tsv.open("rb") as stream:
                stream.seek(int(row.split()[0]))
                key, text, *_, photo = stream.readline().rstrip(b"\n").split(b"\t")
            content = json.loads(text)
            original = data_root / "sa1b_layout" / f"layout_{number:06d}"
            assert key.decode() == f"{original.name}.jpg"
            assert content["image"]["id"] == content["image"]["image_id"] == number
            assert base64.b64decode(photo) == original.with_suffix(".jpg").read_bytes()
            given = json.loads(original.with_suffix(".json").read_text())
            assert content["annotations"] == given["annotations"]
    assert number == 8


def test_other_photos_become_upright_jpegs_in_a_tsv(tmp_path: Path) -> None:
    turned = Image.fromarray(np.arange(24 * 36 * 3, dtype=np.uint8).reshape(24, 36, 3))
    exif = turned.getexif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    turned.save(tmp_path / "photos" / "turned.jpg", exif=exif)
    Image.fromarray(np.full((24, 36), 40000, np.uint16)).save(tmp_path / "photos" / "deep.png")
    writer = JsonFolderWriter(tmp_path / "masks", tmp_path / "photos")
    writer.add(nested_masks(0, (36, 24)).to_sa1b("turned.jpg"))
    writer.add(nested_masks(1).to_sa1b("deep.png"))
    writer.finish({}, {})
    convert_annotations(tmp_path / "masks", tmp_path / "tsv", "tsv")
    for name, record in records_of(tmp_path / "tsv").items():
        assert record.photo is not None
        (tmp_path / "out.jpg").write_bytes(record.photo.read())
        with Image.open(tmp_path / "out.jpg") as image:
            assert image.format == "JPEG"
            assert image.size == record.size[::-1]
            assert image.getexif().get(0x0112, 1) == 1
        want = read_photo(tmp_path / "photos" / name).astype(int)
        assert np.abs(read_photo(tmp_path / "out.jpg") - want).mean() < 8


def test_results_load_as_datasets(folder: Path, tmp_path: Path) -> None:
    end = through(folder, tmp_path, ("tsv", "json"))
    by_name = {Path(item.file_name).name: item for item in get_dataset(str(end))}
    assert by_name["c d.png"].masks() == nested_masks(1)
    convert_annotations(end, tmp_path / "set.json", "coco")
    records = load_coco_json(tmp_path / "set.json", end / "images")
    assert sorted(len(item.masks()) for item in records) == [0, 5, 5, 5, 5]


def damaged_tsv(folder: Path, tmp_path: Path) -> Path:
    tsv = tmp_path / "tsv" / "SAM-0.tsv"
    convert_annotations(folder, tsv.parent, "tsv")
    rows = tsv.read_bytes().splitlines(keepends=True)
    key, text, photo = rows[1].split(b"\t")
    rows[0] = b"no tabs at all\n"
    rows[1] = b"\t".join([key, text[:300], photo])
    rows[2] = rows[2][:-900] + b"\n"
    rows[4] = rows[4].rstrip()[:-200]
    tsv.write_bytes(b"".join(rows))
    return tsv


def test_damaged_rows_are_named_and_skipped(folder: Path, tmp_path: Path) -> None:
    tsv = damaged_tsv(folder, tmp_path)
    counts = convert_annotations(tsv, tmp_path / "tar", "webdataset")
    assert counts.photos == 1
    reasons = [counts.failures[f"{tsv} line {line}"] for line in (1, 2, 3, 5)]
    assert len(counts.failures) == 4
    for reason, word in zip(reasons, ("tabs", "not JSON", "cut off", "cut off"), strict=True):
        assert word in reason
    with pytest.raises(DataError, match=r"4 of 5 records could not be used \(.*line 1: expected"):
        convert_annotations(tsv, tmp_path / "strict", "webdataset", strict=True)
    assert len(records_of(tmp_path / "strict")) == 1


@pytest.mark.parametrize("state", ["missing", "of another file", "garbage", "short"])
def test_a_wrong_lineidx_is_made_up_for(folder: Path, tmp_path: Path, state: str) -> None:
    convert_annotations(folder, tmp_path / "tsv", "tsv")
    index = tmp_path / "tsv" / "SAM-0.lineidx"
    right = index.read_text()
    wrong = {"of another file": "0\n17\n30\n", "garbage": "x\x00y", "short": right[:6]}
    if state == "missing":
        index.unlink()
    else:
        index.write_text(wrong[state])
    assert len(records_of(tmp_path / "tsv")) == 5


def test_a_cut_tar_gives_what_is_whole(folder: Path, tmp_path: Path) -> None:
    convert_annotations(folder, tmp_path / "tar", "webdataset")
    (tar,) = (tmp_path / "tar").iterdir()
    listing = shards.list_shard(tar)
    os.truncate(tar, listing.members[6].offset + 10)
    counts = convert_annotations(tar, tmp_path / "json", "json")
    assert counts.photos == 3
    assert "cut off" in counts.failures[str(tar)]


def test_photos_that_do_not_fit_are_failures(folder: Path, tmp_path: Path) -> None:
    photos = tmp_path / "masks_photos"
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(photos / "a/b.jpg")
    whole = (photos / "c d.png").read_bytes()
    (photos / "c d.png").write_bytes(whole[: len(whole) // 2])
    (photos / "bare.jpg").unlink()
    for to in ("tsv", "webdataset"):
        counts = convert_annotations(folder, tmp_path / to, to)
        assert counts.photos == 2
        text = [counts.failures[str(folder / f"{name}.json")] for name in (*NAMES[:2], "bare.jpg")]
        assert "photo of (5, 5)" in text[0]
        assert "damaged or cut off" in text[1]
        assert "no photo bare.jpg was found" in text[2]


@pytest.mark.parametrize(
    ("to", "number"), [("json", 2), ("tsv", 2), ("webdataset", 1), ("coco", 0)]
)
def test_a_crash_between_writes_leaves_no_half_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, number: int
) -> None:
    class CrashError(Exception):
        pass

    real, calls = os.replace, itertools.count()

    def crash(source: str, target: str) -> None:
        if next(calls) == number:
            raise CrashError
        real(source, target)

    target = tmp_path / to
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(CrashError):
            convert_annotations(folder, target, to, rows_per_file=2)
    left = [path for path in target.rglob("*") if path.is_file()]
    assert len(left) == number
    for path in left:
        if path.suffix in (".tsv", ".tar"):
            assert len(records_of(path)) == 2
        elif path.suffix == ".json":
            json.loads(path.read_text())
    convert_annotations(folder, target, to, rows_per_file=2)
    assert len(records_of(target)) == 5


def test_older_files_are_not_mixed_with_new_ones(folder: Path, tmp_path: Path) -> None:
    for to in ("tsv", "webdataset"):
        convert_annotations(folder, tmp_path / to, to, rows_per_file=2)
        with pytest.raises(DataError, match=r"all is written, but 2 older files .*-0*1\.t"):
            convert_annotations(folder, tmp_path / to, to, rows_per_file=5)


def test_one_photo_twice_is_a_failure_in_lists_by_name(folder: Path, tmp_path: Path) -> None:
    convert_annotations(folder, tmp_path / "tsv", "tsv")
    rows = (tmp_path / "tsv" / "SAM-0.tsv").read_bytes()
    (tmp_path / "tsv" / "SAM-1.tsv").write_bytes(rows)
    for to in ("json", "coco"):
        counts = convert_annotations(tmp_path / "tsv", tmp_path / to, to)
        assert counts.photos == len(counts.failures) == 5
        assert all("second record of the photo" in text for text in counts.failures.values())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b'{"images": [{"id"', "truncated or not JSON"),
        ("x.json", b"[]", "list of COCO results"),
        ("x.json", b"3", "expected a JSON object"),
        ("x.json", b'{"images": []}', "expected a list 'annotations'"),
        ("x.json", b'{"images": [], "annotations": []}', "no photo with masks in it"),
        ("x.json", b'{"image": {}, "annotations": []}', "name the folder"),
        ("x.tsv", b"\xff\xfe garbage \x00\n", r"none of 1 records .*x\.tsv line 1: expected key"),
        ("x.tsv", b"", "no photo with masks in it"),
        ("x.tar", b"not a tar", r"none of 1 records .*not an uncompressed tar"),
        ("x.txt", b"", "not a format of masks"),
        ("folder/x.txt", b"", "no masks in this folder"),
        ("folder/x.json", b'{"image": {"height"', r"none of 1 records .*x\.json: truncated"),
        ("folder/manifest.json", b"{}", "expected 'images'"),
    ],
)
def test_wrong_inputs_are_one_clear_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    source = path.parent if "/" in name else path
    with pytest.raises(DataError, match=message) as caught:
        convert_annotations(source, tmp_path / "out", "coco")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_wrong_arguments(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        convert_annotations(tmp_path / "gone", tmp_path / "out", "tsv")
    with pytest.raises(DataError, match="'voc' is no format"):
        convert_annotations(folder, tmp_path / "out", "voc")
    with pytest.raises(DataError, match="the output is the input"):
        convert_annotations(folder, folder, "json")
    with pytest.raises(DataError, match="at least 1"):
        convert_annotations(folder, tmp_path / "out", "tsv", rows_per_file=0)
    with pytest.raises(DataError, match="no such folder of photos"):
        open_source(folder, tmp_path / "gone")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file"):
        convert_annotations(folder, tmp_path / "file", "tsv")


def test_formats_and_commands_are_not_mixed_in_one_folder(folder: Path, tmp_path: Path) -> None:
    for to in ("json", "coco", "tsv", "webdataset"):
        convert_annotations(folder, tmp_path / to, to)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    for held in ("json", "coco", "tsv", "webdataset"):
        convert_annotations(folder, tmp_path / held, held)
        for to in {"json", "coco", "tsv", "webdataset"} - {held}:
            with pytest.raises(DataError, match=f"holds masks as {held} already"):
                convert_annotations(folder, tmp_path / held, to)
    (tmp_path / "pseudo").mkdir()
    made = {"config": {"PSEUDO_MASKS": {}}, "images": {}}
    (tmp_path / "pseudo/manifest.json").write_text(json.dumps(made))
    with pytest.raises(DataError, match=r"manifest\.json: what another command"):
        convert_annotations(folder, tmp_path / "pseudo", "json")
    assert {path: path.read_bytes() for path in before} == before


def test_empty_names_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="output is an empty name"):
        convert_annotations(folder, "", "tsv")
    with pytest.raises(DataError, match="input is an empty name"):
        convert_annotations("", "out", "tsv")
