"""GrabCut: 50 photos of one object each, for interactive segmentation.

``python datasets/prepare_grabcut.py --images data_GT --masks boundary_GT``
"""

from __future__ import annotations

import argparse
import sys

from unsam.cli import run_reporting_errors
from unsam.data.preparation.commands import add_mask_images_arguments, target_of
from unsam.data.preparation.mask_images import object_with_band, prepare_mask_images


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_mask_images_arguments(parser)
    arguments = parser.parse_args()

    def run() -> int:
        target, counts = target_of(arguments, "grabcut")
        words = {"counts": counts, "progress": True}
        images, masks = arguments.images, arguments.masks
        print(prepare_mask_images(images, masks, target, object_with_band, **words))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
