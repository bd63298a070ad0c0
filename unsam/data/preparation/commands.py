"""Arguments that the scripts in datasets/ share."""

from __future__ import annotations

import argparse
from pathlib import Path

from unsam.annotations.folders import PHOTOS
from unsam.data.datasets.benchmarks import BENCHMARKS, PublishedCounts, benchmark_root
from unsam.data.preparation.coco_style import Description, prepare_coco_style, whole_objects
from unsam.errors import DataError


def add_coco_style_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of sets that come as COCO JSON."""
    add_annotations_argument(parser)
    parser.add_argument("--split", default="val", metavar="NAME", help="train, val or test")
    add_target_arguments(parser)


def add_annotations_argument(parser: argparse.ArgumentParser) -> None:
    """Add the JSON of a download and the folders of its photos."""
    parser.add_argument("--annotations", required=True, metavar="FILE", help="JSON as downloaded")
    parser.add_argument(
        "--images", required=True, nargs="+", metavar="DIR", help="folders of its photos"
    )


def add_mask_images_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folders of photos and of mask images."""
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of the photos")
    parser.add_argument("--masks", required=True, metavar="DIR", help="folder of the mask images")
    add_target_arguments(parser)


def add_pascal_voc_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the list of photos and the folders of photos and MATLAB files."""
    parser.add_argument("--list", required=True, metavar="FILE", help="val.txt of the download")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder of the photos")
    parser.add_argument("--masks", required=True, metavar="DIR", help="folder of the .mat files")
    add_target_arguments(parser)


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder that is written, and whether a part of the set is wanted."""
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder of the set; by default the benchmark's place below $DETECTRON2_DATASETS",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="accept other counts than published, and take all photos that a JSON lists",
    )


def target_of(
    arguments: argparse.Namespace, name: str, split: str = "val"
) -> tuple[Path, PublishedCounts | None]:
    """Return the JSON to write for a set, and the counts to check it against.

    With ``--output`` that is ``<output>/<name>_<split>.json``, else the place of the benchmark
    ``unsam_<name>_<split>``.

    Raises:
        DataError: no ``--output``, and the set is no benchmark or is read as downloaded.
    """
    benchmark = BENCHMARKS.get(f"unsam_{name}_{split}")
    counts = benchmark.counts if benchmark and not arguments.partial else None
    if arguments.output:
        return Path(arguments.output) / f"{name}_{split}.json", counts
    if benchmark is None:
        raise DataError(f"{name} {split} is no benchmark with a place of its own; give --output")
    place = benchmark_root() / benchmark.folder
    if benchmark.photos != PHOTOS:
        raise DataError(
            f"unsam_{name}_{split} needs no preparation, it is read as downloaded: "
            f"{place / benchmark.file} and {place / benchmark.photos}; give --output for another"
        )
    return place / benchmark.file, counts


def prepare_as_asked(
    arguments: argparse.Namespace, name: str, describe: Description = whole_objects
) -> str:
    """Prepare the set `name`, which comes as COCO JSON; return one line on what was written.

    Raises:
        DataError: as `prepare_coco_style` and `target_of`.
        StorageError: as `prepare_coco_style`.
    """
    target, counts = target_of(arguments, name, arguments.split)
    return prepare_coco_style(
        arguments.annotations,
        arguments.images,
        target,
        describe=describe,
        counts=counts,
        progress=True,
    )
