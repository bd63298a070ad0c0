"""Manifests of parts: joined they are the manifest of one machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from divide_and_conquer.generate import generate_pseudo_masks
from divide_and_conquer.generation.manifest import (
    MANIFEST,
    RunFacts,
    build_manifest,
    manifest_name,
    merge_manifests,
    write_manifest,
)
from divide_and_conquer.generation.sources import shard_of
from unsam.config import get_cfg
from unsam.errors import DataError

COUNT = 3


def facts(**changes):
    section = get_cfg().PSEUDO_MASKS.dump()
    return RunFacts(**{
        "image_root": "/photos", "section": section, "code_version": 1, "supervised": False,
        "output_format": "json", **changes,
    })  # fmt: skip


def entry(number):
    refinement = {"refined": number, "failed": 1} if number % 2 else {}
    plain = {"sha256": f"{number:064d}", "masks": number, "json": f"{number}.jpg.json"}
    return plain | ({"refinement": refinement} if refinement else {})


IMAGES = {f"{number}.jpg": entry(number) for number in range(20)}
FAILURES = {"x.jpg": "broken", "y.jpg": "broken"}


@pytest.fixture
def parts(tmp_path):
    for index in range(COUNT):
        images = {k: v for k, v in IMAGES.items() if shard_of(k, COUNT) == index}
        failures = {k: v for k, v in FAILURES.items() if shard_of(k, COUNT) == index}
        manifest = build_manifest(facts(), images, failures, complete=True)
        write_manifest(tmp_path / manifest_name(index, COUNT), manifest)
    return tmp_path


def change(folder: Path, index: int, **changes):
    path = folder / manifest_name(index, COUNT)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_parts_join_to_the_manifest_of_one_machine(parts, tmp_path_factory):
    whole = build_manifest(facts(), IMAGES, FAILURES, complete=True)
    assert merge_manifests(parts) == whole
    write_manifest(tmp_path_factory.mktemp("one") / MANIFEST, whole)
    assert (parts / MANIFEST).read_text() == json.dumps(whole, indent=1) + "\n"


def test_counts_add_up():
    manifest = build_manifest(facts(), IMAGES, FAILURES, complete=True)
    assert manifest["counts"] == {"photos": 22, "done": 20, "failed": 2, "masks": 190}
    assert manifest["refinement"] == {"refined": 100, "failed": 10}


def test_a_missing_broken_incomplete_or_other_part_is_named(parts):
    for changes in ({"complete": False}, {"supervised": True}, {"config": {}}):
        original = (parts / manifest_name(1, COUNT)).read_text()
        change(parts, 1, **changes)
        with pytest.raises(DataError, match="manifest-00001-of-00003") as caught:
            merge_manifests(parts)
        assert "\n" not in str(caught.value)
        (parts / manifest_name(1, COUNT)).write_text(original)
    for text in ("{}", "[]", '{"cut'):
        (parts / manifest_name(2, COUNT)).write_text(text)
        with pytest.raises(DataError, match="manifest-00002-of-00003"):
            merge_manifests(parts)
    (parts / manifest_name(2, COUNT)).unlink()
    with pytest.raises(DataError, match="1 of 3 parts are missing"):
        merge_manifests(parts)
    assert not (parts / MANIFEST).exists()
    with pytest.raises(DataError, match="no manifest of a part"):
        merge_manifests(parts / "nowhere")


def test_the_newest_division_is_joined(parts):
    old = build_manifest(facts(), {}, {}, complete=True)
    write_manifest(parts / manifest_name(0, 2), old)
    os.utime(parts / manifest_name(0, 2), (1, 1))
    assert merge_manifests(parts)["counts"]["done"] == 20


@pytest.mark.usefixtures("in_process")
def test_the_last_machine_joins(tmp_path, tiny_cfg, save_photo):
    for number in range(7):
        save_photo(tmp_path / f"in/{number}.png", number)
    (tmp_path / "in/8.png").write_text("no photo")

    def run(out, **options):
        return generate_pseudo_masks(
            tmp_path / "in", tmp_path / out, tiny_cfg, progress=False, **options
        )

    run("whole")
    for index in (2, 0, 3, 1):
        assert not (tmp_path / "parts" / MANIFEST).exists()
        run("parts", shard_index=index, num_shards=4)
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {p.name for p in (tmp_path / "parts").iterdir() if "-of-" not in p.name}
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
