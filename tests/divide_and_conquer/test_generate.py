"""A folder of photos to a folder of masks: names, formats, reruns, failures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from divide_and_conquer import generate
from divide_and_conquer.generate import find_photos, generate_pseudo_masks
from divide_and_conquer.generation.worker import make_one
from divide_and_conquer.pipeline import PseudoMasker
from unsam.config import get_cfg
from unsam.errors import DataError, UnsamError
from unsam.structures import MaskSet


@pytest.fixture(scope="module")
def cfg():
    node = get_cfg()
    node.PSEUDO_MASKS.WORK_SIZE = 64
    return node


def picture(seed=0, size=(40, 56)):
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), 60, np.uint8)
    image[8:30, 10:40] = rng.integers(100, 255, 3)
    image[12:20, 15:25] = rng.integers(0, 100, 3)
    return image


def save(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path, **options)


def run(source, target, cfg, workers=1, **options):
    return generate_pseudo_masks(source, target, cfg, workers, progress=False, **options)


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.json")}


NAMES = ["a.jpg", "a.png", "b.c.d.PNG", "sub/a.jpg", "sub dir/grüße 猫.webp", "x/y/z/photo.tiff"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cfg):
    """A run over photos with all kinds of names and one corrupt photo."""
    root = tmp_path_factory.mktemp("names")
    source, target = root / "in put", root / "out put"
    for seed, name in enumerate(NAMES):
        save(source / name, seed)
    (source / "notes.txt").write_text("no photo")
    save(source / ".hidden" / "x.jpg")
    (source / "sub" / "broken.jpg").write_bytes((source / "a.jpg").read_bytes()[:400])
    (source / "text.png").write_text("not an image")
    return source, target, run(source, target, cfg)


def test_all_names_and_the_manifest(finished):
    source, target, manifest = finished
    assert manifest == json.loads((target / "manifest.json").read_text())
    assert sorted(manifest["images"]) == sorted(NAMES)
    assert set(manifest["failures"]) == {"sub/broken.jpg", "text.png"}
    assert all("\n" not in reason for reason in manifest["failures"].values())
    assert manifest["image_root"] == str(source)
    assert manifest["config"]["PSEUDO_MASKS"]["WORK_SIZE"] == 64
    assert manifest["counts"]["photos"] == len(NAMES) + 2
    for name, entry in manifest["images"].items():
        record = json.loads((target / entry["json"]).read_text())
        masks = MaskSet.from_sa1b(record)
        assert entry["json"] == name + ".json"
        assert record["image"]["file_name"] == name
        assert len(masks) == entry["masks"] > 1
        assert len(entry["sha256"]) == 64
    assert not list(target.rglob("*.tmp"))


def test_any_number_of_workers_gives_the_same_bytes(finished, cfg, tmp_path):
    source, target, _ = finished
    run(source, tmp_path / "out", cfg, workers=3)
    assert files_of(tmp_path / "out") == files_of(target)


def test_a_rerun_does_only_what_is_missing(finished, cfg, tmp_path):
    source, target, manifest = finished
    before = {name: (target / name).stat().st_mtime_ns for name in files_of(target)}
    kept = (target / "a.jpg.json").read_bytes()
    (target / "a.png.json").unlink()
    (target / "sub/a.jpg.json").write_text('{"image": {')
    (target / "manifest.json").unlink()
    assert run(source, target, cfg) == manifest
    after = {name: (target / name).stat().st_mtime_ns for name in files_of(target)}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"a.png.json", "sub/a.jpg.json", "manifest.json"}
    assert (target / "a.jpg.json").read_bytes() == kept


def test_a_changed_photo_or_config_is_done_again(cfg, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    save(source / "a.png", 1)
    save(source / "b.png", 2)
    first = run(source, target, cfg)
    save(source / "a.png", 3)
    second = run(source, target, cfg)
    assert second["images"]["a.png"] != first["images"]["a.png"]
    assert second["images"]["b.png"] == first["images"]["b.png"]
    other = cfg.clone()
    other.PSEUDO_MASKS.MAX_MASKS = 2
    assert run(source, target, other)["images"]["b.png"]["masks"] == 2


def test_formats(cfg, tmp_path):
    source, image = tmp_path / "in", picture()
    source.mkdir()
    photo = Image.fromarray(image)
    wide = image[..., 0].astype(np.uint16) * 257
    Image.fromarray(wide).save(source / "sixteen.png")
    photo.convert("L").save(source / "grey.jpg")
    photo.convert("RGBA").save(source / "alpha.png")
    photo.convert("CMYK").save(source / "print.jpg")
    photo.convert("P").save(source / "palette.png")
    photo.save(source / "web.webp", lossless=True)
    photo.save(source / "scan.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(source / "turned.jpg", exif=exif)
    Image.fromarray(image[:1, :1]).save(source / "one.png")
    manifest = run(source, tmp_path / "out", cfg)
    assert not manifest["failures"]
    sizes = {}
    for name in manifest["images"]:
        record = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        sizes[name] = (record["image"]["height"], record["image"]["width"])
    assert sizes.pop("turned.jpg") == (56, 40)
    assert sizes.pop("one.png") == (1, 1)
    assert set(sizes.values()) == {(40, 56)}
    same = [
        (tmp_path / "out" / f"{n}.json").read_text() for n in ("web.webp", "scan.tif", "alpha.png")
    ]
    sets = [MaskSet.from_sa1b(json.loads(text)) for text in same]
    assert sets[0] == sets[1] == sets[2]


def test_bad_folders(cfg, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        run(tmp_path / "none", tmp_path / "out", cfg)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="not a folder"):
        run(tmp_path / "file", tmp_path / "out", cfg)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photos"):
        run(tmp_path / "empty", tmp_path / "out", cfg)
    assert not (tmp_path / "out").exists()
    save(tmp_path / "in" / "a.png")
    with pytest.raises(DataError, match="cannot write"):
        run(tmp_path / "in", tmp_path / "file", cfg)
    with pytest.raises(DataError, match="cannot write"):
        run(tmp_path / "in", "/proc/masks", cfg)


def test_no_readable_photo(cfg, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 photos") as caught:
        run(tmp_path / "in", tmp_path / "out", cfg)
    assert "\n" not in str(caught.value)
    assert "a.jpg" in json.loads((tmp_path / "out/manifest.json").read_text())["failures"]


def test_strict_fails_after_the_others_are_done(finished, cfg):
    source, target, manifest = finished
    with pytest.raises(DataError, match="2 of 8 photos"):
        run(source, target, cfg, strict=True)
    assert json.loads((target / "manifest.json").read_text()) == manifest


def test_hidden_files_are_no_photos(tmp_path):
    save(tmp_path / "b.png")
    save(tmp_path / "a" / "c.png")
    save(tmp_path / "._b.png")
    assert find_photos(tmp_path) == ["a/c.png", "b.png"]


@pytest.fixture
def fragile_worker(tmp_path, monkeypatch):
    """Start workers that kill themselves at photos whose name says so."""
    script = tmp_path / "fragile.py"
    script.write_text(
        "import os, signal\n"
        "from divide_and_conquer.generation import worker\n"
        "from unsam.checkpoint.atomic import StorageError\n"
        "original, write = worker.read_photo, worker.write_text_atomic\n"
        "def read(path, blob=None):\n"
        "    if 'killer' in os.path.basename(path): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if 'bug' in os.path.basename(path): raise RuntimeError('a bug')\n"
        "    if 'huge' in os.path.basename(path): raise MemoryError\n"
        "    return original(path)\n"
        "def full(path, text):\n"
        "    if 'full' in os.path.basename(path):\n"
        "        raise StorageError(f'cannot write {path}: No space left') from OSError(28, '')\n"
        "    return write(path, text)\n"
        "worker.read_photo, worker.write_text_atomic = read, full\n"
        "worker.main()\n"
    )
    monkeypatch.setattr(generate, "WORKER_COMMAND", [sys.executable, str(script)])


@pytest.mark.usefixtures("fragile_worker")
def test_an_ended_rerun_keeps_the_entries_it_did_not_reach(cfg, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    save(source / "b.png", 1)
    save(source / "c.png", 2)
    first = run(source, target, cfg)
    save(source / "a full.png", 3)
    with pytest.raises(UnsamError, match="No space left"):
        run(source, target, cfg)
    images = json.loads((target / "manifest.json").read_text())["images"]
    assert images == first["images"]


@pytest.mark.usefixtures("fragile_worker")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_costs_one_photo(cfg, tmp_path, workers):
    source = tmp_path / "in"
    for seed, name in enumerate(["a.png", "bug.png", "huge.png", "killer.png", "z.png"]):
        save(source / name, seed)
    manifest = run(source, tmp_path / "out", cfg, workers)
    assert set(manifest["images"]) == {"a.png", "z.png"}
    assert "signal 9" in manifest["failures"]["killer.png"]
    assert "MemoryError" in manifest["failures"]["huge.png"]
    assert "bug.png" in manifest["failures"]


@pytest.mark.usefixtures("fragile_worker")
def test_a_full_disk_ends_the_run_and_keeps_what_is_done(cfg, tmp_path):
    source = tmp_path / "in"
    for seed, name in enumerate(["a.png", "full.png", "z.png"]):
        save(source / name, seed)
    with pytest.raises(UnsamError, match=r"No space left.*a rerun does the rest") as caught:
        run(source, tmp_path / "out", cfg)
    assert "\n" not in str(caught.value)
    images = json.loads((tmp_path / "out/manifest.json").read_text())["images"]
    assert list(images) == ["a.png"]
    assert MaskSet.from_sa1b(json.loads((tmp_path / "out/a.png.json").read_text()))


def test_a_name_too_long_for_the_disk_costs_one_photo(cfg, tmp_path):
    save(tmp_path / "a.png")
    masker = PseudoMasker.from_config(cfg)
    task = {"photo": str(tmp_path / "a.png"), "name": "a.png", "made_from": {}}
    too_long = make_one(masker, {**task, "json": str(tmp_path / ("x" * 300))})
    assert too_long["fatal"] is False
    assert "name too long" in too_long["error"]
    assert make_one(masker, {**task, "json": "/proc/a.json"})["error"]


def test_kill_the_whole_run_and_rerun(cfg, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    for seed in range(12):
        save(source / f"{seed}.png", seed)
    code = (
        "import sys; from unsam.config import get_cfg; cfg = get_cfg();"
        "cfg.PSEUDO_MASKS.WORK_SIZE = 64;"
        "from divide_and_conquer.generate import generate_pseudo_masks as g;"
        "g(sys.argv[1], sys.argv[2], cfg, 1)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(source), str(target)],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(list(target.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = list(target.glob("*.png.json"))
    assert done
    assert all(json.loads(path.read_text())["annotations"] for path in done)
    before = {path: path.stat().st_mtime_ns for path in done}
    assert run(source, target, cfg)["counts"]["done"] == 12
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
