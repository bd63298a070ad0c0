"""Inputs: what they name, how they are divided, what is wrong with them."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile

import pytest

from divide_and_conquer.generation.sources import list_photos, shard_of
from unsam.annotations.records import read_bytes
from unsam.errors import DataError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def tar_of(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, blob in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))


def names_of(*arguments, **options):
    return [photo.name for photo in list_photos(*arguments, **options).photos]


def contents(listing):
    return {p.name: read_bytes(p.path, p.offset, p.size).decode() for p in listing.photos}


def test_a_folder(tmp_path):
    touch(tmp_path, "b.jpg", "a/c.PNG", ".hidden/x.jpg", "a/._c.png", "notes.md")
    listing = list_photos(tmp_path)
    assert contents(listing) == {"a/c.PNG": "a/c.PNG", "b.jpg": "b.jpg"}
    assert listing.root == tmp_path


def test_a_list_is_relative_to_itself_or_to_the_root(tmp_path):
    touch(tmp_path / "photos", "a.jpg", "sub/b.jpg")
    touch(tmp_path, "else.jpg")
    lines = ["sub/../a.jpg", "", "a.jpg", "sub/b.jpg", str(tmp_path / "else.jpg")]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    far = str(tmp_path / "else.jpg").lstrip("/")
    listing = list_photos(tmp_path / "list.txt", tmp_path / "photos")
    assert contents(listing) == {"a.jpg": "a.jpg", "sub/b.jpg": "sub/b.jpg", far: "else.jpg"}
    (tmp_path / "photos/list.txt").write_text("sub/b.jpg\r\na.jpg\r\n")
    assert names_of(tmp_path / "photos/list.txt") == ["a.jpg", "sub/b.jpg"]


def test_coco(data_root):
    listing = list_photos(data_root / "coco/coco_val.json", data_root / "coco/images")
    document = json.loads((data_root / "coco/coco_val.json").read_text())
    assert [p.name for p in listing.photos] == sorted(i["file_name"] for i in document["images"])
    assert all(read_bytes(photo.path)[:2] == b"\xff\xd8" for photo in listing.photos)


def test_tars_are_named_as_if_unpacked(tmp_path):
    tar_of(tmp_path / "sa_000000.tar", {"./sa_1.jpg": b"one", "./sa_1.json": b"{}"})
    tar_of(tmp_path / "more/sa_000001.tar", {"sa_1.jpg": b"two", "x/y.png": b"three", "n.txt": b""})
    everything = {"sa_000000/sa_1.jpg": "one", "more/sa_000001/sa_1.jpg": "two"}
    everything["more/sa_000001/x/y.png"] = "three"
    assert contents(list_photos(tmp_path)) == everything
    assert contents(list_photos(tmp_path / "sa_000000.tar")) == {"sa_000000/sa_1.jpg": "one"}
    for pattern in ("**/sa_*.tar", "{sa_000000,more/sa_000001}.tar"):
        assert contents(list_photos(f"{tmp_path}/{pattern}")) == everything
    assert names_of(f"{tmp_path}/sa_{{000000..000000}}.tar") == ["sa_000000/sa_1.jpg"]


def test_masks_beside_a_photo_in_a_shard_are_no_photos(tmp_path):
    tar_of(tmp_path / "a.tar", {"1.jpg": b"", "1.seg.png": b"", "my.photo.jpg": b"", ".2.jpg": b""})
    assert names_of(tmp_path / "a.tar") == ["a/1.jpg", "a/my.photo.jpg"]


def test_patterns_of_photos(tmp_path):
    touch(tmp_path, "a1.jpg", "a2.jpg", "b.jpg", "odd [1]/c.jpg")
    assert names_of(f"{tmp_path}/a?.jpg") == ["a1.jpg", "a2.jpg"]
    assert names_of(tmp_path / "odd [1]") == ["c.jpg"]


@pytest.mark.parametrize("num_shards", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("kind", ["folder", "tars"])
def test_parts_are_disjoint_and_together_the_whole(tmp_path, num_shards, kind):
    names = [f"{i % 3}/{i}.jpg" for i in range(30)]
    if kind == "folder":
        touch(tmp_path, *names)
    else:
        for k in range(6):
            tar_of(tmp_path / f"{k}.tar", dict.fromkeys(names[k::6], b""))
    whole = names_of(tmp_path)
    parts = [
        names_of(tmp_path, shard_index=index, num_shards=num_shards) for index in range(num_shards)
    ]
    assert sorted(name for part in parts for name in part) == whole
    assert all(part == sorted(part) for part in parts)


def test_parts_do_not_depend_on_order_or_on_other_photos(tmp_path):
    names = [f"{i}.jpg" for i in range(50)]
    touch(tmp_path, *names)
    parts = []
    for seed in range(3):
        random.Random(seed).shuffle(names)
        (tmp_path / "list.txt").write_text("\n".join(names[: 50 - seed]))
        parts.append(names_of(tmp_path / "list.txt", shard_index=1, num_shards=3))
    assert parts[0] == names_of(tmp_path, shard_index=1, num_shards=3)
    assert set(parts[2]) <= set(parts[0])
    assert [shard_of(name, 3) for name in ("0.jpg", "1.jpg", "2.jpg")] == [
        shard_of(name, 3) for name in ("0.jpg", "1.jpg", "2.jpg")
    ]


def test_whole_tars_are_dealt_out(tmp_path):
    """A machine of many does not open the tars of the others."""
    for k in range(4):
        tar_of(tmp_path / f"{k}.tar", {"a.jpg": b"", "b.jpg": b""})
    (tmp_path / "1.tar").write_text("broken")
    assert names_of(tmp_path, shard_index=0, num_shards=2) == [
        "0/a.jpg", "0/b.jpg", "2/a.jpg", "2/b.jpg",
    ]  # fmt: skip
    assert not list_photos(tmp_path, shard_index=0, num_shards=2).failures
    assert list(list_photos(tmp_path, shard_index=1, num_shards=2).failures) == ["1.tar"]


def test_a_damaged_tar_gives_what_is_whole(tmp_path):
    tar_of(tmp_path / "a.tar", {f"{i}.jpg": bytes(3000) for i in range(5)})
    tar_of(tmp_path / "b.tar", {"ok.jpg": b"x", "../../out.jpg": b"x"})
    blob = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(blob[:8000])
    listing = list_photos(tmp_path)
    assert [photo.name for photo in listing.photos] == ["a/0.jpg", "a/1.jpg", "b/ok.jpg"]
    assert set(listing.failures) == {"a.tar", "b/../../out.jpg"}


def test_a_missing_photo_is_found_when_it_is_read(tmp_path):
    (tmp_path / "list.txt").write_text("gone.jpg")
    (photo,) = list_photos(tmp_path / "list.txt").photos
    with pytest.raises(DataError, match="no such file"):
        read_bytes(photo.path)


BROKEN = {
    "words.txt": "no photo\n",
    "empty.txt": "\n",
    "cut.json": '{"images": [{"file',
    "list.json": "[1, 2]",
    "names.json": '{"images": [{"id": 1}]}',
    "none.json": '{"images": []}',
    "film.mp4": "",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_inputs_are_one_line(tmp_path, name):
    (tmp_path / name).write_text(BROKEN[name])
    with pytest.raises(DataError, match=name) as caught:
        list_photos(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_ambiguous_and_missing_inputs(tmp_path):
    touch(tmp_path / "mixed", "a.jpg", "a.tar")
    (tmp_path / "empty").mkdir()
    tar_of(tmp_path / "tars/a.tar", {"a.txt": b""})
    cases = {
        "mixed": "both photos",
        "mixed/*": "both tars and photos",
        "empty": "no photos in this folder",
        "tars": r"a\.tar: no photos in this tar",
        "none": "no such folder or file",
        "none*.tar": "nothing has such a name",
        "mixed/{a,b}.tar": r"b\.tar: nothing",
    }
    for name, reason in cases.items():
        with pytest.raises(DataError, match=reason):
            list_photos(f"{tmp_path}/{name}")
    (tmp_path / "list.txt").write_text("/x/a.jpg\nx/a.jpg\n")
    with pytest.raises(DataError, match="share the name"):
        list_photos(tmp_path / "list.txt")


def test_lists_as_other_systems_write_them(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\nb\xe9.jpg\r\nc\xc2\x85d.jpg\r\n")
    names = [os.fsencode(photo.name) for photo in list_photos(tmp_path / "list.txt").photos]
    assert names == [b"a.jpg", b"b\xe9.jpg", b"c\xc2\x85d.jpg"]


def test_names_that_no_file_can_have(tmp_path):
    for name in ("a\0b.jpg", "\ud800.jpg"):
        (tmp_path / "set.json").write_text(json.dumps({"images": [{"file_name": name}]}))
        with pytest.raises(DataError, match=r"is not the name of a photo") as caught:
            list_photos(tmp_path / "set.json")
        assert str(caught.value).isprintable()


def test_no_name_and_no_image_root(tmp_path):
    with pytest.raises(DataError, match="input is an empty name"):
        list_photos("")
    (tmp_path / "list.txt").write_text("a.jpg")
    with pytest.raises(DataError, match="no such folder of photos"):
        list_photos(tmp_path / "list.txt", tmp_path / "none")
