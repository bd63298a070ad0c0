"""Masks by the name of their photo."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from unsam.annotations.formats import open_source
from unsam.annotations.records import AnnotationSource, Entry, Failure, PhotoRecord
from unsam.errors import DataError
from unsam.structures import MaskSet


class AnnotationIndex:
    """Finds the masks of a photo in files of any format; masks are read when they are asked for.

    Of tars, TSV and JSON folders only names and offsets are in memory; a COCO JSON is held whole.

    Attributes:
        source: the files.
        failures: what cannot be used.
    """

    def __init__(self, source: AnnotationSource) -> None:
        """Read the names of all photos."""
        self.source = source
        self.failures: list[Failure] = []
        self._entries: dict[str, Entry] = {}
        self._repeated: dict[str, Entry] = {}
        self._by_stem: dict[str, list[str]] | None = None
        for item in source.entries():
            if isinstance(item, Failure):
                self.failures.append(item)
            elif self._entries.setdefault(_key(item.name), item) is not item:
                self._repeated[_key(item.name)] = item

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], image_root: str | os.PathLike[str] = ""
    ) -> AnnotationIndex:
        """Index a folder of JSONs, a COCO JSON, tars or TSV; see `open_source`.

        Raises:
            DataError: no such files, no known format, or no photo in them.
        """
        index = cls(open_source(path, image_root))
        if not index._entries:
            first = index.failures[0] if index.failures else None
            why = f" ({first.place}: {first.reason})" if first else ""
            raise DataError(f"{Path(path)}: no photo with masks in it{why}")
        return index

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Yield one entry per photo, in order of the names."""
        return (self._entries[key] for key in sorted(self._entries))

    def find(self, name: str) -> Entry | None:
        """Return where the masks of a photo are, None if there are none.

        The relative file name counts; if it is not there, the name without ending and with as many
        of its folders as both sides have: ``3096.png`` finds ``val/3096.jpg`` if that is the only
        3096, but ``train/3096.jpg`` does not.

        Raises:
            DataError: two records carry this name.
        """
        key = _key(name)
        if key not in self._entries:
            if self._by_stem is None:
                self._by_stem = {}
                for known in self._entries:
                    self._by_stem.setdefault(PurePosixPath(known).stem, []).append(known)
            alike = self._by_stem.get(PurePosixPath(key).stem, [])
            alike = [known for known in alike if _folders_agree(known, key)]
            if len(alike) != 1:
                return None
            key = alike[0]
        if key in self._repeated:
            places = [self.source.place(item[key]) for item in (self._entries, self._repeated)]
            raise DataError(f"{places[0]} and {places[1]}: two records of the photo {name}")
        return self._entries[key]

    def record_of(self, name: str) -> PhotoRecord | None:
        """Return the record of a photo, None if there is none.

        Raises:
            DataError: it is damaged, or there are two.
        """
        entry = self.find(name)
        return self.source.read(entry) if entry else None

    def masks_of(self, name: str, size: tuple[int, int]) -> MaskSet | None:
        """Return the masks of a photo without crowd regions, None if there is no record of it.

        Args:
            name: the photo's relative file name.
            size: its ``(H, W)``.

        Returns:
            Masks with the fields of the files; those that name no source have "human".

        Raises:
            DataError: the record is damaged, of another size, or there are two.
        """
        entry = self.find(name)
        if entry is None:
            return None
        masks = self.source.read(entry).masks()
        if masks.size != tuple(size):
            place = self.source.place(entry)
            raise DataError(f"{place}: masks of size {masks.size}, photo of {tuple(size)}")
        return masks


def _key(name: str) -> str:
    """Return a name in the one form that all systems' file names are compared in."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name)))


def _folders_agree(first: str, second: str) -> bool:
    one, two = PurePosixPath(first).parts[:-1], PurePosixPath(second).parts[:-1]
    common = min(len(one), len(two))
    return not common or one[-common:] == two[-common:]
