"""The evaluation sets of the papers: their names, where they lie, and how large they are.

Names and places of the first seven are those that UnSAM published, below detectron2's folder of
datasets. Ids come from the JSON and nothing from the names of photos, so folders within the folder
of the photos, and photos that the JSON does not know, change nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsam.annotations.folders import PHOTOS
from unsam.data.datasets.coco import ANNOTATIONS, load_coco_json
from unsam.data.datasets.record import ImageRecord
from unsam.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedCounts:
    """How large a set is.

    Attributes:
        photos: number of photos; several where sources that name the same set differ.
        masks: number of masks without crowd regions, 0 if it is not published.
        drawn_from: photos of the download that `photos` of them are drawn from, 0 for no draw.
    """

    photos: tuple[int, ...]
    masks: int = 0
    drawn_from: int = 0

    def require_photos(self, found: int, place: str) -> None:
        """Raise if the set at `place` has another number of photos.

        Raises:
            DataError: what was found, what was expected and what is missing.
        """
        if found not in self.photos:
            _refuse(found, self.photos, "photos", place)

    def require_masks(self, found: int, place: str) -> None:
        """Raise if the set at `place` has another number of masks, where that is published.

        Raises:
            DataError: as `require_photos`.
        """
        if self.masks and found != self.masks:
            _refuse(found, (self.masks,), "masks", place)

    def require_download(self, found: int, place: str) -> None:
        """Raise if the download that photos are drawn from is not whole: the draw would differ.

        Raises:
            DataError: as `require_photos`.
        """
        if self.drawn_from and found != self.drawn_from:
            _refuse(found, (self.drawn_from,), "photos to draw from", place)


@dataclass(frozen=True)
class Benchmark:
    """Where an evaluation set lies, and how large it is.

    Attributes:
        folder: below `benchmark_root`.
        file: the COCO JSON, below `folder`.
        counts: as published.
        photos: folder of the photos, below `folder`.
        keep: which annotations are targets, None for all.
    """

    folder: str
    file: str
    counts: PublishedCounts
    photos: str = PHOTOS
    keep: Callable[[dict[str, Any]], bool] | None = None


def _is_part(annotation: dict[str, Any]) -> bool:
    return annotation.get("level") != 0


def _is_interactive(annotation: dict[str, Any]) -> bool:
    if "interactive" not in annotation:
        raise DataError(
            f"annotation {annotation.get('id', '?')} of SA-1B has no 'interactive'; prepare the "
            "set again with datasets/prepare_sa1b.py --split val"
        )
    return bool(annotation["interactive"])


def _prepared(name: str, *photos: int, folder: str = "", **counts: int) -> Benchmark:
    file = f"{ANNOTATIONS}/{name}_val.json"
    return Benchmark(folder or name, file, PublishedCounts(photos, **counts))


_SA1B = _prepared("sa1b", 1000)
_PASCALPART = _prepared("pascalpart", 5105)
_COCO_FILE = f"{ANNOTATIONS}/instances_val2017.json"
_LVIS_FILE = f"{ANNOTATIONS}/lvis_v1_val.json"
BENCHMARKS = {
    "unsam_coco_val": Benchmark("coco", _COCO_FILE, PublishedCounts((5000,)), photos="val2017"),
    "unsam_lvis_val": Benchmark("lvis", _LVIS_FILE, PublishedCounts((5000,), drawn_from=19809)),
    "unsam_ade20k_val": _prepared("ade", 2000),
    "unsam_entity_val": _prepared("entityseg", 1314, folder="entity"),
    "unsam_sa1b_val": _SA1B,
    # The release has 2,957 photos, UnSAM's paper names 2,956.
    "unsam_partimagenet_val": _prepared("partimagenet", 2956, 2957),
    "unsam_paco_val": _prepared("paco", 2410),
    "unsam_partimagenet_seg_val": _prepared("partimagenet_seg", 1206),
    "unsam_pascalpart_val": Benchmark(
        _PASCALPART.folder, _PASCALPART.file, _PASCALPART.counts, keep=_is_part
    ),
    "unsam_sa1b_interactive_val": Benchmark(
        _SA1B.folder, _SA1B.file, _SA1B.counts, keep=_is_interactive
    ),
    "unsam_sbd_val": _prepared("sbd", 2857, masks=6671),
    "unsam_grabcut_val": _prepared("grabcut", 50, masks=50),
    # One photo with two objects is in some copies as two photos.
    "unsam_berkeley_val": _prepared("berkeley", 96, 100, masks=100),
    "unsam_davis_val": _prepared("davis", 345, masks=345),
    "unsam_coco_panoptic_val": _prepared("coco_panoptic", 5000),
}
"""Name -> benchmark. Counts: UnSAM (arXiv 2406.20081), UnSAMv2 and the sets' own papers."""


def benchmark_root() -> Path:
    """Return the folder of the benchmarks: ``DETECTRON2_DATASETS``, else ``./datasets``.

    The default is detectron2's, so that what lies there for it is found here too.
    """
    return Path(os.environ.get("DETECTRON2_DATASETS") or "datasets").expanduser().absolute()


def load_benchmark(name: str, image_root: str = "") -> list[ImageRecord]:
    """Read a benchmark; a set of another size than the published one is said so in the log.

    Args:
        name: one of `BENCHMARKS`.
        image_root: another folder of photos, "" for the benchmark's own.

    Raises:
        DataError: its file is not there or broken, or photos are missing.
    """
    benchmark = BENCHMARKS[name]
    folder = benchmark_root() / benchmark.folder
    path = folder / benchmark.file
    if not path.is_file():
        raise DataError(
            f"{name}: no file {path}; set DETECTRON2_DATASETS to the folder that holds "
            f"{benchmark.folder}/, or prepare it as datasets/README.md says"
        )
    root = image_root or folder / benchmark.photos
    records = load_coco_json(path, root, keep=benchmark.keep)
    if len(records) not in benchmark.counts.photos:
        logger.warning(
            "%s: %s has %s photos, the published benchmark %s; do not compare with its numbers",
            name,
            path,
            f"{len(records):,}",
            _either(benchmark.counts.photos),
        )
    return records


def _refuse(found: int, expected: tuple[int, ...], what: str, place: str) -> None:
    missing = min(expected) - found
    difference = (
        f"{missing:,} are missing" if missing > 0 else f"{found - max(expected):,} too many"
    )
    raise DataError(
        f"{place}: found {found:,} {what}, expected {_either(expected)}, {difference}; complete "
        "the download, or take what is there with --partial"
    )


def _either(numbers: tuple[int, ...]) -> str:
    return " or ".join(f"{number:,}" for number in numbers)
