"""Where masks go: one JSON per photo, or WebDataset shards of photos and JSONs.

Workers write one JSON per photo in both cases. For shards it waits in a hidden folder until all
photos of its shard are done; then the shard is written in one step and takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from divide_and_conquer.generation.sources import Photo
from divide_and_conquer.generation.worker_process import Answer, Task
from unsam.annotations.records import read_bytes
from unsam.annotations.shards import (
    ShardMember,
    ShardSample,
    is_complete,
    list_shard,
    read_shard,
    write_shard,
)
from unsam.checkpoint.atomic import write_text_atomic
from unsam.errors import DataError

_SHARD = re.compile(r"masks(?:-(\d{5,})-of-(\d{5,}))?-(\d{5,})\.tar")


class Output(Protocol):
    """What a run asks of its output."""

    def tasks(self, made_from: dict[str, Any]) -> list[Task]:
        """Return one task per photo."""
        ...

    def accept(self, name: str, answer: Answer) -> dict[str, Answer]:
        """Take the answer to one task; return the answers that are final now, by name."""
        ...

    def place(self, name: str) -> dict[str, str]:
        """Return where the masks of a finished photo are, as the manifest says it."""
        ...

    def finish(self) -> None:
        """Tidy up after the last answer."""
        ...

    def close(self) -> None:
        """Let others write here, however the run ended."""
        ...


class JsonFolder:
    """One JSON per photo: ``a/b.jpg`` gives ``a/b.jpg.json``."""

    def __init__(self, folder: Path, photos: Sequence[Photo]) -> None:
        self.folder = folder
        self.photos = photos

    def tasks(self, made_from: dict[str, Any]) -> list[Task]:
        """Return one task per photo."""
        return [_task(photo, self.folder, made_from) for photo in self.photos]

    def accept(self, name: str, answer: Answer) -> dict[str, Answer]:
        """Return the answer: the worker has written the file already."""
        return {name: answer}

    def place(self, name: str) -> dict[str, str]:
        """Return the path of the JSON, relative to the folder."""
        return {"json": f"{name}.json"}

    def finish(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is held."""


class ShardFolder:
    """Shards ``masks-00000.tar`` of `samples_per_shard` photos each, in order of their names.

    Which photo goes where depends on the sorted names alone. A photo that fails leaves its place
    empty. Shards that hold what they should are not touched.
    """

    def __init__(
        self,
        folder: Path,
        photos: Sequence[Photo],
        samples_per_shard: int = 1000,
        shard_index: int = 0,
        num_shards: int = 1,
    ) -> None:
        """Look at the shards that are there and save what is in those that do not fit.

        Raises:
            DataError: another run writes the same shards, or they were divided otherwise.
            StorageError: the disk is full or the folder not writable.
        """
        self.folder = folder
        self.photos = photos
        self.samples_per_shard = samples_per_shard
        self.division = (shard_index, num_shards)
        part = "" if num_shards == 1 else f"-{shard_index:05d}-of-{num_shards:05d}"
        self.prefix = f"masks{part}"
        self.waiting_room = folder / f".waiting{part}"
        self._lock = _lock(folder / f".lock{part}")
        if self._lock is not None:
            # Halves of shards at which an earlier run was killed.
            for path in folder.glob(f".{self.prefix}-?????.tar.*.tmp"):
                path.unlink(missing_ok=True)
        self._group_of = {photo.name: i // samples_per_shard for i, photo in enumerate(photos)}
        self._answers: dict[int, dict[str, Answer]] = {}
        # Finished samples in shards that fit: the photo's name to its photo and its JSON.
        self._packed: dict[str, tuple[ShardMember, ShardMember]] = {}
        self._leftover = self._look_around()

    def tasks(self, made_from: dict[str, Any]) -> list[Task]:
        """Return one task per photo."""
        tasks = []
        for photo in self.photos:
            task = _task(photo, self.waiting_room, made_from)
            if photo.name in self._packed:
                image, record = self._packed[photo.name]
                task["packed"] = {
                    "path": str(self._path(self._group_of[photo.name])),
                    "photo": [image.offset, image.size],
                    "json": [record.offset, record.size],
                }
            tasks.append(task)
        return tasks

    def accept(self, name: str, answer: Answer) -> dict[str, Answer]:
        """Return nothing until a shard's last answer, then all of that shard, which is written."""
        group = self._group_of[name]
        answers = self._answers.setdefault(group, {})
        answers[name] = answer
        if len(answers) < len(self._photos_of(group)):
            return {}
        self._pack(group, answers)
        return self._answers.pop(group)

    def place(self, name: str) -> dict[str, str]:
        """Return the shard of the photo, relative to the folder."""
        return {"shard": self._path(self._group_of[name]).name}

    def finish(self) -> None:
        """Remove the hidden folder and the shards of photos that are no longer in the input."""
        for path in self._leftover:
            path.unlink(missing_ok=True)
        for path in self.waiting_room.rglob("*.tmp"):
            path.unlink(missing_ok=True)
        # Masks whose photo cannot be read at the moment stay; all other folders are empty.
        for parent, _, _ in os.walk(self.waiting_room, topdown=False):
            with contextlib.suppress(OSError):
                Path(parent).rmdir()

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()

    def _path(self, group: int) -> Path:
        return self.folder / f"{self.prefix}-{group:05d}.tar"

    def _photos_of(self, group: int) -> Sequence[Photo]:
        start = group * self.samples_per_shard
        return self.photos[start : start + self.samples_per_shard]

    def _look_around(self) -> list[Path]:
        """Note what shards hold; return those of this division that are one too many."""
        leftover = []
        for path in sorted(self.folder.glob("masks-*.tar")):
            match = _SHARD.fullmatch(path.name)
            if match is None:
                continue
            division = (int(match[1] or 0), int(match[2] or 1))
            if division[1] != self.division[1]:
                raise DataError(
                    f"{path}: a shard of a run divided by {division[1]}, not {self.division[1]}; "
                    "keep the number, or choose another output folder"
                )
            if division[0] != self.division[0]:
                continue
            group = int(match[3])
            if not self._fits(path, group):
                self._save_samples(path)
                leftover += [path] if not self._photos_of(group) else []
        return leftover

    def _fits(self, path: Path, group: int) -> bool:
        """Tell whether a shard holds photos of its group alone, in order; note where they are."""
        try:
            listing = list_shard(path)
        except DataError:
            return False
        expected = {_members(photo): photo.name for photo in self._photos_of(group)}
        images, records = listing.members[::2], listing.members[1::2]
        if not is_complete(path, listing) or not images or len(images) != len(records):
            return False
        pairs = [(image.name, record.name) for image, record in zip(images, records, strict=True)]
        # A shard without some photos is one in which those failed.
        if pairs != [pair for pair in expected if pair in set(pairs)]:
            return False
        for pair, image, record in zip(pairs, images, records, strict=True):
            self._packed[expected[pair]] = (image, record)
        return True

    def _save_samples(self, path: Path) -> None:
        """Copy the JSONs of a shard that is to be written anew to where workers look for them."""
        with contextlib.suppress(DataError):
            for sample in read_shard(path):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    text = sample.files["json"].decode("utf-8")
                    name = json.loads(text)["image"]["file_name"]
                    target = self.waiting_room / f"{name}.json"
                    if name in self._group_of and not target.exists():
                        write_text_atomic(target, text)

    def _pack(self, group: int, answers: dict[str, Answer]) -> None:
        """Write the shard of a group unless it stands as it should; answers may turn into errors.

        A photo that was finished before and cannot be read now keeps its place in the shard.
        """
        photos = self._photos_of(group)
        present = [photo for photo in photos if photo.name in self._packed]
        wanted = [p for p in photos if p.name in self._packed or "error" not in answers[p.name]]
        stands = all("error" in answers[p.name] or answers[p.name]["packed"] for p in present)
        if present != wanted or not stands:
            if wanted:
                write_shard(self._path(group), self._samples(group, wanted, answers))
            else:
                # Whatever lies there holds nothing of this run.
                self._path(group).unlink(missing_ok=True)
        for photo in photos:
            if "error" not in answers[photo.name]:
                (self.waiting_room / f"{photo.name}.json").unlink(missing_ok=True)

    def _samples(
        self, group: int, photos: Sequence[Photo], answers: dict[str, Answer]
    ) -> Iterator[ShardSample]:
        shard = str(self._path(group))
        for photo in photos:
            answer = answers[photo.name]
            image, record = self._packed.get(photo.name, (None, None))
            old = "error" in answer
            try:
                if record is not None and (old or answer["packed"]):
                    text = read_bytes(shard, record.offset, record.size)
                else:
                    text = (self.waiting_room / f"{photo.name}.json").read_bytes()
                if old:
                    assert image is not None
                    blob = read_bytes(shard, image.offset, image.size)
                else:
                    blob = read_bytes(photo.path, photo.offset, photo.size)
                    if hashlib.sha256(blob).hexdigest() != answer["sha256"]:
                        raise DataError(f"{photo.path}: changed while its masks were made")
            except (OSError, DataError) as error:
                answers[photo.name] = {"error": " ".join(str(error).split()), "fatal": False}
                continue
            key, suffix = _key(photo)
            yield ShardSample(key, {suffix: blob, "json": text})


def _task(photo: Photo, folder: Path, made_from: dict[str, Any]) -> Task:
    task: Task = {
        "name": photo.name,
        "photo": photo.path,
        "json": str(folder / f"{photo.name}.json"),
        "made_from": made_from,
    }
    return task | ({"offset": photo.offset, "size": photo.size} if photo.size >= 0 else {})


def _key(photo: Photo) -> tuple[str, str]:
    """Return sample key and photo suffix: ``a/b.jpg`` gives ``a/b``; others get a hash, as unique.

    A key depends on the photo's name alone, so that it is the same in every division.
    """
    stem, _, suffix = photo.name.rpartition(".")
    folder, slash, base = stem.rpartition("/")
    plain = base.replace(".", "_")
    if suffix != "jpg" or plain != base:
        digest = hashlib.sha256(photo.name.encode("utf-8", "surrogateescape")).hexdigest()
        plain = f"{plain}-{digest[:12]}"
    return folder + slash + plain, suffix.lower()


def _members(photo: Photo) -> tuple[str, str]:
    key, suffix = _key(photo)
    return f"{key}.{suffix}", f"{key}.json"


def _lock(path: Path) -> IO[str] | None:
    """Hold a lock until the process ends, however it ends; None where the disk knows no locks."""
    stream = path.open("w")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise DataError(
            f"{path.parent}: another run is writing these shards; wait for it, or give each its "
            "own part (--shard-index)"
        ) from None
    except OSError:
        stream.close()
        return None
    return stream
