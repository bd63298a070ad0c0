"""A folder with one SA-1B style JSON beside each photo, such as unpacked tars of SA-1B."""

from __future__ import annotations

import os
from pathlib import Path

from unsam.annotations.folders import JsonFolder
from unsam.data.datasets.archives import sound_entries
from unsam.data.datasets.record import ImageRecord, require_photos


def load_json_folder(
    folder: str | os.PathLike[str], image_root: str | os.PathLike[str] = ""
) -> list[ImageRecord]:
    """List a folder of JSON files, below any number of sub-folders; no manifest is needed.

    ``sa_1.json`` belongs to ``sa_1.jpg`` beside it, ``a.jpg.json`` to ``a.jpg``. Such files are
    not opened; where there is no such photo, the file is asked for the name of its photo.

    Args:
        folder: the folder.
        image_root: where the photos are, "" for beside the JSON files or in ``images``.

    Returns:
        One record per JSON in order of the paths; `image_id` counts from 1.

    Raises:
        DataError: a file cannot be read, or photos are not on disk.
    """
    root = Path(folder).expanduser().resolve()
    elsewhere = Path(image_root).expanduser().resolve() if os.fspath(image_root) else None
    source = JsonFolder(root, elsewhere or "")
    records, missing = [], []
    for number, entry in enumerate(sound_entries(source), start=1):
        photo = None if elsewhere else entry.photo
        photo = photo or source.photo_on_disk(entry.name)
        if photo is None:
            missing.append(str(source.roots[0] / entry.name))
            continue
        records.append(ImageRecord(number, str(photo.path), 0, 0, annotations=entry.file))
    require_photos(missing, len(records) + len(missing), str(root))
    return records
