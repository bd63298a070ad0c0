"""PACO-LVIS as class-agnostic masks of objects and their parts.

``python datasets/prepare_paco.py --annotations FILE --images DIR``
"""

from __future__ import annotations

import argparse
import sys

from unsam.cli import run_reporting_errors
from unsam.data.preparation.coco_style import objects_and_parts
from unsam.data.preparation.commands import add_coco_style_arguments, prepare_as_asked


def main() -> int:
    """Prepare as the command line says and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_coco_style_arguments(parser)
    arguments = parser.parse_args()

    def run() -> int:
        print(prepare_as_asked(arguments, "paco", objects_and_parts))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
