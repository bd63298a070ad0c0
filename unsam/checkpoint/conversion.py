"""Published weights to this project's names and back, every tensor accounted for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unsam.checkpoint.layouts import LAYOUTS, OTHER_USES
from unsam.checkpoint.layouts.base import Layout, Recipe, Weights
from unsam.errors import CheckpointError, counted

_JOIN = " + "


@dataclass(frozen=True)
class Report:
    """What became of every tensor of a published file, and of every tensor of the model.

    Attributes:
        layout: of the file.
        recipe: the config that the file was made with.
        taken: ``(published name, our name)`` of each tensor of the model that the file has;
            several published names are joined by " + ".
        repeats: published names that repeat another tensor of the file.
        computed: published names of what the model computes itself or does not use.
        fresh: our names that such files do not have, and that keep their initial values.
        missing: published names (ours where there is none) that the file lacks.
        left_over: published names that nothing in the model takes.
        other_shape: one clause for each tensor of another shape than the model's.
        unequal: repeats whose values differ from the tensor that they should repeat.
        not_finite: published names of tensors with NaN or infinity.
    """

    layout: Layout
    recipe: Recipe
    taken: tuple[tuple[str, str], ...]
    repeats: tuple[str, ...]
    computed: tuple[str, ...]
    fresh: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    other_shape: tuple[str, ...]
    unequal: tuple[str, ...]
    not_finite: tuple[str, ...]

    @property
    def num_matched(self) -> int:
        """How many tensors of the file the model takes."""
        return len({name for theirs, _ in self.taken for name in theirs.split(_JOIN)})

    @property
    def is_complete(self) -> bool:
        """Whether every tensor of the file and of the model found its place."""
        return not (self.missing or self.left_over or self.other_shape or self.unequal)

    def table(self) -> str:
        """Return the counts, the renamed names in groups, and each tensor without a place."""
        renamed = [(theirs, ours) for theirs, ours in self.taken if theirs != ours]
        counts = (
            ("matched", self.num_matched),
            ("renamed", len({theirs for theirs, _ in renamed})),
            ("repeats", len(self.repeats)),
            ("computed", len(self.computed)),
            ("fresh", len(self.fresh)),
            ("missing", len(self.missing)),
            ("left over", len(self.left_over)),
            ("of another shape", len(self.other_shape)),
            ("unequal repeats", len(self.unequal)),
        )
        lines = [f"{self.layout.title} ({self.layout.name}), made with {recipe_text(self.recipe)}"]
        lines += [f"  {what:<18}{count:>6}" for what, count in counts]
        lines += _grouped("renamed", (_renaming(theirs, ours) for theirs, ours in renamed))
        lines += _grouped("fresh", self.fresh)
        lists = (
            ("missing", self.missing),
            ("left over", self.left_over),
            ("of another shape", self.other_shape),
            ("unequal repeats", self.unequal),
            ("NaN or infinity", self.not_finite),
        )
        for what, items in lists:
            lines += [f"{what}:", *(f"  {item}" for item in items)] if items else []
        return "\n".join(lines)


def detect_layout(weights: Weights, name: str) -> Layout:
    """Return the published layout that a file's tensors are in.

    Args:
        weights: the tensors of the file.
        name: of the file, for the error.

    Raises:
        CheckpointError: none of the family; the text says what the file is for if it is known,
            else shows its first names.
    """
    for layout in LAYOUTS:
        if layout.matches(weights):
            return layout
    for use in OTHER_USES:
        if use.matches(weights):
            raise CheckpointError(f"{name}: {use.title}, no whole model; {use.advice}")
    titles = ", ".join(dict.fromkeys(layout.title for layout in LAYOUTS))
    raise CheckpointError(
        f"{name}: weights of an unknown model ({len(weights)} tensors: "
        f"{', '.join(list(weights)[:3])}, ...); known are {titles}"
    )


def to_native(
    weights: Weights, layout: Layout, expected: Mapping[str, torch.Size]
) -> tuple[dict[str, Tensor], Report]:
    """Give a published file's tensors this project's names.

    Args:
        weights: the tensors of the file.
        layout: of the file.
        expected: the shapes of the model's tensors by name.

    Returns:
        Those tensors of the model that the file has in the right shape, as they are in the file
        (joined where the file has several for one), and what became of each.
    """
    native: dict[str, Tensor] = {}
    used: set[str] = set()
    taken, missing, fresh, other_shape = [], [], [], []
    for ours, shape in expected.items():
        theirs = layout.published(ours)
        absent = [name for name in theirs if name not in weights]
        if absent or not theirs:
            if len(absent) == len(theirs) and _matches_any(ours, layout.fresh):
                fresh.append(ours)
            else:
                missing.extend(absent or [ours])
            continue
        used.update(theirs)
        parts = [weights[name] for name in theirs]
        found = parts[0].shape if len(parts) == 1 else _joined_shape(parts)
        if found != shape:
            other_shape.append(
                f"{_JOIN.join(theirs)} {_text(found)} in the file, {_text(shape)} in the model"
            )
            continue
        native[ours] = parts[0] if len(parts) == 1 else torch.cat(parts)
        taken.append((_JOIN.join(theirs), ours))
    rest = _rest(weights, layout, used)
    report = Report(
        layout=layout,
        recipe=layout.recipe(weights),
        taken=tuple(taken),
        fresh=tuple(fresh),
        missing=tuple(dict.fromkeys(missing)),
        other_shape=tuple(other_shape),
        not_finite=tuple(name for name in sorted(used) if not _is_finite(weights[name])),
        **rest,
    )
    return native, report


def to_published(native: Weights, layout: Layout, name: str) -> dict[str, Tensor]:
    """Give this project's tensors their published names, without the file's wrapper.

    Args:
        native: all tensors of the model.
        layout: the one to write.
        name: of the model, for the error.

    Raises:
        CheckpointError: the layout has no name for some tensor, or one name for several that
            differ.
    """
    result: dict[str, Tensor] = {}
    nameless, differing = [], []
    for ours, tensor in native.items():
        theirs = layout.published(ours)
        if not theirs:
            nameless.append(ours)
            continue
        # Parts of a tensor would drag the whole of it into the file.
        parts = (
            tensor.split(len(tensor) // len(theirs)) if len(theirs) > 1 else (tensor.contiguous(),)
        )
        for published, part in zip(theirs, parts, strict=True):
            if published in result and not torch.equal(result[published], part):
                differing.append(published)
            result[published] = part.clone() if len(theirs) > 1 else part
    if nameless or differing:
        kinds = ((nameless, "without a name in it"), (differing, "that it holds once but differ"))
        faults = [counted(names, what) for names, what in kinds if names]
        raise CheckpointError(
            f"{name}: the layout {layout.name} cannot hold this model: {', '.join(faults)}; "
            "convert to native"
        )
    return result | layout.computed_values(native)


def require_complete(report: Report, name: str, *, allow_partial: bool = False) -> None:
    """Raise unless a conversion left nothing out.

    Args:
        report: of `to_native`.
        name: of the file, for the error.
        allow_partial: let tensors be missing, left over or of another shape.

    Raises:
        CheckpointError: with the counts and the first names of what has no place, and the config
            that the file was made with; or with the tensors that hold NaN or infinity, always.
    """
    if report.not_finite:
        raise CheckpointError(
            f"{name}: {counted(report.not_finite, 'with NaN or infinity')}; "
            "the weights are damaged, use another file"
        )
    if report.is_complete or allow_partial:
        return
    faults = (
        counted(report.missing, "missing"),
        counted(report.left_over, "left over"),
        counted(report.other_shape, "of another shape"),
        *((counted(report.unequal, "unequal repeats"),) if report.unequal else ()),
    )
    part = (
        f", or take the {report.num_matched} that fit with convert-checkpoint --allow-partial"
        if report.num_matched
        else ""
    )
    raise CheckpointError(
        f"{name}: weights of {report.layout.title} do not fit the model: {', '.join(faults)}; "
        f"they were made with {recipe_text(report.recipe)}: use that config{part}"
    )


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as it follows ``--config-file`` on the command line."""
    return " ".join([recipe.config, *map(str, recipe.overrides)])


def _rest(weights: Weights, layout: Layout, used: set[str]) -> dict[str, tuple[str, ...]]:
    """Sort the published names that no tensor of the model took."""
    kinds: dict[str, list[str]] = {"repeats": [], "computed": [], "left_over": [], "unequal": []}
    for name, tensor in weights.items():
        original = layout.aliases(name)
        if name in used:
            continue
        if original is not None and original in used:
            same = torch.equal(tensor, weights[original])
            kinds["repeats" if same else "unequal"].append(name)
        elif _matches_any(name, layout.computed):
            kinds["computed"].append(name)
        else:
            kinds["left_over"].append(name)
    return {kind: tuple(names) for kind, names in kinds.items()}


def _joined_shape(parts: list[Tensor]) -> torch.Size:
    """Return the shape of parts one after the other; of the first where they do not fit."""
    if any(part.shape[1:] != parts[0].shape[1:] or part.ndim == 0 for part in parts):
        return parts[0].shape
    return torch.Size((sum(len(part) for part in parts), *parts[0].shape[1:]))


def _is_finite(tensor: Tensor) -> bool:
    # A sum takes one pass and no memory; it can be infinite where no value is.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _matches_any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _text(shape: torch.Size) -> str:
    return str(list(shape))


def _renaming(theirs: str, ours: str) -> str:
    """Return both names without the parts at their ends that are alike."""
    first, *more = theirs.split(_JOIN)
    left, right = first.split("."), ours.split(".")
    while len(left) > 1 and len(right) > 1 and left[-1] == right[-1]:
        left, right = left[:-1], right[:-1]
    others = ", ..." if more else ""
    return f"{'.'.join(left)}{others} -> {'.'.join(right)}"


def _grouped(what: str, lines: Iterable[str]) -> list[str]:
    """Count lines that are equal but for their numbers."""
    groups = Counter(re.sub(r"\d+", "*", line) for line in lines)
    return [f"{what}:", *(f"{count:>6} x {line}" for line, count in groups.items())] * bool(groups)
