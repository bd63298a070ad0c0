"""Models with their weights: from our files, any published file of the family, or the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unsam.checkpoint.conversion import Report, detect_layout, require_complete, to_native
from unsam.checkpoint.download import fetch_weights
from unsam.checkpoint.foreign_weights import WeightsFile, read_weights_file
from unsam.checkpoint.hub import CONFIG_FILE, WEIGHTS_FILE, fetch_repository, is_repository
from unsam.checkpoint.layouts import Layout
from unsam.checkpoint.layouts.base import Recipe
from unsam.checkpoint.model_zoo import ZOO
from unsam.config import apply_overrides, load_config, load_config_text, nearest
from unsam.errors import CheckpointError
from unsam.modeling.build import build_model
from unsam.modeling.segmentation_model import SegmentationModel

_REMOTE = ("http://", "https://", "file:")
_HUB = "hf://"
# Not any ending: sam2.1-hiera-small is the name of a repository.
_FILE_ENDINGS = (".pth", ".pt", ".pkl", ".bin", ".safetensors", ".yaml")


@dataclass(frozen=True)
class Pretrained:
    """A model with its weights.

    Attributes:
        model: in training mode, on the CPU.
        cfg: its merged config, frozen.
        report: what became of the tensors of the file.
    """

    model: SegmentationModel
    cfg: CfgNode
    report: Report


def load_pretrained(
    source: str | os.PathLike[str],
    *,
    overrides: Sequence[str] = (),
    allow_partial: bool = False,
) -> tuple[SegmentationModel, CfgNode]:
    """Build the model that a source's weights are for, and load them.

    Args:
        source: a folder of `save_pretrained`, a checkpoint or ``.safetensors`` of this program,
            any published file of the family, a name of the model zoo (``unsamv2``), a URL,
            ``hf://owner/name/file``, or ``owner/name`` of the hub.
        overrides: config keys and values in turn, as text.
        allow_partial: let tensors be missing, left over or of another shape; what the file lacks
            keeps its initial values.

    Returns:
        The model, in training mode on the CPU, and its config.

    Raises:
        CheckpointError: there is no such source, it cannot be read, or its weights do not fit;
            one line each.
        ConfigError: wrong overrides.
    """
    loaded = open_pretrained(source, overrides=overrides, allow_partial=allow_partial)
    return loaded.model, loaded.cfg


def open_pretrained(
    source: str | os.PathLike[str],
    *,
    config_file: str | None = None,
    overrides: Sequence[str] = (),
    allow_partial: bool = False,
) -> Pretrained:
    """Do as `load_pretrained`, and also tell what became of each tensor.

    Args:
        source: see `load_pretrained`.
        config_file: the config of the model; None takes the one that came with the weights, or
            for published files the recipe that they were made with.
        overrides: see `load_pretrained`.
        allow_partial: see `load_pretrained`.

    Raises:
        CheckpointError: see `load_pretrained`.
        ConfigError: wrong overrides or no such config file.
    """
    name, path = str(source), locate(source)
    if config_file is None and name in ZOO and not _is_local(source):
        config_file = ZOO[name].config
    file = _read(path)
    if config_file is None:
        layout = _layout(file, name)
        cfg = _config(file, layout, name, overrides)
        model = build_without_values(cfg)
    else:
        cfg = load_config(config_file, overrides)
        model = build_without_values(cfg)
        layout = _layout(file, name, model)
    native, report = _convert(model, file.tensors, layout)
    require_complete(report, name, allow_partial=allow_partial)
    if len(native) < len(model.state_dict()):
        # Parts that no published file has start as they do in training.
        model = build_model(cfg)
    model.load_state_dict(native, strict=False)
    return Pretrained(model, cfg, report)


def load_weights_into(
    model: nn.Module, source: str | os.PathLike[str], *, allow_partial: bool = False
) -> Report:
    """Load weights into a model that is there already, all or nothing.

    What a published file never has (the granularity of UnSAMv2 on top of plain SAM 2) keeps its
    values, so that training starts from the published model.

    Args:
        model: the model, not wrapped.
        source: see `load_pretrained`.
        allow_partial: let tensors be missing, left over or of another shape; the model's own stay.

    Returns:
        What became of the tensors.

    Raises:
        CheckpointError: see `load_pretrained`. The model is then unchanged.
    """
    file = _read(locate(source))
    native, report = _convert(model, file.tensors, _layout(file, str(source), model))
    require_complete(report, str(source), allow_partial=allow_partial)
    model.load_state_dict(native, strict=False)
    return report


def locate(source: str | os.PathLike[str]) -> Path:
    """Return the local file or folder of a source, after a download if it has to be.

    Raises:
        CheckpointError: there is no such source; the text says what was expected.
    """
    name = str(source)
    path = Path(source).expanduser()
    if _is_local(path):
        return path
    if name in ZOO:
        entry = ZOO[name]
        if entry.key:
            raise CheckpointError(f"{name}: no whole model; {entry.key} takes {entry.file}")
        if not entry.source:
            raise CheckpointError(
                f"{name}: cannot be downloaded by a program; download {entry.file} from "
                f"{entry.page} and give its path"
            )
        return fetch_weights(entry.source, entry.sha256)
    if name.startswith(_REMOTE):
        return fetch_weights(name)
    if name.startswith(_HUB):
        repository = name.removeprefix(_HUB)
        return fetch_repository(repository) if is_repository(repository) else fetch_weights(name)
    if is_repository(name) and path.suffix not in _FILE_ENDINGS:
        try:
            return fetch_repository(name)
        except CheckpointError as error:
            raise CheckpointError(
                f"{name}: no such file or folder, and of the hub {error}"
            ) from None
    raise CheckpointError(
        f"{name}: no such file or folder, and no name of the model zoo; {nearest(name, ZOO)}"
    )


def _is_local(source: str | os.PathLike[str]) -> bool:
    return Path(source).expanduser().exists()


class _NoRandomValues(TorchFunctionMode):
    """Fills tensors with the mean where constructors would draw random numbers.

    What constructors compute otherwise (tables of positions, means of pixels) stays right, which
    it would not on the "meta" device. The means end loops that draw until all values are in
    bounds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return the filled tensor of a random fill; do everything else."""
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return args[0] if args else (kwargs or {})["tensor"]
        if func is Tensor.normal_:
            return args[0].fill_(_bounds(args, kwargs, "mean", "std")[0])
        if func is Tensor.uniform_:
            return args[0].fill_(sum(_bounds(args, kwargs, "from", "to")) / 2)
        return func(*args, **(kwargs or {}))


def _bounds(args: Sequence[Any], kwargs: dict[str, Any] | None, *names: str) -> tuple[float, float]:
    """Return the two numbers of a call ``tensor.fill(0.0, 1.0)``, however they are given."""
    given = {**dict(zip(names, (0.0, 1.0), strict=True)), **dict(zip(names, args[1:]))}
    given |= {key: value for key, value in (kwargs or {}).items() if key in names}
    return given[names[0]], given[names[1]]


def build_without_values(cfg: CfgNode) -> SegmentationModel:
    """Build a model whose weights are to be loaded; nothing is drawn at random for them."""
    with _NoRandomValues():
        return build_model(cfg)


def _read(path: Path) -> WeightsFile:
    """Read a weights file, or the one in a folder together with the config beside it."""
    if not path.is_dir():
        return read_weights_file(path)
    weights, config = path / WEIGHTS_FILE, path / CONFIG_FILE
    if not weights.is_file():
        raise CheckpointError(f"{path}: no model folder, without {WEIGHTS_FILE}")
    file = read_weights_file(weights)
    if not config.is_file():
        return file
    try:
        return WeightsFile(file.tensors, config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{config}: cannot be read ({error})") from None


def _layout(file: WeightsFile, name: str, model: nn.Module | None = None) -> Layout:
    """Return the layout of a file: our own names where it has a config, or names like the model."""
    if file.config:
        return _own_layout(file.config)
    try:
        return detect_layout(file.tensors, name)
    except CheckpointError:
        own = set() if model is None else set(model.state_dict())
        if own and 2 * len(own & set(file.tensors)) > len(own):
            return _own_layout("")
        raise


def _own_layout(config: str) -> Layout:
    try:
        title = str(yaml.safe_load(config)["MODEL"]["META_ARCHITECTURE"])
    except (yaml.YAMLError, KeyError, TypeError):
        title = "an unknown architecture"
    return Layout(
        name="native",
        title=title,
        matches=lambda weights: True,
        recipe=lambda weights: Recipe("the config that they came with"),
        published=lambda name: (name,),
    )


def _config(file: WeightsFile, layout: Layout, name: str, overrides: Sequence[str]) -> CfgNode:
    """Return the config that came with a file, or else that of the recipe of its layout."""
    if not file.config:
        recipe = layout.recipe(file.tensors)
        return load_config(recipe.config, [*map(str, recipe.overrides), *overrides])
    cfg = load_config_text(file.config, name)
    cfg.defrost()
    apply_overrides(cfg, overrides)
    cfg.freeze()
    return cfg


def _convert(
    model: nn.Module, tensors: dict[str, Tensor], layout: Layout
) -> tuple[dict[str, Tensor], Report]:
    shapes: dict[str, torch.Size] = {key: value.shape for key, value in model.state_dict().items()}
    return to_native(tensors, layout, shapes)
