"""Arguments and summary of ``unsam convert-annotations`` and ``unsam merge-masks``.

The command line and the scripts in tools/ share them. What the commands need is imported when one
runs.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unsam.annotations.merge import GranularityRule

CONVERT_HELP = "masks from one file format to another: JSON per photo, COCO, TSV, WebDataset"
MERGE_HELP = "join pseudo masks with masks by people (UnSAM+) or by a model (self-training)"


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``unsam convert-annotations``."""
    parser.add_argument(
        "--input", required=True, metavar="PATH", help="folder of JSON, COCO JSON, TSV or tar"
    )
    parser.add_argument(
        "--output", required=True, metavar="PATH", help="folder; for coco also a .json file"
    )
    parser.add_argument(
        "--to", required=True, choices=("json", "coco", "tsv", "webdataset"), help="the new format"
    )
    parser.add_argument(
        "--rows-per-file", type=int, default=1000, metavar="N", help="photos per TSV or tar"
    )
    _add_shared(parser)


def convert_as_asked(arguments: argparse.Namespace) -> str:
    """Convert, and return one line on what was done."""
    from unsam.annotations.convert import convert_annotations

    counts = convert_annotations(
        arguments.input,
        arguments.output,
        arguments.to,
        image_root=arguments.image_root,
        rows_per_file=arguments.rows_per_file,
        strict=arguments.strict,
        progress=True,
    )
    return _summary(counts.photos, counts.masks, arguments.output, counts.failures)


def add_merge_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two merges of ``unsam merge-masks`` with their arguments."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    plus = kinds.add_parser(
        "plus", help="all human masks, and the pseudo masks that overlap none of them (UnSAM+)"
    )
    plus.add_argument("--human", required=True, metavar="PATH", help="masks by people")
    plus.add_argument("--pseudo", required=True, metavar="PATH", help="pseudo masks")
    plus.add_argument(
        "--max-iou", type=float, default=0.02, metavar="X", help="largest IoU with a human mask"
    )
    again = kinds.add_parser(
        "self-training", help="predictions that are sure, in place of the pseudo masks they overlap"
    )
    again.add_argument("--pseudo", required=True, metavar="PATH", help="masks trained on")
    again.add_argument("--predictions", required=True, metavar="PATH", help="masks of the model")
    again.add_argument(
        "--min-score", type=float, default=0.7, metavar="X", help="predictions need more than this"
    )
    again.add_argument(
        "--max-iou", type=float, default=0.5, metavar="X", help="an old mask with more goes"
    )
    for kind in (plus, again):
        kind.add_argument("--output", required=True, metavar="DIR", help="folder to train on")
        _add_shared(kind)


def merge_as_asked(arguments: argparse.Namespace, granularity_of: GranularityRule) -> str:
    """Merge, and return one line on what was done."""
    from unsam.annotations.merge import merge_self_training, merge_unsam_plus

    shared = {
        "granularity_of": granularity_of,
        "max_iou": arguments.max_iou,
        "image_root": arguments.image_root,
        "strict": arguments.strict,
        "progress": True,
    }
    if arguments.kind == "plus":
        manifest = merge_unsam_plus(arguments.human, arguments.pseudo, arguments.output, **shared)
    else:
        manifest = merge_self_training(
            arguments.pseudo,
            arguments.predictions,
            arguments.output,
            min_score=arguments.min_score,
            **shared,
        )
    counts = manifest["counts"]
    return _summary(counts["done"], counts["masks"], arguments.output, manifest["failures"])


def _add_shared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image-root", default="", metavar="DIR", help="photos, where they are not found otherwise"
    )
    parser.add_argument(
        "--strict", action="store_true", help="end with an error if a record cannot be used"
    )


def _summary(photos: int, masks: int, output: str, failures: dict[str, str]) -> str:
    line = f"{photos} photos, {masks} masks in {output}"
    if not failures:
        return line
    place, reason = next(iter(failures.items()))
    return f"{line}; {len(failures)} could not be used (first: {place}: {reason})"
