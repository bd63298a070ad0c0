"""Configuration: defaults, YAML with ``_BASE_`` inheritance, overrides, registries."""

from unsam.config.defaults import get_cfg
from unsam.config.loading import (
    apply_overrides,
    configs_root,
    find_config,
    list_configs,
    load_config,
    save_config,
)
from unsam.config.registry import Registry, nearest

__all__ = [
    "Registry",
    "apply_overrides",
    "configs_root",
    "find_config",
    "get_cfg",
    "list_configs",
    "load_config",
    "nearest",
    "save_config",
]
