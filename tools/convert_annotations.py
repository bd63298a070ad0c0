"""Convert files of masks: ``python tools/convert_annotations.py --input X --output Y --to tsv``.

The same as ``unsam convert-annotations``; see docs/annotations.md.
"""

from __future__ import annotations

import argparse
import sys

from unsam.annotations.commands import CONVERT_HELP, add_convert_arguments, convert_as_asked
from unsam.cli import run_reporting_errors


def main() -> int:
    """Convert as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=CONVERT_HELP)
    add_convert_arguments(parser)
    arguments = parser.parse_args()

    def run() -> int:
        print(convert_as_asked(arguments))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
