"""Train and evaluate the runs of a sweep, unattended; a rerun goes on where this one stopped.

python tools/run_sweep.py tools/sweeps/objectives.yaml output/objectives --jobs 2
"""

from __future__ import annotations

import argparse
import logging
import sys

from unsam.cli import run_reporting_errors
from unsam.engine.sweep import Sweep, run_sweep


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description="Train and evaluate the runs of a sweep.")
    parser.add_argument("sweep", help="a YAML file such as tools/sweeps/objectives.yaml")
    parser.add_argument("output", help="folder of the runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")

    def run() -> int:
        print(run_sweep(Sweep.read(arguments.sweep), arguments.output, arguments.jobs))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
