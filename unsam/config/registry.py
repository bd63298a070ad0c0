"""A registry: names in configs to the functions and classes that they select."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from fvcore.common.registry import Registry as _FvcoreRegistry

from unsam.errors import ConfigError


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a clause that names the known word nearest to `name`, or all of them if none is near.

    Example: ``nearest("Otsuu", ["Otsu", "Slic"])`` gives ``"did you mean 'Otsu'?"``.
    """
    words = sorted(known)
    folded = {word.casefold(): word for word in words}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{folded[close[0]]}'?"
    return f"known: {', '.join(words)}" if words else "none is known"


class Registry(_FvcoreRegistry):
    """fvcore's registry; an unknown name is a `ConfigError` that names the nearest known one.

    Args:
        name: of the registry, for errors.
        modules: name to the module that registers it, imported when the name is first asked for:
            a program that does not use it does not pay for the libraries it needs.
    """

    def __init__(self, name: str, modules: Mapping[str, str] | None = None) -> None:
        super().__init__(name)
        self._modules = dict(modules or {})

    def get(self, name: str) -> Any:
        """Return the object registered as `name`.

        Raises:
            ConfigError: no object of that name is registered.
        """
        known = {key for key, _ in self} | self._modules.keys()
        if name not in known:
            raise ConfigError(f"{self._name}: unknown name '{name}'; {nearest(name, known)}")
        if name not in self and name in self._modules:
            importlib.import_module(self._modules[name])
        return super().get(name)
