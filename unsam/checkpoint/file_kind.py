"""What a file is, told from its first bytes, whatever its name ends in."""

from __future__ import annotations

import zipfile
from enum import Enum
from pathlib import Path

from unsam.errors import CheckpointError


class FileKind(Enum):
    """The containers that weights come in."""

    TORCH = "torch"
    SAFETENSORS = "safetensors"
    PICKLE = "pickle"


# torch.save before 1.6: a pickle that starts with this number.
_OLD_TORCH = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
_ZIP = b"PK\x03\x04"
_OTHERS = (
    (b"<!doctype html", "a web page; the server sent an error or a login, get the file again"),
    (b"<html", "a web page; the server sent an error or a login, get the file again"),
    (b"<?xml", "an XML text, probably a server's error; get the file again"),
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself; run git lfs pull"),
    (b"\xff\xd8\xff", "a JPEG photo"),
    (b"\x89png", "a PNG photo"),
    (b"gif8", "a GIF photo"),
    (b"%pdf", "a PDF"),
    (b"\x1f\x8b", "compressed with gzip; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"\x89hdf", "an HDF5 file"),
    (b"\x93numpy", "a numpy array"),
    (b"gguf", "a GGUF file"),
    (b"{", "a JSON text"),
)


def file_kind(path: str | Path) -> FileKind:
    """Return the container that a weights file is in.

    Raises:
        CheckpointError: no such file, unreadable, truncated, or a file of another kind, which the
            text names.
    """
    file = Path(path)
    try:
        with file.open("rb") as stream:
            start = stream.read(512)
        size = file.stat().st_size
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such weights file") from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or error}") from None
    if not start:
        raise CheckpointError(f"{file}: damaged: an empty file; get it again")
    if start.startswith(_ZIP):
        return _kind_of_zip(file)
    if start[8:9] == b"{":
        length = int.from_bytes(start[:8], "little")
        if length + 8 > size:
            raise CheckpointError(
                f"{file}: truncated or not a safetensors file ({size} bytes); get it again"
            )
        return FileKind.SAFETENSORS
    if start[:1] == b"\x80" and 2 <= start[1] <= 5 and len(start) > 2:
        return FileKind.TORCH if start[2:].startswith(_OLD_TORCH) else FileKind.PICKLE
    raise CheckpointError(f"{file}: refused: no weights file but {_description(file, start)}")


def _kind_of_zip(file: Path) -> FileKind:
    """Tell torch's archives from other ones by what they hold."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        raise CheckpointError(
            f"{file}: damaged: a truncated torch file ({file.stat().st_size} bytes); get it again"
        ) from None
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return FileKind.TORCH
    raise CheckpointError(
        f"{file}: refused: a zip archive and no torch file (it holds {', '.join(names[:3])})"
    )


def _description(file: Path, start: bytes) -> str:
    lowered = start.lstrip().lower()
    for mark, what in _OTHERS:
        if lowered.startswith(mark):
            return what
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    if file.suffix == ".safetensors":
        return "truncated or not a safetensors file"
    if all(byte >= 32 or byte in b"\t\n\r" for byte in start):
        return f"a text that starts with {start[:20].decode('utf-8', 'replace').split()[:3]}"
    return f"a file that starts with the bytes {start[:8].hex(' ')}"
