"""Arguments of ``unsam fit`` and ``unsam segment``.

What the commands need is imported when one runs.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fvcore.common.config import CfgNode

FIT_HELP = "train on your own photos without a label: pseudo masks, training, evaluation, a report"
SEGMENT_HELP = "the masks that a model finds on photos, in the layout of pseudo masks"


def add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``unsam fit``, but for those of the config."""
    parser.description = "A rerun goes on where the last one stopped."
    parser.add_argument(
        "--images", metavar="DIR", help="your photos, or a .txt list; not needed with --masks"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="where it all goes")
    parser.add_argument(
        "--val-images", metavar="DIR", help="photos to hold out; by default a fifth of the others"
    )
    parser.add_argument(
        "--ground-truth", metavar="JSON", help="masks by people (COCO) to evaluate on, too"
    )
    parser.add_argument(
        "--masks", metavar="DIR", help="pseudo masks that `unsam pseudo-masks` has made before"
    )
    parser.add_argument(
        "--num-gpus", type=int, default=1, metavar="N", help="training processes to start"
    )


def fit_as_asked(arguments: argparse.Namespace, cfg: CfgNode) -> Path:
    """Run the chain and return the path of the report."""
    from unsam.fit.chain import fit
    from unsam.fit.photo_sets import FitInputs

    inputs = FitInputs(
        arguments.images, arguments.val_images, arguments.ground_truth, arguments.masks
    )
    with stages_on_screen():
        return fit(cfg, arguments.output, inputs, num_workers=arguments.num_gpus)


@contextmanager
def stages_on_screen() -> Iterator[None]:
    """Print what the stages of a fit log: news on stdout, warnings on stderr."""
    package = logging.getLogger("unsam.fit")
    news, warnings = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    news.addFilter(lambda record: record.levelno < logging.WARNING)
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(logging.Formatter("unsam: warning: %(message)s"))
    before = package.level, package.propagate
    package.setLevel(logging.INFO)
    package.propagate = False
    for handler in (news, warnings):
        package.addHandler(handler)
    try:
        yield
    finally:
        package.level, package.propagate = before
        for handler in (news, warnings):
            package.removeHandler(handler)


def add_segment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``unsam segment``, but for the overrides of the config."""
    parser.description = (
        "Write the whole-image masks of every photo, and manifest.json, to train on or to merge. A "
        "rerun does only what is missing."
    )
    parser.add_argument(
        "--images",
        required=True,
        metavar="PATH",
        help="folder of photos, .txt list, COCO .json, or .tar files",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the masks")
    parser.add_argument(
        "--weights",
        required=True,
        metavar="SOURCE",
        help="a checkpoint, a folder of save_pretrained, or a name of the model zoo",
    )
    parser.add_argument(
        "--granularity",
        action="append",
        type=_granularity,
        metavar="G",
        help="in [0.1, 1]; repeat it for several; by default INFERENCE.GRANULARITIES",
    )
    parser.add_argument(
        "--image-root", default="", metavar="DIR", help="where the photos of a list or JSON lie"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 if any photo could not be used"
    )


def segment_as_asked(arguments: argparse.Namespace) -> dict[str, Any]:
    """Segment the photos and return the manifest."""
    from divide_and_conquer.generation.sources import list_photos
    from unsam.annotations.records import PhotoFile
    from unsam.inference import Segmenter
    from unsam.inference.folder import segment_photos

    listing = list_photos(arguments.images, arguments.image_root)
    segmenter = Segmenter.from_pretrained(arguments.weights, overrides=arguments.overrides)
    return segment_photos(
        {item.name: PhotoFile(Path(item.path), item.offset, item.size) for item in listing.photos},
        listing.root,
        arguments.output,
        segmenter,
        granularity=arguments.granularity,
        failures=listing.failures,
        progress=True,
    )


def _granularity(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: a granularity lies in [0.1, 1]")
    return value
