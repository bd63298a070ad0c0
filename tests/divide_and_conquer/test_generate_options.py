"""What a run is told and what it says: inputs, bad photos, damage, settings, facts."""

from __future__ import annotations

import io
import json
import random
import struct
import sys
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image

from divide_and_conquer import generate
from divide_and_conquer.generate import generate_pseudo_masks
from divide_and_conquer.generation.worker import make_one
from unsam.annotations.shards import list_shard
from unsam.errors import ConfigError, DataError, UnsamError
from unsam.structures import MaskSet


@pytest.fixture
def run(tiny_cfg, in_process):
    def call(source, target, **options):
        return generate_pseudo_masks(source, target, tiny_cfg, 1, progress=False, **options)

    call.made = in_process
    return call


def test_a_tar_gives_the_masks_of_its_photos_unpacked(run, data_root, tmp_path):
    photos = sorted((data_root / "sa1b_layout").glob("*.jpg"))[:3]
    with tarfile.open(tmp_path / "sa_000000.tar", "w") as tar:
        for photo in photos:
            tar.add(photo, f"./{photo.name}")
            tar.add(photo.with_suffix(".json"), f"./{photo.stem}.json")
            unpacked = tmp_path / "unpacked/sa_000000" / photo.name
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            unpacked.write_bytes(photo.read_bytes())
    from_tar = run(tmp_path / "sa_000000.tar", tmp_path / "a")
    from_files = run(tmp_path / "unpacked", tmp_path / "b")
    assert from_tar["images"] == from_files["images"]
    for entry in from_tar["images"].values():
        one, other = (tmp_path / out / entry["json"] for out in "ab")
        assert one.read_bytes() == other.read_bytes()


def test_what_shards_hold_is_an_input_again(run, tmp_path, save_photo):
    for seed in range(3):
        save_photo(tmp_path / f"in/{seed}.jpg", seed)
    first = run(tmp_path / "in", tmp_path / "packed", output_format="webdataset")
    again = run(tmp_path / "packed", tmp_path / "again")
    assert [e["sha256"] for e in first["images"].values()] == [
        e["sha256"] for e in again["images"].values()
    ]
    assert list(again["images"]) == [f"masks-00000/{seed}.jpg" for seed in range(3)]


def test_coco_and_list_with_missing_photos(run, tmp_path, save_photo):
    save_photo(tmp_path / "photos/a.png")
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "gone.png"}]
    (tmp_path / "set.json").write_text(json.dumps({"images": images}))
    (tmp_path / "set.txt").write_text("a.png\ngone.png\n")
    for name in ("set.json", "set.txt"):
        manifest = run(tmp_path / name, tmp_path / "out", image_root=tmp_path / "photos")
        assert list(manifest["images"]) == ["a.png"]
        assert manifest["failures"]["gone.png"].endswith("no such file")
        assert manifest["image_root"] == str(tmp_path / "photos")
    assert run.made == ["a.png"]


def test_a_cut_tar_is_a_failure_beside_its_whole_photos(run, tmp_path, save_photo):
    save_photo(tmp_path / "a.png")
    blob = (tmp_path / "a.png").read_bytes()
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for name in ("a.png", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))
    second = list_shard(tmp_path / "t.tar").members[1]
    (tmp_path / "t.tar").write_bytes((tmp_path / "t.tar").read_bytes()[: second.offset + 9])
    manifest = run(tmp_path / "t.tar", tmp_path / "out")
    assert list(manifest["images"]) == ["t/a.png"]
    assert "cut off" in manifest["failures"]["t.tar"]
    (tmp_path / "t.tar").write_text("no tar")
    with pytest.raises(DataError, match="none of the 1 photos"):
        run(tmp_path / "t.tar", tmp_path / "out2")


def declared_huge():
    """Return a PNG of a few bytes that says it has 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_bad_photos_are_listed_with_a_line_each(run, tmp_path, save_photo):
    source = tmp_path / "in"
    save_photo(source / "good.jpg", 1)
    blob = (source / "good.jpg").read_bytes()
    bad = {
        "cut.jpg": blob[:500],
        "empty.jpg": b"",
        "head.jpg": blob[:2],
        "huge.png": declared_huge(),
        "html.jpg": b"<html>not found</html>",
        "noise.webp": np.random.default_rng(0).bytes(5000),
        "zeros.tif": bytes(5000),
    }
    for name, content in bad.items():
        (source / name).write_bytes(content)
    (source / "link.jpg").symlink_to("nowhere.jpg")
    (source / "folder.jpg").mkdir()
    manifest = run(source, tmp_path / "out")
    assert list(manifest["images"]) == ["good.jpg"]
    assert set(manifest["failures"]) == {*bad, "link.jpg"}
    assert all(text and "\n" not in text for text in manifest["failures"].values())


def test_wide_and_odd_photos_are_read(run, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    Image.fromarray(rng.integers(0, 65535, (30, 40)).astype(np.uint16)).save(tmp_path / "in/16.png")
    rgb = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    rgb.convert("CMYK").save(tmp_path / "in/cmyk.jpg")
    rgb.convert("P").save(tmp_path / "in/palette.png", transparency=3)
    rgb.convert("1").save(tmp_path / "in/bits.tif")
    exif = Image.Exif()
    exif[0x0112] = 8
    rgb.save(tmp_path / "in/turned.jpg", exif=exif)
    manifest = run(tmp_path / "in", tmp_path / "out")
    assert not manifest["failures"]
    record = json.loads((tmp_path / "out/turned.jpg.json").read_text())
    assert MaskSet.from_sa1b(record).size == (40, 30)


def test_a_damaged_file_is_made_again(run, tmp_path, save_photo):
    save_photo(tmp_path / "in/a.png")
    run(tmp_path / "in", tmp_path / "out")
    path = tmp_path / "out/a.png.json"
    good = path.read_bytes()
    rng = random.Random(0)
    for attempt in range(6):
        run.made.clear()
        place = rng.randrange(len(good))
        damaged = bytearray(good)
        damaged[place] ^= 1 << rng.randrange(7)
        path.write_bytes([damaged, good[:place], b"", b"\xff" * 9, b"[]", good + good][attempt])
        run(tmp_path / "in", tmp_path / "out")
        assert path.read_bytes() == good
        assert run.made == ["a.png"]


class Supervised:
    """Stands for a pipeline that refines with weights trained on masks of people."""

    supervised = True

    def __call__(self, photo, name=""):
        self.last = name
        return MaskSet.from_masks(np.ones((1, *photo.shape[:2]), bool), source="divide")

    def report(self):
        counts = {"refined": int(self.last[0]), "moved_too_far": 1, "failed": 0}
        return {"refinement": counts} if self.last[0] != "0" else {}


def test_the_manifest_says_supervised_and_sums_refinement(
    tiny_cfg, tmp_path, save_photo, monkeypatch
):
    for number in range(3):
        save_photo(tmp_path / f"in/{number}.png", number)
    masker = Supervised()
    monkeypatch.setattr(generate, "build_masker", lambda cfg: masker)
    monkeypatch.setattr(
        generate, "run_local", lambda tasks, *_: ((task, make_one(masker, task)) for task in tasks)
    )
    for output_format in ("json", "webdataset"):
        target = tmp_path / output_format
        options = {"progress": False, "output_format": output_format}
        first = generate_pseudo_masks(tmp_path / "in", target, tiny_cfg, **options)
        assert first["supervised"] is True
        assert first["refinement"] == {"failed": 0, "moved_too_far": 2, "refined": 3}
        assert "refinement" not in first["images"]["0.png"]
        assert generate_pseudo_masks(tmp_path / "in", target, tiny_cfg, **options) == first
    assert json.loads((tmp_path / "json/2.png.json").read_text())["refinement"]["refined"] == 2


@pytest.mark.usefixtures("in_process")
def test_labels_of_the_default_are_no_labels(tiny_cfg, tmp_path, save_photo):
    save_photo(tmp_path / "in/a.png")
    manifest = generate_pseudo_masks(tmp_path / "in", tmp_path / "out", tiny_cfg, progress=False)
    assert manifest["supervised"] is False
    assert manifest["refinement"] == {}
    assert manifest["complete"] is True


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "spark"},
        {"output_format": "zip"},
        {"shard_index": 4, "num_shards": 4},
        {"shard_index": -1},
        {"num_shards": 0},
        {"samples_per_shard": 0},
        {"workers": -1},
        {"num_shards": -2, "shard_index": -1},
    ],
)
def test_wrong_settings_end_before_anything_is_written(tiny_cfg, tmp_path, save_photo, options):
    save_photo(tmp_path / "in/a.png")
    with pytest.raises(ConfigError) as caught:
        generate_pseudo_masks(tmp_path / "in", tmp_path / "out", tiny_cfg, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_empty_part_is_no_error(run, tmp_path, save_photo):
    save_photo(tmp_path / "in/a.png")
    done = [
        run(tmp_path / "in", tmp_path / "out", shard_index=index, num_shards=5)["counts"]["done"]
        for index in range(5)
    ]
    assert sorted(done) == [0, 0, 0, 0, 1]
    assert json.loads((tmp_path / "out/manifest.json").read_text())["counts"]["done"] == 1


def test_workers_that_cannot_start_end_the_run(tiny_cfg, tmp_path, save_photo, monkeypatch):
    save_photo(tmp_path / "in/a.png")
    monkeypatch.setattr(generate, "WORKER_COMMAND", [sys.executable, "-c", "raise SystemExit(5)"])
    with pytest.raises(UnsamError, match=r"exited \(5\) before its first photo"):
        generate_pseudo_masks(tmp_path / "in", tmp_path / "out", tiny_cfg, progress=False)


def test_without_ray_one_line_says_how_to_get_it(tiny_cfg, tmp_path, save_photo, monkeypatch):
    save_photo(tmp_path / "in/a.png")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnsamError, match=r"pip install 'unsam\[scale\]'") as caught:
        generate_pseudo_masks(
            tmp_path / "in", tmp_path / "out", tiny_cfg, progress=False, engine="ray"
        )
    assert "\n" not in str(caught.value)
