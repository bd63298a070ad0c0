"""The ``unsam`` command. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from unsam import __version__
from unsam.annotations.commands import (
    CONVERT_HELP,
    MERGE_HELP,
    add_convert_arguments,
    add_merge_arguments,
    convert_as_asked,
    merge_as_asked,
)
from unsam.checkpoint.commands import CONVERT_CHECKPOINT_HELP, add_convert_checkpoint_arguments
from unsam.errors import UnsamError
from unsam.fit.commands import (
    FIT_HELP,
    SEGMENT_HELP,
    add_fit_arguments,
    add_segment_arguments,
    fit_as_asked,
    segment_as_asked,
    stages_on_screen,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an `UnsamError` becomes one line on stderr."""
    arguments = build_parser().parse_args(argv)
    return run_reporting_errors(lambda: int(arguments.run(arguments)))


def run_reporting_errors(command: Callable[[], int]) -> int:
    """Run `command`; print an `UnsamError` as one line on stderr and return its exit code."""
    try:
        return command()
    except UnsamError as error:
        print(f"unsam: error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("unsam: interrupted; a rerun goes on where this one stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (``unsam configs | head``); that is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="unsam",
        description="Point it at a folder of photos; get a segmenter of any granularity, "
        "with no label used anywhere.",
    )
    parser.add_argument("--version", action="version", version=f"unsam {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_pseudo_masks(commands)
    _add_gallery(commands)
    _add_annotation_commands(commands)
    _add_train(commands)
    _add_eval(commands)
    _add_convert_checkpoint(commands)
    _add_segment(commands)
    _add_fit(commands)
    _add_quickstart(commands)
    _add_configs(commands)
    return parser


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that ``train_net.py`` and ``unsam train`` share."""
    _add_config(parser, required=True)
    parser.add_argument(
        "--num-gpus",
        type=int,
        default=1,
        metavar="N",
        help="start N workers here, one per GPU (N processes on the CPU where there is none); "
        "leave it out under torchrun",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in OUTPUT_DIR"
    )
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        metavar="N",
        help="start the workers again up to N times when one of them fails, from the newest "
        "checkpoint; under torchrun use its own --max-restarts",
    )
    parser.add_argument(
        "--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS on DATASETS.TEST and stop"
    )


def run_training(arguments: argparse.Namespace) -> int:
    """Train, or with ``--eval-only`` evaluate, as the parsed arguments say."""
    from unsam.config import load_config
    from unsam.engine import launch_training

    cfg = load_config(arguments.config_file, arguments.overrides)
    launch_training(
        cfg,
        num_workers=arguments.num_gpus,
        resume=arguments.resume,
        eval_only=arguments.eval_only,
        max_restarts=arguments.max_restarts,
    )
    return 0


def _add_config(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument(
        "--config-file",
        required=required,
        metavar="YAML",
        help="a recipe: a path, or a name such as quickstart/tiny.yaml (see `unsam configs`)",
    )
    _add_overrides(parser)


def _add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY VALUE",
        help="config keys to change, such as SOLVER.MAX_ITER 100",
    )


def _add_pseudo_masks(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "pseudo-masks",
        help="photos in, masks of every granularity out (divide and conquer)",
        description="Write the masks of every photo, and manifest.json. A rerun does only what is "
        "missing.",
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="PATH",
        help="folder of photos, .txt list, COCO .json, or .tar files (SA-1B, WebDataset)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the masks")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="a recipe of configs/pseudo_masks: default, unsam, unsamv2, maskcut, ...",
    )
    parser.add_argument(
        "--image-root", default="", metavar="DIR", help="where the photos of a list or JSON lie"
    )
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="this machine, or a Ray cluster"
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes; 0 is one per GPU or core"
    )
    parser.add_argument(
        "--shard-index", type=int, default=0, metavar="K", help="do share K of --num-shards"
    )
    parser.add_argument(
        "--num-shards", type=int, default=1, metavar="N", help="split the photos over N runs"
    )
    parser.add_argument(
        "--format",
        choices=("json", "webdataset"),
        default="json",
        help="one JSON per photo, or .tar shards of photos with their JSON",
    )
    parser.add_argument(
        "--samples-per-shard", type=int, default=1000, metavar="N", help="photos in one .tar"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 if any photo could not be read"
    )
    _add_config(parser)
    parser.set_defaults(run=_run_pseudo_masks)


def _run_pseudo_masks(arguments: argparse.Namespace) -> int:
    from divide_and_conquer.generate import generate_pseudo_masks
    from unsam.config import load_config, load_preset
    from unsam.errors import ConfigError

    if arguments.preset is not None and arguments.config_file is not None:
        raise ConfigError("give --preset or --config-file, not both")
    if arguments.preset is not None:
        cfg = load_preset(arguments.preset, arguments.overrides)
    else:
        cfg = load_config(arguments.config_file, arguments.overrides)
    manifest = generate_pseudo_masks(
        arguments.input,
        arguments.output,
        cfg,
        engine=arguments.engine,
        workers=arguments.workers,
        shard_index=arguments.shard_index,
        num_shards=arguments.num_shards,
        output_format=arguments.format,
        samples_per_shard=arguments.samples_per_shard,
        image_root=arguments.image_root,
    )
    return _report_masks(manifest, arguments)


def _report_masks(manifest: dict[str, Any], arguments: argparse.Namespace) -> int:
    """Say what a run over many photos has made, and return the exit code."""
    failures = manifest["failures"]
    print(
        f"{len(manifest['images'])} photos, {manifest['counts']['masks']} masks in "
        f"{arguments.output}"
    )
    if failures:
        name, reason = next(iter(failures.items()))
        print(
            f"unsam: warning: {len(failures)} photos could not be used (first: {name}: {reason}); "
            "all are listed in the manifest",
            file=sys.stderr,
        )
    return 1 if failures and arguments.strict else 0


def _add_gallery(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "gallery", help="a web page of a folder of pseudo masks, from coarse to fine"
    )
    parser.add_argument("folder", metavar="DIR", help="folder that pseudo-masks has written")
    parser.add_argument("--output", metavar="FILE", help="the page; DIR/gallery.html by default")
    parser.add_argument("--image-root", metavar="DIR", help="where the photos are now")
    parser.add_argument(
        "--max-photos", type=int, default=50, metavar="N", help="show so many; count all"
    )
    parser.set_defaults(run=_run_gallery)


def _run_gallery(arguments: argparse.Namespace) -> int:
    from unsam.visualization.gallery import write_gallery

    page = write_gallery(
        arguments.folder,
        arguments.output,
        image_root=arguments.image_root,
        max_photos=arguments.max_photos,
    )
    print(f"gallery: {page}")
    return 0


def _add_annotation_commands(commands: argparse._SubParsersAction) -> None:
    convert = commands.add_parser("convert-annotations", help=CONVERT_HELP)
    add_convert_arguments(convert)
    convert.set_defaults(run=_run_convert_annotations)
    merge = commands.add_parser("merge-masks", help=MERGE_HELP)
    add_merge_arguments(merge)
    merge.set_defaults(run=_run_merge_masks)


def _run_convert_annotations(arguments: argparse.Namespace) -> int:
    print(convert_as_asked(arguments))
    return 0


def _run_merge_masks(arguments: argparse.Namespace) -> int:
    from divide_and_conquer.granularity import granularity_of_trees

    print(merge_as_asked(arguments, granularity_of_trees))
    return 0


def _add_train(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "train", help="train, resume or evaluate a recipe (the same as train_net.py)"
    )
    add_training_arguments(parser)
    parser.set_defaults(run=run_training)


def _add_eval(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("eval", help="evaluate a model or a baseline on DATASETS.TEST")
    _add_config(parser, required=True)
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="workers to start")
    parser.add_argument(
        "--predictions",
        metavar="JSON",
        help="evaluate a COCO results file instead: a list of {image_id, segmentation, score}",
    )
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="count photos that the results file has nothing for as photos without masks",
    )
    parser.set_defaults(run=_run_eval, eval_only=True, resume=False, max_restarts=0)


def _run_eval(arguments: argparse.Namespace) -> int:
    if arguments.predictions:
        arguments.overrides += ["EVALUATION.SEGMENTER", "StoredPredictions"]
        arguments.overrides += ["EVALUATION.PREDICTIONS", arguments.predictions]
    if arguments.allow_partial:
        arguments.overrides += ["EVALUATION.ALLOW_PARTIAL", "True"]
    return run_training(arguments)


def _add_convert_checkpoint(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("convert-checkpoint", help=CONVERT_CHECKPOINT_HELP)
    add_convert_checkpoint_arguments(parser)
    parser.set_defaults(run=_run_convert_checkpoint)


def _run_convert_checkpoint(arguments: argparse.Namespace) -> int:
    from unsam.modeling.convert_command import convert_as_asked

    print(convert_as_asked(arguments))
    return 0


def _add_segment(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("segment", help=SEGMENT_HELP)
    add_segment_arguments(parser)
    _add_overrides(parser)
    parser.set_defaults(run=_run_segment)


def _run_segment(arguments: argparse.Namespace) -> int:
    return _report_masks(segment_as_asked(arguments), arguments)


def _add_fit(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("fit", help=FIT_HELP)
    add_fit_arguments(parser)
    _add_config(parser)
    parser.set_defaults(run=_run_fit)


def _run_fit(arguments: argparse.Namespace) -> int:
    from unsam.config import load_config

    cfg = load_config(arguments.config_file or "fit/default.yaml", arguments.overrides)
    print(f"report: {fit_as_asked(arguments, cfg)}")
    return 0


def _add_quickstart(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "quickstart",
        help="the whole job on a few photos: pseudo masks, training, evaluation, a report",
    )
    parser.add_argument(
        "--images", metavar="DIR", help="your photos; by default those that scikit-image carries"
    )
    parser.add_argument("--output", default="quickstart", metavar="DIR", help="where it all goes")
    _add_config(parser)
    parser.set_defaults(run=_run_quickstart)


def _run_quickstart(arguments: argparse.Namespace) -> int:
    from unsam.config import load_config
    from unsam.quickstart import run_quickstart

    cfg = load_config(arguments.config_file or "quickstart/tiny.yaml", arguments.overrides)
    with stages_on_screen():
        report = run_quickstart(cfg, arguments.output, arguments.images)
    print(f"report: {report}")
    return 0


def _add_configs(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("configs", help="list the recipes that travel with the package")
    parser.set_defaults(run=_run_configs)


def _run_configs(arguments: argparse.Namespace) -> int:
    from unsam.config import list_configs

    print("\n".join(list_configs()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
