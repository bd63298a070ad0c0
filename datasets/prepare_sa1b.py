"""SA-1B: tars that are checked and have the granularity of each mask.

``python datasets/prepare_sa1b.py --tars DIR --num-tars 10 --output DIR``
"""

from __future__ import annotations

import argparse
import sys

from divide_and_conquer.granularity import granularity_of_trees
from unsam.cli import run_reporting_errors
from unsam.data.preparation.commands import add_output_argument
from unsam.data.preparation.sa1b import prepare_sa1b


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tars", required=True, metavar="PATH", help="a tar, or the folder of them"
    )
    parser.add_argument(
        "--num-tars", type=int, default=0, metavar="N", help="the first N by name; 0 for all"
    )
    add_output_argument(parser)
    arguments = parser.parse_args()

    def run() -> int:
        words = {"num_tars": arguments.num_tars, "granularity_of": granularity_of_trees}
        print(prepare_sa1b(arguments.tars, arguments.output, **words, progress=True))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
