"""What a published checkpoint calls its tensors, in terms of this project's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

Weights = Mapping[str, Tensor]
"""Tensors by name, without the wrapper (``{"model": ...}``) of the file."""


@dataclass(frozen=True)
class Recipe:
    """The config that a checkpoint was made with, as far as its tensors tell.

    Attributes:
        config: a recipe of ``configs/``, such as ``unsam/whole_image_R50.yaml``.
        overrides: config keys and values on top, ``("MODEL.QUERY_DECODER.NUM_QUERIES", 100)``.
    """

    config: str
    overrides: tuple[object, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One published way to name the tensors of a model.

    The names are given in one direction, from ours to the published ones. Loading looks each of
    our tensors up under its published name; writing stores it there; so one function serves both,
    and whatever is in a file and in nobody's name is left over.

    Attributes:
        name: short, such as ``unsam_whole``.
        title: the system, for people.
        matches: whether a file's tensors are of this layout; at most one layout matches a file.
        recipe: the config of the model that the tensors are for.
        published: our name to the published names. With several, our tensor is theirs one after
            the other along the first axis. A name that several of ours share is stored once.
        aliases: published name to the published name that it repeats, None for a name that repeats
            nothing; checked to be equal on loading. On writing `computed_values` has those that
            published files must have.
        computed: regular expressions of published names whose values the model computes itself or
            does not use; ignored on loading.
        computed_values: those of `computed` and `aliases` that published files must have, from our
            tensors.
        wrapper: the entry of a published file that holds the tensors, "" for none.
        fresh: regular expressions of our names that a file of this layout does not have, and that
            keep their initial values when the config asks for them (a granularity token on top of
            plain SAM).
    """

    name: str
    title: str
    matches: Callable[[Weights], bool]
    recipe: Callable[[Weights], Recipe]
    published: Callable[[str], tuple[str, ...]]
    aliases: Callable[[str], str | None] = field(default=lambda name: None)
    computed: tuple[str, ...] = ()
    computed_values: Callable[[Weights], dict[str, Tensor]] = field(default=lambda weights: {})
    wrapper: str = "model"
    fresh: tuple[str, ...] = ()
