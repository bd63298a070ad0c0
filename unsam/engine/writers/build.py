"""Writers by name, as ``LOGGING.WRITERS`` lists them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml
from fvcore.common.config import CfgNode

from unsam.config import config_text, nearest
from unsam.engine.writers.jsonl import JsonlWriter
from unsam.engine.writers.progress import ProgressWriter
from unsam.engine.writers.tensorboard import TensorboardWriter
from unsam.engine.writers.wandb import MODES, WandbWriter
from unsam.engine.writers.writer import MetricsWriter
from unsam.errors import ConfigError

TENSORBOARD_FOLDER = "tensorboard"
# Writers that need a package of the same name, of the extra [log].
_EXTRAS = ("tensorboard", "wandb")

MakeWriter = Callable[[int], MetricsWriter]
"""Opens a writer, given the iteration that the run starts from."""


def writer_makers(cfg: CfgNode, metrics_file: Path) -> dict[str, MakeWriter]:
    """Return what opens the writers of a config, by name; the one of ``metrics.jsonl`` always.

    Args:
        cfg: reads ``LOGGING`` and ``OUTPUT_DIR``.
        metrics_file: where the lines of JSON go.

    Raises:
        ConfigError: an unknown name or mode, or a package that is not installed.
    """
    output, node = Path(cfg.OUTPUT_DIR), cfg.LOGGING
    if node.WANDB_MODE not in MODES:
        raise ConfigError(f"LOGGING.WANDB_MODE is one of {', '.join(MODES)}, got {node.WANDB_MODE}")
    known: dict[str, MakeWriter] = {
        "jsonl": partial(JsonlWriter, metrics_file),
        "progress": lambda iteration: ProgressWriter(),
        "tensorboard": partial(TensorboardWriter, output / TENSORBOARD_FOLDER),
        "wandb": partial(
            WandbWriter,
            output,
            mode=node.WANDB_MODE,
            project=node.WANDB_PROJECT,
            name=node.RUN_NAME,
            config=yaml.safe_load(config_text(cfg)),
        ),
    }
    for name in node.WRITERS:
        if name not in known:
            raise ConfigError(f"LOGGING.WRITERS: no writer '{name}'; {nearest(name, known)}")
        if name in _EXTRAS and not _is_installed(name):
            raise ConfigError(
                f'LOGGING.WRITERS: the package {name} is not installed; pip install "unsam[log]"'
            )
    return {name: known[name] for name in ("jsonl", *node.WRITERS)}


def _is_installed(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    # A folder of that name, such as wandb leaves behind, is found too, but has no code.
    return spec is not None and spec.origin is not None
