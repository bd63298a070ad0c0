"""PartImageNet as class-agnostic masks, all of them parts.

``python datasets/prepare_partimagenet.py --annotations FILE --images DIR``
``python datasets/prepare_partimagenet.py --masks DIR --images DIR`` for PartImageNet_Seg
"""

from __future__ import annotations

import argparse
import sys

from unsam.cli import run_reporting_errors
from unsam.data.preparation.coco_style import parts_only
from unsam.data.preparation.commands import add_target_arguments, prepare_as_asked, target_of
from unsam.data.preparation.mask_images import part_labels, prepare_mask_images


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--annotations", metavar="FILE", help="JSON of the release as COCO has it")
    truth.add_argument("--masks", metavar="DIR", help="folder of label maps of PartImageNet_Seg")
    parser.add_argument(
        "--images", required=True, nargs="+", metavar="DIR", help="folders of the photos"
    )
    parser.add_argument("--split", default="val", metavar="NAME", help="train, val or test")
    add_target_arguments(parser)
    arguments = parser.parse_args()
    if arguments.masks and len(arguments.images) > 1:
        parser.error("--masks takes one folder of --images")

    def run() -> int:
        if arguments.annotations:
            print(prepare_as_asked(arguments, "partimagenet", parts_only))
            return 0
        target, counts = target_of(arguments, "partimagenet_seg", arguments.split)
        places = (arguments.images[0], arguments.masks, target)
        print(prepare_mask_images(*places, part_labels, counts=counts, progress=True))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
