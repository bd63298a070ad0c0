"""Per-photo results on disk, so that an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pickle
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fvcore.common.config import CfgNode

from unsam import __version__
from unsam.checkpoint.atomic import StorageError
from unsam.data import ImageRecord
from unsam.errors import DataError

FOLDER = "photo_results"
"""Within ``OUTPUT_DIR``; a folder per dataset below it."""

_PATTERN = "photos-rank*.bin"
_PREFIX = struct.Struct("<QI")
_NUMPY = {"_reconstruct", "_frombuffer", "scalar", "ndarray", "dtype"}

logger = logging.getLogger(__name__)


class PhotoResults:
    """What the evaluators keep of each photo of one dataset, on disk as soon as it is there.

    Each rank appends to a file of its own: a line with the fingerprint, then per photo the length
    and the CRC-32 of a record, and the record (pickle: plain Python, numpy arrays and classes of
    this package; nothing else is ever loaded). What a kill has torn off is dropped. Any number of
    ranks goes on from the files of any other number.

    Args:
        folder: of this dataset.
        fingerprint: of all that results depend on besides the photo and its masks, see
            `fingerprint_of`; files with another one are of no use.
        resume: whether `remove_outdated` leaves the others.
    """

    def __init__(self, folder: Path, fingerprint: str, *, resume: bool = True) -> None:
        self.folder = folder
        self.resume = resume
        self._head = f"unsam photo results 1 {fingerprint}\n".encode()
        self._stream: IO[bytes] | None = None

    def remove_outdated(self) -> None:
        """Remove the files of another fingerprint; without `resume`, all files."""
        outdated = [
            path for path in self._paths() if not (self.resume and self._is_of_this_kind(path))
        ]
        for path in outdated:
            path.unlink()
        if outdated and self.resume:
            logger.info(
                "%s: the results there are of another model or config; starting anew", self.folder
            )

    def load(self, records: Sequence[ImageRecord]) -> dict[int, dict[str, Any]]:
        """Return what is on disk: image id -> evaluator name -> result.

        A photo counts only if it, its size and its annotations are the same as then.

        Raises:
            DataError: a record holds what no result may hold.
        """
        wanted = {photo_key(record): record.image_id for record in records}
        found: dict[int, dict[str, Any]] = {}
        for path in filter(self._is_of_this_kind, self._paths()):
            with path.open("rb") as stream:
                stream.readline()
                for record in _records(stream):
                    key, results = _unpickle(record, path)
                    if key in wanted:
                        found.setdefault(wanted[key], results)
        return found

    def append(self, record: ImageRecord, results: Mapping[str, Any], rank: int = 0) -> None:
        """Note the results of one photo, evaluator name -> result.

        Raises:
            StorageError: the disk is full or the folder not writable.
        """
        blob = pickle.dumps((photo_key(record), dict(results)), protocol=5)
        try:
            if self._stream is None:
                self._stream = self._open(rank)
            self._stream.write(_PREFIX.pack(len(blob), zlib.crc32(blob)) + blob)
            self._stream.flush()
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"cannot write to {self.folder}: {reason}") from error

    def close(self) -> None:
        """Close the file of this rank; the next `append` opens it again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(_PATTERN))

    def _is_of_this_kind(self, path: Path) -> bool:
        with path.open("rb") as stream:
            return stream.read(len(self._head)) == self._head

    def _open(self, rank: int) -> IO[bytes]:
        """Open the file of this rank behind its last whole record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _PATTERN.replace("*", str(rank))
        stream = path.open("r+b" if path.exists() else "w+b")
        end = 0
        if stream.read(len(self._head)) == self._head:
            end = stream.tell()
            for record in _records(stream):
                end += _PREFIX.size + len(record)
        stream.seek(end)
        stream.truncate()
        if not end:
            stream.write(self._head)
        return stream


def photo_results_of(
    cfg: CfgNode, dataset: str, output: str | os.PathLike[str], segmenter_digest: str
) -> PhotoResults:
    """Return the place of the results of one dataset below an output folder.

    Args:
        cfg: the config of the evaluation.
        dataset: its name or path.
        output: the folder.
        segmenter_digest: see `fingerprint_of`.
    """
    name = re.sub(r"[^\w.-]+", "_", dataset).strip("_")[-80:]
    fingerprint = fingerprint_of(cfg, segmenter_digest)
    return PhotoResults(Path(output) / FOLDER / name, fingerprint, resume=cfg.EVALUATION.RESUME)


def fingerprint_of(cfg: CfgNode, segmenter_digest: str) -> str:
    """Return a hash of what the result of a photo depends on, besides the photo and its masks.

    That is ``EVALUATION``, ``INFERENCE``, ``INPUT`` and ``MODEL`` without what only chooses photos
    or files, the seed, the version of this package, and the segmenter.

    Args:
        cfg: the config.
        segmenter_digest: hash of what the segmenter has besides the config, such as its weights.
    """
    local = cfg.clone()
    local.defrost()
    for key in ("MAX_IMAGES", "RESUME", "REPORT_PHOTOS"):
        del local.EVALUATION[key]
    del local.MODEL["WEIGHTS"]
    sections = [local[name].dump() for name in ("EVALUATION", "INFERENCE", "INPUT", "MODEL")]
    text = json.dumps([__version__, sections, cfg.SEED, segmenter_digest])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def photo_key(record: ImageRecord) -> bytes:
    """Return a hash of a photo's id, file, size and annotations.

    Files count by name, length and time of change; they are not read.
    """
    annotations: Any = record.annotations
    if isinstance(annotations, Path):
        annotations = _file_state(annotations)
    elif isinstance(annotations, bytes):
        annotations = hashlib.sha256(annotations).hexdigest()
    parts = [
        record.image_id,
        _file_state(Path(record.file_name)),
        record.height,
        record.width,
        annotations,
    ]
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:16]


def _file_state(path: Path) -> list[Any]:
    """Return name, length and time of change; the name alone of a photo within an archive."""
    try:
        state = path.stat()
    except OSError:
        return [str(path)]
    return [str(path), state.st_size, state.st_mtime_ns]


def _plain(value: Any) -> Any:
    return value.decode("latin-1") if isinstance(value, bytes) else value.tolist()


def _records(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the whole records from here on, up to the end or the first torn one."""
    while len(prefix := stream.read(_PREFIX.size)) == _PREFIX.size:
        length, checksum = _PREFIX.unpack(prefix)
        # A torn length must not ask for more memory than the file has bytes.
        if length > os.fstat(stream.fileno()).st_size - stream.tell():
            return
        record = stream.read(length)
        if zlib.crc32(record) != checksum:
            return
        yield record


def _unpickle(record: bytes, path: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        key, results = _SafeUnpickler(io.BytesIO(record)).load()
    except (pickle.UnpicklingError, AttributeError, ImportError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: a result cannot be read ({error}); remove the file, or set "
            "EVALUATION.RESUME False"
        ) from None
    return key, results


class _SafeUnpickler(pickle.Unpickler):
    """Loads arrays and dataclasses of this package, and no function that could do harm."""

    def find_class(self, module: str, name: str) -> Any:
        ours = module.startswith("unsam.")
        if ours or (module.split(".")[0] == "numpy" and name in _NUMPY):
            found = super().find_class(module, name)
            if isinstance(found, type) or not ours:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a result of a photo")
