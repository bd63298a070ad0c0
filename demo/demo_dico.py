"""Draw the masks that divide and conquer finds in one photo, from coarse to fine, on one sheet.

python demo/demo_dico.py --input photo.jpg --output masks.png
python demo/demo_dico.py --input photo.jpg --output masks.png --preset unsam_classical
python demo/demo_dico.py --input photo.jpg --output masks.png --opts PSEUDO_MASKS.MAX_MASKS 99

The picture is `unsam.visualization.draw_hierarchy`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from unsam.cli import run_reporting_errors
from unsam.config import load_config, load_preset
from unsam.structures import read_photo
from unsam.visualization import draw_hierarchy, picture_kind, save_picture


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description="Draw one photo's masks level by level.")
    parser.add_argument("--input", required=True, metavar="PHOTO", help="the photo")
    parser.add_argument(
        "--output", required=True, metavar="PNG", help="the picture: .png, .jpg or .webp"
    )
    recipe = parser.add_mutually_exclusive_group()
    recipe.add_argument(
        "--preset",
        metavar="NAME",
        help="a recipe of configs/pseudo_masks, such as unsamv2",
    )
    recipe.add_argument("--config-file", metavar="YAML", help="a recipe of your own")
    parser.add_argument(
        "--opts", nargs="*", default=[], metavar="KEY VALUE", help="config keys to change"
    )
    arguments = parser.parse_args(argv)
    return run_reporting_errors(lambda: draw_photo(arguments))


def draw_photo(arguments: argparse.Namespace) -> int:
    """Make the masks of the photo and write their picture."""
    # What can be wrong is looked at first: making masks may take minutes.
    picture_kind(arguments.output)
    if arguments.preset is not None:
        cfg = load_preset(arguments.preset, arguments.opts)
    else:
        cfg = load_config(arguments.config_file, arguments.opts)
    photo = read_photo(arguments.input)

    from divide_and_conquer.pipeline import build_masker

    masks = build_masker(cfg)(photo)
    save_picture(draw_hierarchy(photo, masks), arguments.output)
    sys.stdout.write(f"{len(masks)} masks in {arguments.output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
