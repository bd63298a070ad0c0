"""Train, resume or evaluate a recipe: alone, under torchrun, or with ``--num-gpus N``.

    python train_net.py --config-file quickstart/tiny.yaml DATASETS.TRAIN my_pseudo_masks
    python train_net.py --num-gpus 8 --max-restarts 3 --config-file unsam/whole_image_R50.yaml
    torchrun --nproc_per_node=2 train_net.py --config-file ... --resume
    python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model.safetensors

The same as ``unsam train``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from unsam.cli import add_training_arguments, run_reporting_errors, run_training


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description="Train, resume or evaluate a recipe.")
    add_training_arguments(parser)
    # Intermixed: switches may come before, between or after the KEY VALUE pairs.
    arguments = parser.parse_intermixed_args(argv)
    return run_reporting_errors(lambda: run_training(arguments))


if __name__ == "__main__":
    sys.exit(main())
