"""Arguments of ``unsam convert-checkpoint``, shared by the command line and tools/."""

from __future__ import annotations

import argparse

CONVERT_CHECKPOINT_HELP = "a published checkpoint to this program's form, and back"


def add_convert_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``unsam convert-checkpoint``."""
    parser.add_argument(
        "input", metavar="IN", help="a weights file or model folder, or a name of the model zoo"
    )
    parser.add_argument(
        "output", metavar="OUT", help="must not exist; native: a folder, or a .safetensors file"
    )
    parser.add_argument(
        "--to",
        choices=("native", "huggingface", "published"),
        default="native",
        help="this program's form, a folder for transformers, or the authors' own layout",
    )
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="go on if tensors are missing, left over or of another shape",
    )
    parser.add_argument(
        "--config-file",
        metavar="YAML",
        help="the config of the model; by default the one that the weights tell",
    )
    parser.add_argument(
        "--merge-lora",
        action="store_true",
        help="add low-rank updates to the weights that they update; the model is then always "
        "granular, and no longer plain SAM 2 when asked for no granularity",
    )
    # Words without an option would have to stand right after IN and OUT.
    parser.add_argument(
        "--opts",
        dest="overrides",
        nargs="+",
        default=[],
        metavar="KEY VALUE",
        help="config keys to change, in turn with their values",
    )
