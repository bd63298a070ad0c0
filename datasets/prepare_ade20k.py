"""ADE20K (full release of 2021) as class-agnostic masks of objects and their parts.

``python datasets/prepare_ade20k.py --images ADE20K_2021_17_01/images/ADE/validation``
"""

from __future__ import annotations

import argparse
import sys

from unsam.cli import run_reporting_errors
from unsam.data.preparation.ade20k import prepare_ade20k
from unsam.data.preparation.commands import add_target_arguments, target_of


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", required=True, metavar="DIR", help="images/ADE/validation of the download"
    )
    parser.add_argument("--split", default="val", metavar="NAME", help="train or val")
    add_target_arguments(parser)
    arguments = parser.parse_args()

    def run() -> int:
        target, counts = target_of(arguments, "ade20k", arguments.split)
        print(prepare_ade20k(arguments.images, target, counts=counts, progress=True))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
