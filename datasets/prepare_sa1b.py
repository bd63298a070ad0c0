"""SA-1B: tars with the granularity of each mask to train on, or 1,000 photos to evaluate on.

``python datasets/prepare_sa1b.py --tars DIR --num-tars 10 --output DIR``
``python datasets/prepare_sa1b.py --tars sa_000999.tar --split val``
"""

from __future__ import annotations

import argparse
import sys

from divide_and_conquer.granularity import granularity_of_trees
from unsam.cli import run_reporting_errors
from unsam.data.preparation.commands import add_target_arguments, target_of
from unsam.data.preparation.sa1b import prepare_sa1b
from unsam.data.preparation.sa1b_val import prepare_sa1b_val


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tars", required=True, metavar="PATH", help="a tar, or the folder of them"
    )
    parser.add_argument("--split", default="train", choices=("train", "val"))
    parser.add_argument(
        "--num-tars", type=int, default=0, metavar="N", help="train: the first N by name; 0 for all"
    )
    add_target_arguments(parser)
    arguments = parser.parse_args()
    if arguments.split == "train" and not arguments.output:
        parser.error("--output is required for --split train")

    def run() -> int:
        if arguments.split == "val":
            target, counts = target_of(arguments, "sa1b")
            print(prepare_sa1b_val(arguments.tars, target, counts=counts, progress=True))
            return 0
        words = {"num_tars": arguments.num_tars, "granularity_of": granularity_of_trees}
        print(prepare_sa1b(arguments.tars, arguments.output, **words, progress=True))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
