"""UnSAM: unsupervised, any-granularity "segment anything".

``import unsam`` is cheap: the public names are loaded on first use, so that a command that needs
no network (``unsam --help``) does not pay for importing torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "MaskSet": "unsam.structures",
    "RegionTree": "unsam.structures",
    "Segmenter": "unsam.inference",
    "get_cfg": "unsam.config",
    "load_config": "unsam.config",
}

__all__ = ["MaskSet", "RegionTree", "Segmenter", "__version__", "get_cfg", "load_config"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'unsam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
