"""BSDS500: every region that any annotator drew as a class-agnostic mask.

``python datasets/prepare_bsds500.py --raw BSR/BSDS500/data --split train --output DIR``
"""

from __future__ import annotations

import argparse
import sys

from unsam.cli import run_reporting_errors
from unsam.data.preparation.bsds500 import BSDS500_COUNTS, prepare_bsds500
from unsam.data.preparation.commands import add_target_arguments, target_of


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--raw", required=True, metavar="DIR", help="folder of images and groundTruth"
    )
    parser.add_argument("--split", default="train", choices=("train", "val", "test"))
    add_target_arguments(parser)
    arguments = parser.parse_args()

    def run() -> int:
        target, _ = target_of(arguments, "bsds500", arguments.split)
        counts = None if arguments.partial else BSDS500_COUNTS[arguments.split]
        print(prepare_bsds500(arguments.raw, arguments.split, target, counts=counts, progress=True))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
