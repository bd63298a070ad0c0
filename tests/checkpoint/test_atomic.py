"""A file is whole or not there, whatever goes wrong while it is written."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from unsam.checkpoint.atomic import StorageError, atomic_writer, write_text_atomic


def test_success_leaves_one_file_with_ordinary_rights(tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "file.json"
    write_text_atomic(target, "é")
    write_text_atomic(target, "second")
    assert target.read_text(encoding="utf-8") == "second"
    assert os.listdir(target.parent) == ["file.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def test_a_failure_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="boom"), atomic_writer(target) as stream:
        stream.write(b"half")
        raise RuntimeError("boom")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with pytest.raises(StorageError, match=r"cannot write .*No space left"):
        with atomic_writer(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert target.read_bytes() == b"old"


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(StorageError, match="cannot write"):
        write_text_atomic(tmp_path / "blocked" / "x.json", "text")
