"""What tars and TSV share: masks and photos of many samples in one file, read at their place."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from unsam.annotations.records import AnnotationSource, Entry, PhotoFile, PhotoRecord, make_record


class ArchiveSource(AnnotationSource):
    """Files that hold many samples; both parts of one can be read apart from each other."""

    @abstractmethod
    def raw(self, entry: Entry) -> dict[str, Any]:
        """Return the JSON object of a sample as it is in the file.

        Raises:
            DataError: it is damaged; the line says where.
        """

    @abstractmethod
    def photo(self, entry: Entry) -> PhotoFile | None:
        """Return where the photo of a sample is, None if it was not found.

        Raises:
            DataError: the file cannot be read.
        """

    def read(self, entry: Entry) -> PhotoRecord:
        """Return the record of one sample; its photo is decoded when it is read."""
        return make_record(self.raw(entry), entry.name, self.place(entry), self.photo(entry))
