"""A model as a folder, and such folders on the Hugging Face hub.

A folder holds ``config.yaml`` (the whole merged config), ``model.safetensors`` and ``README.md``
(the model card). The hub's repositories have the same three files.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from fvcore.common.config import CfgNode
from torch import nn

from unsam.checkpoint.atomic import StorageError, write_text_atomic
from unsam.checkpoint.checkpointer import save_weights
from unsam.checkpoint.download import fetch_weights
from unsam.config import config_text
from unsam.errors import CheckpointError, UnsamError

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"


def save_pretrained(
    model: nn.Module,
    cfg: CfgNode,
    folder: str | os.PathLike[str],
    *,
    metrics: Mapping[str, float] | None = None,
) -> Path:
    """Write a model as a folder that `from_pretrained` and the hub take, whole or not at all.

    Args:
        model: the model, not wrapped.
        cfg: its merged config.
        folder: must not exist, or be empty.
        metrics: scores by name, for the model card.

    Returns:
        The folder.

    Raises:
        CheckpointError: the folder has something in it.
        StorageError: the disk is full or the place not writable.
    """
    target = require_free(folder)
    config = _without_sources(cfg)
    with new_folder(target) as parts:
        write_text_atomic(parts / CONFIG_FILE, config_text(config))
        save_weights(model, parts / WEIGHTS_FILE, config_text(config))
        count = sum(parameter.numel() for parameter in model.parameters())
        write_text_atomic(parts / CARD_FILE, model_card(config, count, metrics or {}))
    return target


def push_to_hub(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Upload a folder that `save_pretrained` wrote, and return the address of the repository.

    Args:
        folder: with config, weights and card.
        repo_id: ``owner/name``; made if it is not there.
        private: of a new repository.
        token: of the hub; None takes the one of ``hf auth login``.

    Raises:
        CheckpointError: the folder is not complete, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    root = Path(folder)
    absent = [
        name for name in (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE) if not (root / name).is_file()
    ]
    if absent:
        raise CheckpointError(
            f"{root}: no model folder, without {', '.join(absent)}; write one with save_pretrained"
        )
    api = HfApi(token=token)
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=str(root), commit_message="Add the model")
    # No network is an error of the HTTP library that the hub's client happens to use.
    except Exception as error:
        raise CheckpointError(
            f"{repo_id}: cannot be pushed to the hub ({' '.join(str(error).split())[:200]}); "
            "check the name and log in with hf auth login"
        ) from None
    return str(address)


def fetch_repository(repo_id: str, cache_dir: str | None = None) -> Path:
    """Return the local folder of a model on the hub, or its weights file where it has no config.

    Args:
        repo_id: ``owner/name``.
        cache_dir: of the hub; None for its own.

    Raises:
        CheckpointError: there is no such repository, or it cannot be reached and is not cached.
    """
    weights = fetch_weights(f"hf://{repo_id}/{WEIGHTS_FILE}", cache_dir=cache_dir)
    try:
        return fetch_weights(f"hf://{repo_id}/{CONFIG_FILE}", cache_dir=cache_dir).parent
    except CheckpointError:
        # A model of transformers: its own layout tells what it is.
        return weights


def is_repository(name: str) -> bool:
    """Whether `name` has the form of a repository of the hub, ``owner/name``."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def model_card(cfg: CfgNode, num_parameters: int, metrics: Mapping[str, float]) -> str:
    """Return the text of a model card.

    Args:
        cfg: the merged config.
        num_parameters: of the model.
        metrics: scores by name; may be empty.
    """
    model = cfg.MODEL
    rows = [
        ("architecture", model.META_ARCHITECTURE),
        ("image encoder", _encoder(cfg)),
        ("parameters", f"{num_parameters:,}"),
        ("answers at a granularity", "yes" if _is_granular(cfg) else "no"),
    ]
    lines = [
        "---",
        "library_name: unsam",
        "pipeline_tag: image-segmentation",
        "# Name the licence of the weights here before you publish them.",
        "# license: ",
        "---",
        f"# {model.META_ARCHITECTURE}, {_encoder(cfg)}",
        "",
        *_table(("what", ""), rows),
        "",
        "```python",
        "from unsam import Segmenter",
        "",
        'segmenter = Segmenter.from_pretrained("THIS FOLDER OR owner/name")',
        "masks = segmenter.generate(photo)  # uint8 [H, W, 3], RGB",
        "```",
    ]
    if metrics:
        lines += ["", *_table(("metric", "value"), [(k, f"{v:.4g}") for k, v in metrics.items()])]
    return "\n".join([*lines, ""])


def require_free(path: str | os.PathLike[str]) -> Path:
    """Return a path at which something new may be written.

    Raises:
        CheckpointError: something is there already.
    """
    target = Path(path)
    if target.is_dir() and not any(target.iterdir()):
        return target
    if target.exists():
        raise CheckpointError(f"{target}: is there already; name another place or remove it")
    return target


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Make a folder beside `target` that takes its place if all goes well, and else is removed.

    Raises:
        StorageError: the operating system refused, as one line.
    """
    parts: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        parts = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield parts
        # Temporary folders are private; this one is a folder like any other.
        parts.chmod(0o755)
        os.replace(parts, target)
    except OSError as error:
        if isinstance(error, UnsamError):
            raise
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        if parts is not None:
            shutil.rmtree(parts, ignore_errors=True)


def _without_sources(cfg: CfgNode) -> CfgNode:
    """Return the config without the weights that the model once started from."""
    config = cfg.clone()
    config.defrost()
    config.MODEL.WEIGHTS = ""
    config.MODEL.BACKBONE.WEIGHTS = ""
    config.freeze()
    return config


def _encoder(cfg: CfgNode) -> str:
    model = cfg.MODEL
    known = {
        "Sam": f"SAM ViT {model.SAM.SIZE}",
        "Sam2": f"SAM {model.SAM2.VERSION} Hiera {model.SAM2.SIZE}",
        "GranularSam": model.IMAGE_ENCODER.NAME,
    }
    sized = f" {model.BACKBONE.SIZE}" if model.BACKBONE.NAME != "ResNet50" else ""
    return known.get(model.META_ARCHITECTURE, f"{model.BACKBONE.NAME}{sized}")


def _is_granular(cfg: CfgNode) -> bool:
    model = cfg.MODEL
    return (
        model.META_ARCHITECTURE == "GranularSam"
        or (model.META_ARCHITECTURE in ("Sam", "Sam2") and model.GRANULARITY.ENABLED)
        or (model.META_ARCHITECTURE == "Mask2Former" and model.QUERY_DECODER.GRANULARITY != "none")
    )


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> list[str]:
    return [f"| {a} | {b} |" for a, b in (head, ("---", "---"), *rows)]
