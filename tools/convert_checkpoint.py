"""Convert a checkpoint: ``python tools/convert_checkpoint.py IN OUT --to native``.

The same as ``unsam convert-checkpoint``; see docs/model_zoo.md.
"""

from __future__ import annotations

import argparse
import sys

from unsam.checkpoint.commands import CONVERT_CHECKPOINT_HELP, add_convert_checkpoint_arguments
from unsam.cli import run_reporting_errors
from unsam.modeling.convert_command import convert_as_asked


def main() -> int:
    """Convert as the command line says and print what became of each tensor."""
    parser = argparse.ArgumentParser(description=CONVERT_CHECKPOINT_HELP)
    add_convert_checkpoint_arguments(parser)
    arguments = parser.parse_args()

    def run() -> int:
        print(convert_as_asked(arguments))
        return 0

    return run_reporting_errors(run)


if __name__ == "__main__":
    sys.exit(main())
