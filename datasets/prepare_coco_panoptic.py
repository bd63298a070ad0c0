"""COCO panoptic 2017: things and stuff as class-agnostic masks, for clicks.

``python datasets/prepare_coco_panoptic.py --annotations FILE --masks DIR --images DIR``
"""

from __future__ import annotations

import argparse
import sys

from unsam.cli import run_reporting_errors
from unsam.data.preparation.coco_panoptic import prepare_coco_panoptic
from unsam.data.preparation.commands import (
    add_annotations_argument,
    add_target_arguments,
    target_of,
)


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_annotations_argument(parser)
    parser.add_argument(
        "--masks", required=True, metavar="DIR", help="panoptic_val2017 of the download"
    )
    add_target_arguments(parser)
    arguments = parser.parse_args()

    def run() -> int:
        target, counts = target_of(arguments, "coco_panoptic")
        words = {"counts": counts, "progress": True}
        places = (arguments.annotations, arguments.masks, arguments.images)
        print(prepare_coco_panoptic(*places, target, **words))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
