"""The rule by which parts of a dataset are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TypeVar

DRAW_SEED = 0
"""Of all published draws."""

Id = TypeVar("Id", int, str)


def draw(ids: Iterable[Id], count: int, seed: int = DRAW_SEED) -> list[Id]:
    """Return `count` of some ids, those first by the SHA-256 of the text ``<seed>:<id>``.

    What is drawn depends on the ids and the seed alone: not on their order, nor on a library's
    random numbers. A larger `count` adds to a smaller one.
    """

    def rank(identity: Id) -> bytes:
        return hashlib.sha256(f"{seed}:{identity}".encode()).digest()

    return sorted(set(ids), key=rank)[:count]
