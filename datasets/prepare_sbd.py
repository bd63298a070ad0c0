"""SBD: 2,857 photos of 6,671 objects, for interactive segmentation.

``python datasets/prepare_sbd.py --list val.txt --images img --masks inst``
"""

from __future__ import annotations

import argparse
import sys

from unsam.cli import run_reporting_errors
from unsam.data.preparation.commands import add_pascal_voc_arguments, target_of
from unsam.data.preparation.pascal_voc import prepare_pascal_voc, sbd_instances


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_pascal_voc_arguments(parser)
    arguments = parser.parse_args()

    def run() -> int:
        target, counts = target_of(arguments, "sbd")
        words = {"counts": counts, "progress": True}
        places = (arguments.list, arguments.images, arguments.masks)
        print(prepare_pascal_voc(*places, target, sbd_instances, **words))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
