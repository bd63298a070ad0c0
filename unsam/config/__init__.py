"""Configuration: defaults, YAML with ``_BASE_`` inheritance, overrides, registries."""

from unsam.config.defaults import get_cfg
from unsam.config.loading import (
    apply_overrides,
    config_text,
    configs_root,
    find_config,
    list_configs,
    load_config,
    load_config_text,
    load_preset,
    save_config,
)
from unsam.config.registry import Registry, nearest

__all__ = [
    "Registry",
    "apply_overrides",
    "config_text",
    "configs_root",
    "find_config",
    "get_cfg",
    "list_configs",
    "load_config",
    "load_config_text",
    "load_preset",
    "nearest",
    "save_config",
]
