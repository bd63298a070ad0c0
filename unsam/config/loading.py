"""Reading and writing recipes: YAML, ``_BASE_``, ``KEY VALUE`` overrides, one-line errors."""

from __future__ import annotations

import ast
import contextlib
import copy
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from unsam.checkpoint.atomic import write_text_atomic
from unsam.config.defaults import get_cfg
from unsam.config.registry import nearest
from unsam.errors import ConfigError

_BASE_KEY = "_BASE_"


def configs_root() -> Path:
    """Return the folder of the recipes: inside the installed package, else the repository's."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_configs"
    return installed if installed.is_dir() else package.parent / "configs"


def list_configs() -> list[str]:
    """Return the names of all packaged recipes, such as ``quickstart/tiny.yaml``."""
    root = configs_root()
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.yaml"))


def find_config(name: str | os.PathLike[str]) -> Path:
    """Return the file of a recipe: a path as it is, else a name under the packaged recipes.

    ``configs/quickstart/tiny.yaml``, ``quickstart/tiny.yaml`` and ``quickstart/tiny`` all work
    from any folder.

    Raises:
        ConfigError: there is no such file; the text names the nearest recipe.
    """
    given = Path(name)
    if given.is_file():
        return given
    relative = given.as_posix().removeprefix("configs/")
    for candidate in (relative, f"{relative}.yaml"):
        path = configs_root() / candidate
        if path.is_file():
            return path
    raise ConfigError(f"{name}: no such config file; {nearest(relative, list_configs())}")


def load_config(
    config_file: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()
) -> CfgNode:
    """Return the defaults, changed by a recipe and its ``_BASE_`` chain, then by overrides.

    Args:
        config_file: a path or the name of a packaged recipe; None for the defaults alone.
        overrides: ``["SOLVER.MAX_ITER", "100", ...]``, keys and values in turn.

    Raises:
        ConfigError: unknown key, wrong type, missing file or ``_BASE_``, unreadable YAML; one line
            with file, key and the nearest known key.
    """
    cfg = get_cfg()
    if config_file is not None:
        for path, values in reversed(_inheritance_chain(find_config(config_file))):
            _merge(cfg, values, str(path), ())
    apply_overrides(cfg, overrides)
    cfg.freeze()
    return cfg


def load_preset(name: str, overrides: Sequence[str] = (), folder: str = "pseudo_masks") -> CfgNode:
    """Return the config of a recipe of one folder of ``configs/`` by its bare name.

    Raises:
        ConfigError: no such recipe, or wrong overrides (see `load_config`).
    """
    prefix, suffix = f"{folder}/", ".yaml"
    known = [
        recipe.removeprefix(prefix).removesuffix(suffix)
        for recipe in list_configs()
        if recipe.startswith(prefix)
    ]
    if name not in known:
        raise ConfigError(f"no preset '{name}'; there are {', '.join(known)}")
    return load_config(f"{prefix}{name}{suffix}", overrides)


def apply_overrides(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Set ``KEY VALUE`` pairs in `cfg`, in place.

    Raises:
        ConfigError: an odd number of words, an unknown key or a value of another type.
    """
    if len(overrides) % 2:
        raise ConfigError(
            f"overrides come as KEY VALUE pairs; '{overrides[-1]}' has no partner "
            f"(got {len(overrides)} words)"
        )
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        *parents, last = key.split(".")
        tree: dict[str, Any] = {last: _Literal(text)}
        for name in reversed(parents):
            tree = {name: tree}
        _merge(cfg, tree, "command line", ())


def save_config(cfg: CfgNode, path: str | os.PathLike[str]) -> None:
    """Write the whole config as YAML, atomically; `load_config` of that file gives an equal one."""
    write_text_atomic(path, config_text(cfg))


def config_text(cfg: CfgNode) -> str:
    """Return the whole config as YAML; `load_config_text` gives an equal one."""
    return yaml.safe_dump(_to_plain(cfg), sort_keys=False, default_flow_style=None)


def load_config_text(text: str, source: str) -> CfgNode:
    """Return the defaults, changed by YAML text without ``_BASE_``, frozen.

    Args:
        text: as of `config_text`.
        source: where the text comes from, for errors.

    Raises:
        ConfigError: unreadable YAML, unknown key or wrong type.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: its config is not readable as YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: its config has no keys and values")
    cfg = get_cfg()
    _merge(cfg, values, source, ())
    cfg.freeze()
    return cfg


class _Literal(str):
    """A value from the command line, whose type is decided by the key that it is for."""


def _inheritance_chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return ``(file, its own keys)`` from the recipe to its furthest base."""
    chain: list[tuple[Path, dict[str, Any]]] = []
    seen: list[Path] = []
    current: Path | None = path
    while current is not None:
        if current.resolve() in seen:
            raise ConfigError(f"{path}: {_BASE_KEY} goes round in a circle at {current}")
        seen.append(current.resolve())
        values = _read_yaml(current)
        base = values.pop(_BASE_KEY, None)
        chain.append((current, values))
        if base is None:
            break
        following = (current.parent / str(base)).expanduser()
        if not following.is_file():
            raise ConfigError(f"{current}: {_BASE_KEY}: {base}: no such file")
        current = following
    return chain


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values, got a {type(values).__name__}")
    return values


def _merge(node: CfgNode, values: dict[str, Any], source: str, prefix: tuple[str, ...]) -> None:
    for key, value in values.items():
        full = ".".join((*prefix, str(key)))
        if key not in node:
            known = [".".join((*prefix, name)) for name in node]
            raise ConfigError(f"{source}: unknown key {full}; {nearest(full, known)}")
        old = node[key]
        if isinstance(old, CfgNode):
            if not isinstance(value, dict):
                got = "a value" if isinstance(value, _Literal) else _type_name(value)
                raise ConfigError(f"{source}: {full} is a section of keys, got {got}")
            _merge(old, value, source, (*prefix, str(key)))
        else:
            node[key] = _coerce(value, old, full, source)


def _coerce(value: Any, old: Any, key: str, source: str) -> Any:
    """Return `value` in the type of `old`; ints become floats and lists tuples, inner ones too."""
    if isinstance(value, _Literal):
        value = _decode(value, old)
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(tuple(item) if isinstance(item, list) else item for item in value)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, float) and isinstance(value, str):
        # YAML 1.1 reads 1e-4 (no dot) as text.
        with contextlib.suppress(ValueError):
            value = float(value)
    if type(value) is not type(old):
        raise ConfigError(
            f"{source}: {key}: expected {_type_name(old)} (as in {old!r}), "
            f"got {_type_name(value)}: {value!r}"
        )
    if isinstance(old, tuple) and old and all(isinstance(item, float) for item in old):
        if not all(isinstance(item, (int, float)) for item in value):
            raise ConfigError(f"{source}: {key}: expected numbers (as in {old!r}), got {value!r}")
        value = tuple(float(item) for item in value)
    return value


def _decode(text: str, old: Any) -> Any:
    plain = str(text)
    if isinstance(old, str):
        return plain
    if isinstance(old, bool) and plain.lower() in ("true", "false"):
        return plain.lower() == "true"
    try:
        value = ast.literal_eval(plain)
    except (ValueError, SyntaxError):
        value = plain
    if isinstance(old, tuple) and not isinstance(value, (tuple, list)):
        # One word for a list key is a list of one: DATASETS.TRAIN my_photos.
        return (value,)
    return value


def _type_name(value: Any) -> str:
    return "a list" if isinstance(value, (tuple, list)) else f"{type(value).__name__}"


def _to_plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _to_plain(value) for key, value in node.items()}
    if isinstance(node, (tuple, list)):
        return [_to_plain(value) for value in node]
    return copy.copy(node)


def flatten(node: CfgNode, prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield ``("SOLVER.MAX_ITER", 100)`` for every key of `node`."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
