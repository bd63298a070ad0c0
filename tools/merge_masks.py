"""Merge masks: ``python tools/merge_masks.py plus --human H --pseudo P --output O``.

The same as ``unsam merge-masks``; see docs/annotations.md.
"""

from __future__ import annotations

import argparse
import sys

from divide_and_conquer.granularity import granularity_of_trees
from unsam.annotations.commands import MERGE_HELP, add_merge_arguments, merge_as_asked
from unsam.cli import run_reporting_errors


def main() -> int:
    """Merge as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=MERGE_HELP)
    add_merge_arguments(parser)
    arguments = parser.parse_args()

    def run() -> int:
        print(merge_as_asked(arguments, granularity_of_trees))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
