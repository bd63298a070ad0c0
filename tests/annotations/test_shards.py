"""Tar shards: what is written is read back, by us and by others; damage is seen."""

from __future__ import annotations

import io
import tarfile

import pytest

from unsam.annotations.shards import (
    ShardSample,
    is_complete,
    list_shard,
    read_shard,
    split_name,
    write_shard,
)
from unsam.checkpoint.atomic import StorageError
from unsam.errors import DataError


@pytest.fixture
def samples(data_root):
    folder = data_root / "sa1b_layout"
    photos = sorted(folder.glob("*.jpg"))[:4]
    return [
        ShardSample(p.stem, {"jpg": p.read_bytes(), "json": p.with_suffix(".json").read_bytes()})
        for p in photos
    ] + [ShardSample("a folder/" + "long" * 40 + " grüße 猫", {"seg.png": b"", "cls": b"7"})]


def test_round_trip_and_equal_bytes(samples, tmp_path):
    write_shard(tmp_path / "a.tar", samples)
    write_shard(tmp_path / "b.tar", iter(samples))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert list(read_shard(tmp_path / "a.tar")) == samples
    assert is_complete(tmp_path / "a.tar", list_shard(tmp_path / "a.tar"))


def test_members_are_where_the_listing_says(samples, tmp_path):
    write_shard(tmp_path / "a.tar", samples)
    blob = (tmp_path / "a.tar").read_bytes()
    for member in list_shard(tmp_path / "a.tar").members:
        files = next(s.files for s in samples if s.key == member.key)
        assert blob[member.offset : member.offset + member.size] == files[member.suffix]


def test_webdataset_reads_our_shards(samples, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    write_shard(tmp_path / "a.tar", samples)
    read = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [item["__key__"] for item in read] == [sample.key for sample in samples]
    assert all(item["jpg"] == s.files["jpg"] for item, s in zip(read[:4], samples[:4], strict=True))


def test_tars_of_others(samples, tmp_path):
    """Leading ./, folders, owners, times, and the parts of a sample far from each other."""
    with tarfile.open(tmp_path / "sa_000000.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("./"))
        for suffix in ("jpg", "json"):
            for sample in samples[:4]:
                info = tarfile.TarInfo(f"./{sample.key}.{suffix}")
                info.size, info.mtime, info.uname = len(sample.files[suffix]), 12345, "somebody"
                tar.addfile(info, io.BytesIO(sample.files[suffix]))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert list(read_shard(tmp_path / "sa_000000.tar")) == samples[:4]
    assert list_shard(tmp_path / "sa_000000.tar").damage == ""


def test_every_cut_is_seen(samples, tmp_path):
    """Whole members before a cut are there; the reader says in one line that more is missing."""
    path = tmp_path / "a.tar"
    write_shard(path, samples)
    blob = path.read_bytes()
    end = list_shard(path).end
    for cut in [600, 1024, 50_000, 100_000, end // 2, end - 1000, end - 512, end - 1]:
        path.write_bytes(blob[:cut])
        listing = list_shard(path)
        assert listing.damage
        assert not is_complete(path, listing)
        assert all(member.offset + member.size <= cut for member in listing.members)
        read = []
        with pytest.raises(DataError, match=r"a\.tar") as caught:
            read.extend(read_shard(path))
        assert "\n" not in str(caught.value)
    path.write_bytes(blob[:end])
    assert list_shard(path).damage
    path.write_bytes(blob[: end + 512])
    assert not is_complete(path, list_shard(path))


def test_a_damaged_header_is_seen(samples, tmp_path):
    path = tmp_path / "a.tar"
    write_shard(path, samples)
    blob = bytearray(path.read_bytes())
    third = list_shard(path).members[2]
    blob[third.offset - 500] ^= 255
    path.write_bytes(blob)
    assert len(list_shard(path).members) == 2
    assert list_shard(path).damage


def test_what_is_no_tar(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list_shard(tmp_path / "none.tar")
    (tmp_path / "text.tar").write_text("words " * 500)
    (tmp_path / "empty.tar").write_bytes(b"")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    for name in ("text.tar", "empty.tar", "packed.tar"):
        with pytest.raises(DataError, match="not an uncompressed tar"):
            list(read_shard(tmp_path / name))


def test_a_failed_write_leaves_the_old_shard(samples, tmp_path):
    write_shard(tmp_path / "a.tar", samples[:1])

    def broken():
        yield samples[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        write_shard(tmp_path / "a.tar", broken())
    assert list(read_shard(tmp_path / "a.tar")) == samples[:1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a.jpg", ("a", "jpg")),
        ("x.y/a.seg.png", ("x.y/a", "seg.png")),
        (".hidden.jpg", ("", "")),
        ("x.y/none", ("", "")),
    ],
)
def test_keys_end_at_the_first_dot(name, parts):
    assert split_name(name) == parts


def test_a_key_with_a_dot_is_refused(tmp_path):
    with pytest.raises(ValueError, match="key of a sample"):
        write_shard(tmp_path / "a.tar", [ShardSample("a.b", {"jpg": b""})])
