"""WebDataset output: order, reruns, interruptions, damage; nothing finished is made twice."""

from __future__ import annotations

import json
import random

import pytest

from divide_and_conquer import generate
from divide_and_conquer.generate import generate_pseudo_masks
from divide_and_conquer.generation import outputs
from divide_and_conquer.generation.outputs import ShardFolder
from divide_and_conquer.generation.sources import Photo
from unsam.annotations.shards import ShardSample, read_shard, write_shard
from unsam.checkpoint.atomic import StorageError
from unsam.errors import DataError, UnsamError
from unsam.structures import MaskSet

NAMES = ["a.jpg", "a.png", "b.c.d.png", "sub dir/grüße 猫.png", "sub/a.jpg", "x/y/z.tiff", "z.jpg"]
BAD = "sub/broken.jpg"


@pytest.fixture(scope="module")
def source(tmp_path_factory, save_photo):
    root = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(NAMES):
        save_photo(root / name, seed)
    (root / BAD).write_bytes((root / "a.jpg").read_bytes()[:300])
    return root


@pytest.fixture
def run(tiny_cfg, in_process):
    def call(source, target, cfg=tiny_cfg, **options):
        options = {"output_format": "webdataset", "samples_per_shard": 3, **options}
        return generate_pseudo_masks(source, target, cfg, 1, progress=False, **options)

    call.made = in_process
    return call


def tree(folder):
    """Bytes of all that a reader sees."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def inodes(folder):
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.glob("*.tar")}


def test_shards_hold_photos_and_masks_in_order_of_names(run, source, tmp_path):
    manifest = run(source, tmp_path / "out")
    shards = [f"masks-{index:05d}.tar" for index in range(3)]
    assert sorted(tree(tmp_path / "out")) == ["manifest.json", *shards]
    seen = []
    for shard in shards:
        for sample in read_shard(tmp_path / "out" / shard):
            record = json.loads(sample.files["json"])
            name = record["image"]["file_name"]
            seen.append(name)
            suffix = name.rpartition(".")[2]
            assert sample.files[suffix] == (source / name).read_bytes()
            assert len(MaskSet.from_sa1b(record)) == manifest["images"][name]["masks"]
            assert manifest["images"][name]["shard"] == shard
    assert seen == sorted(NAMES)
    assert list(manifest["failures"]) == [BAD]
    assert manifest["format"] == "webdataset"
    assert not [p for p in (tmp_path / "out").rglob(".*") if p.name != ".lock"]


def test_masks_are_those_of_the_json_output(run, source, tmp_path):
    run(source, tmp_path / "json", output_format="json")
    run(source, tmp_path / "tar")
    for shard in (tmp_path / "tar").glob("*.tar"):
        for sample in read_shard(shard):
            name = json.loads(sample.files["json"])["image"]["file_name"]
            assert sample.files["json"] == (tmp_path / "json" / f"{name}.json").read_bytes()


def test_a_rerun_touches_nothing(run, source, tmp_path):
    first = run(source, tmp_path)
    before = inodes(tmp_path)
    run.made.clear()
    assert run(source, tmp_path) == first
    assert inodes(tmp_path) == before
    assert not run.made


@pytest.mark.parametrize("seed", range(4))
def test_interrupted_anywhere_it_ends_as_if_it_had_not_been(
    run, source, tmp_path, monkeypatch, seed
):
    """Exceptions at random moments, shards of random photos lost in between; each made once."""
    run(source, tmp_path / "whole")
    run.made.clear()
    rng = random.Random(seed)
    original = generate.run_local

    def interrupted(*arguments):
        for count, pair in enumerate(original(*arguments)):
            if count == stop:
                raise KeyboardInterrupt
            yield pair

    for _ in range(3):
        stop = rng.randrange(len(NAMES) + 1)
        monkeypatch.setattr(generate, "run_local", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(source, tmp_path / "parts")
        monkeypatch.setattr(generate, "run_local", original)
    finished = set(run.made)
    run(source, tmp_path / "parts")
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")
    # The one at which each interruption struck was made, but its answer lost; its file was kept.
    assert sorted(run.made) == sorted(NAMES)
    assert finished <= set(NAMES)


def test_other_photos_move_samples_but_make_no_mask_again(run, source, tmp_path, save_photo):
    for name in NAMES[1:]:
        target = tmp_path / "in" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / name).read_bytes())
    run(tmp_path / "in", tmp_path / "out")
    run.made.clear()
    save_photo(tmp_path / "in/0.png", 50)
    run(tmp_path / "in", tmp_path / "out")
    assert run.made == ["0.png"]
    run(tmp_path / "in", tmp_path / "new")
    assert tree(tmp_path / "out") == tree(tmp_path / "new")
    run.made.clear()
    run(tmp_path / "in", tmp_path / "out", samples_per_shard=5)
    assert not run.made
    run(tmp_path / "in", tmp_path / "new5", samples_per_shard=5)
    assert tree(tmp_path / "out") == tree(tmp_path / "new5")


def spoil_header(path):
    blob = bytearray(path.read_bytes())
    blob[100] ^= 255
    path.write_bytes(blob)


def spoil_everywhere(path):
    blob = bytearray(path.read_bytes())
    for place in range(600, len(blob), 701):
        blob[place] ^= 1
    path.write_bytes(blob)


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-11000]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a tar"),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "header": spoil_header,
    "everywhere": spoil_everywhere,
    "foreign": lambda path: write_shard(path, [ShardSample("q", {"jpg": b"1", "json": b"{}"})]),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_made_again(run, source, tmp_path, damage):
    run(source, tmp_path)
    good, before = tree(tmp_path), inodes(tmp_path)
    DAMAGE[damage](tmp_path / "masks-00001.tar")
    run.made.clear()
    run(source, tmp_path)
    assert tree(tmp_path) == good
    assert set(run.made) <= {"sub dir/grüße 猫.png", "sub/a.jpg"}
    assert {k: v for k, v in inodes(tmp_path).items() if k != "masks-00001.tar"} == {
        k: v for k, v in before.items() if k != "masks-00001.tar"
    }


def test_a_damaged_photo_in_a_shard_is_copied_again_without_work(run, source, tmp_path):
    run(source, tmp_path)
    good = tree(tmp_path)
    path = tmp_path / "masks-00000.tar"
    blob = bytearray(path.read_bytes())
    blob[blob.index((source / "a.png").read_bytes()) + 50] ^= 1
    path.write_bytes(blob)
    run.made.clear()
    run(source, tmp_path)
    assert tree(tmp_path) == good
    assert not run.made


def test_a_photo_that_cannot_be_read_now_keeps_its_finished_masks(
    run, source, tmp_path, save_photo
):
    (tmp_path / "list.txt").write_text("a.jpg\nb.png\n")
    save_photo(tmp_path / "a.jpg", 1)
    save_photo(tmp_path / "b.png", 2)
    run(tmp_path / "list.txt", tmp_path / "out")
    good = tree(tmp_path / "out")["masks-00000.tar"]
    (tmp_path / "a.jpg").rename(tmp_path / "away.jpg")
    manifest = run(tmp_path / "list.txt", tmp_path / "out")
    assert set(manifest["failures"]) == {"a.jpg"}
    save_photo(tmp_path / "b.png", 3)
    run(tmp_path / "list.txt", tmp_path / "out")
    save_photo(tmp_path / "b.png", 2)
    (tmp_path / "away.jpg").rename(tmp_path / "a.jpg")
    run.made.clear()
    run(tmp_path / "list.txt", tmp_path / "out")
    assert tree(tmp_path / "out")["masks-00000.tar"] == good
    assert run.made == ["b.png"]


def test_a_full_disk_while_packing_keeps_what_is_made(run, source, tmp_path, monkeypatch):
    def full(path, samples):
        list(samples)
        raise StorageError(f"cannot write {path}: No space left") from OSError(28, "")

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "write_shard", full)
        with pytest.raises(UnsamError, match=r"No space left; 0 of 8 photos .* rerun") as caught:
            run(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    made = list(run.made)
    assert made
    run(source, tmp_path / "out")
    assert sorted(run.made) == sorted(NAMES)
    run(source, tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_fewer_photos_leave_no_old_shard(run, source, tmp_path):
    (tmp_path / "list.txt").write_text("\n".join(NAMES))
    run(tmp_path / "list.txt", tmp_path / "out", image_root=source)
    (tmp_path / "list.txt").write_text("\n".join(NAMES[:2]))
    run.made.clear()
    run(tmp_path / "list.txt", tmp_path / "out", image_root=source)
    assert not run.made
    assert [p.name for p in sorted((tmp_path / "out").glob("*.tar"))] == ["masks-00000.tar"]


def test_parts_have_shards_of_their_own(run, source, tmp_path):
    for index in range(3):
        run(source, tmp_path, shard_index=index, num_shards=3)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert sorted(manifest["images"]) == sorted(NAMES)
    packed = {
        json.loads(sample.files["json"])["image"]["file_name"]: path.name
        for path in tmp_path.glob("*.tar")
        for sample in read_shard(path)
    }
    assert packed == {name: entry["shard"] for name, entry in manifest["images"].items()}
    with pytest.raises(DataError, match="divided by 3, not 1"):
        run(source, tmp_path)


def test_two_runs_do_not_write_the_same_shards(source, tmp_path):
    photos = [Photo("a.jpg", str(source / "a.jpg"))]
    first = ShardFolder(tmp_path, photos)
    with pytest.raises(DataError, match="another run"):
        ShardFolder(tmp_path, photos)
    ShardFolder(tmp_path, photos, 1000, 1, 2).close()
    first.close()
    ShardFolder(tmp_path, photos).close()


def test_shards_within_the_input_are_refused(run, source):
    with pytest.raises(DataError, match="within the input"):
        run(source, source / "masks")
    assert not (source / "masks").exists()
