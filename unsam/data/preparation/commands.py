"""Arguments of the scripts in datasets/ whose sets come as COCO JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

from unsam.data.preparation.coco_style import Description, prepare_coco_style, whole_objects


def add_coco_style_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all of them share."""
    parser.add_argument("--annotations", required=True, metavar="FILE", help="JSON as downloaded")
    parser.add_argument(
        "--images", required=True, nargs="+", metavar="DIR", help="folders of its photos"
    )
    parser.add_argument("--split", default="val", metavar="NAME", help="train, val or test")
    add_output_argument(parser)


def add_output_argument(parser: argparse.ArgumentParser) -> None:
    """Add the folder that is written."""
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the set below $UNSAM_DATA"
    )


def prepare_as_asked(
    arguments: argparse.Namespace, name: str, describe: Description = whole_objects
) -> str:
    """Prepare the set `name` and return one line on what was written.

    Raises:
        DataError: as `prepare_coco_style`.
        StorageError: as `prepare_coco_style`.
    """
    return prepare_coco_style(
        arguments.annotations,
        arguments.images,
        Path(arguments.output) / f"{name}_{arguments.split}.json",
        describe=describe,
        progress=True,
    )
