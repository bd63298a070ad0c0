"""ADE20K (full release of 2021) as class-agnostic masks of objects and their parts.

``python datasets/prepare_ade20k.py --images ADE/validation --split val --output DIR``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from unsam.cli import run_reporting_errors
from unsam.data.preparation.ade20k import prepare_ade20k
from unsam.data.preparation.commands import add_output_argument


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--images", required=True, metavar="DIR", help="images/ADE/validation of the download"
    )
    parser.add_argument("--split", default="val", metavar="NAME", help="train or val")
    add_output_argument(parser)
    arguments = parser.parse_args()

    def run() -> int:
        target = Path(arguments.output) / f"ade20k_{arguments.split}.json"
        print(prepare_ade20k(arguments.images, target, progress=True))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
