"""The ``unsam`` command. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from unsam import __version__
from unsam.errors import UnsamError


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
    _add_train(commands)
    _add_eval(commands)
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
    )
    return 0


def _add_config(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument(
        "--config-file",
        required=required,
        metavar="YAML",
        help="a recipe: a path, or a name such as quickstart/tiny.yaml (see `unsam configs`)",
    )
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
        description="Write one JSON of masks per photo of a folder, and manifest.json. A rerun "
        "does only what is missing.",
    )
    parser.add_argument("--input", required=True, metavar="DIR", help="folder of photos, searched")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the JSON files")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes; 0 is one per core"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 if any photo could not be read"
    )
    _add_config(parser)
    parser.set_defaults(run=_run_pseudo_masks)


def _run_pseudo_masks(arguments: argparse.Namespace) -> int:
    from divide_and_conquer.generate import generate_pseudo_masks
    from unsam.config import load_config

    cfg = load_config(arguments.config_file, arguments.overrides)
    manifest = generate_pseudo_masks(arguments.input, arguments.output, cfg, arguments.workers)
    failures = manifest["failures"]
    masks = sum(entry["masks"] for entry in manifest["images"].values())
    print(f"{len(manifest['images'])} photos, {masks} masks in {arguments.output}")
    if failures:
        name, reason = next(iter(failures.items()))
        print(
            f"unsam: warning: {len(failures)} photos could not be used (first: {name}: {reason}); "
            "all are listed in manifest.json",
            file=sys.stderr,
        )
    return 1 if failures and arguments.strict else 0


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
    parser.set_defaults(run=run_training, eval_only=True, resume=False)


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
