"""A page about a folder of pseudo masks: each photo from coarse to fine, its tree, the counts."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import IO, Any

import numpy as np

from unsam.checkpoint.atomic import atomic_writer
from unsam.errors import DataError
from unsam.structures import MaskSet
from unsam.visualization.charts import bar_chart
from unsam.visualization.hierarchy_strip import strip_svg
from unsam.visualization.levels import (
    Level,
    draw_levels,
    fit_photo,
    tree_colours,
    tree_depths,
)
from unsam.visualization.overlay import encode_image
from unsam.visualization.pseudo_mask_folder import (
    BROKEN_INPUT,
    NUM_BINS,
    PhotoEntry,
    PseudoMaskFolder,
    SetCounts,
    one_line,
    open_folder,
)

PAPER_MASKS = {"UnSAMv2 paper": 112.0, "UnSAM paper": 448.0}
"""Masks per photo on average, as the UnSAMv2 paper (arXiv 2511.13714) states for both."""

PAPER_GRANULARITY = (59.8, 23.4, 7.8, 3.1, 2.2, 1.6, 1.0, 0.69, 0.40)
"""Per cent of masks per 0.1 of granularity, from 0.1 (UnSAMv2, figure 4)."""

_PICTURE_SIDE, _MOST_ENLARGED = 640, 4
_MAX_PROBLEMS = 200
_STYLES = ("report.css", "gallery.css")


def write_gallery(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    image_root: str | os.PathLike[str] | None = None,
    max_photos: int = 50,
) -> Path:
    """Write one HTML file that shows the pseudo masks of a folder; it needs no other file.

    Counts are over all photos of the folder; pictures are of `max_photos` spread evenly over it.
    One photo is in memory at a time. Photos that cannot be shown are listed at the end of the page.

    Args:
        folder: as `unsam pseudo-masks` wrote it, or SA-1B style JSONs.
        output: the page; by default ``gallery.html`` in `folder`.
        image_root: folder of the photos, when they are no longer where the manifest says.
        max_photos: most photos to show.

    Returns:
        The path of the page.

    Raises:
        DataError: no such folder, no masks in it, none of its photos can be shown, or `max_photos`
            below 1; then no page is written.
        StorageError: the page cannot be written.
    """
    if max_photos < 1:
        raise DataError(f"max_photos must be 1 or more, got {max_photos}")
    source = open_folder(folder, image_root)
    target = Path(output) if output is not None else source.path / "gallery.html"
    counts, problems = _count(source)
    with atomic_writer(target, "w") as page:
        page.write(_head(source, counts))
        shown = 0
        for entry in _spread(source.entries, max_photos):
            if entry.name in problems:
                continue
            try:
                photo, masks = entry.read()
                card = _card(shown + 1, entry.name, photo, masks)
            except BROKEN_INPUT as error:
                problems[entry.name] = one_line(error)
                continue
            page.write(card)
            shown += 1
            if shown == max_photos:
                break
        if not shown:
            raise DataError(_nothing_to_show(source, problems))
        _write_end(page, source, shown, problems)
    return target


def _count(source: PseudoMaskFolder) -> tuple[SetCounts, dict[str, str]]:
    """Count the masks of all photos; return what could not be read beside it."""
    counts, problems = SetCounts(), {}
    for entry in source.entries:
        try:
            counts.add(entry.read_record())
        except BROKEN_INPUT as error:
            problems[entry.name] = one_line(error)
    return counts, problems


def _spread(entries: list[PhotoEntry], count: int) -> Iterator[PhotoEntry]:
    """Yield `count` entries spread evenly, then the others, for where some cannot be shown."""
    first = {place * len(entries) // count for place in range(min(count, len(entries)))}
    if len(entries) <= count:
        first = set(range(len(entries)))
    yield from (entries[place] for place in sorted(first))
    yield from (entry for place, entry in enumerate(entries) if place not in first)


def _nothing_to_show(source: PseudoMaskFolder, problems: dict[str, str]) -> str:
    listed = source.failures | problems
    name, reason = next(iter(listed.items()))
    return f"{source.path}: none of the {len(listed)} photos can be shown (first: {name}: {reason})"


# --------------------------------------------------------------------------------- the whole set
def _head(source: PseudoMaskFolder, counts: SetCounts) -> str:
    title = _safe(f"Pseudo masks: {source.path.name}")
    here = Path(__file__)
    style = "".join(here.with_name(name).read_text(encoding="utf-8") for name in _STYLES)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n<h1>{title}</h1>\n<p class="lead">{_lead(source)}</p>\n</header>\n'
        f"{_tiles(source, counts)}{_charts(source, counts)}<h2>Photos</h2>\n"
        '<p class="key">Each photo, then its masks by granularity, from the coarsest to the '
        "finest. What no mask of a level covers is grey. Select a picture to enlarge it.</p>\n"
    )


def _lead(source: PseudoMaskFolder) -> str:
    section = source.made_by.get("config", {})
    node = section.get("PSEUDO_MASKS", {}) if isinstance(section, dict) else {}
    named = [("hierarchy", node.get("HIERARCHY"))] if isinstance(node, dict) else []
    for key in ("FEATURES", "DIVIDE", "REFINE"):
        inner = node.get(key) if isinstance(node, dict) else None
        if isinstance(inner, dict):
            named.append((key.lower(), inner.get("NAME")))
    words = [f"{name}: {_safe(str(value))}" for name, value in named if value is not None]
    return ", ".join(words) or "Masks that were found without any label."


def _tiles(source: PseudoMaskFolder, counts: SetCounts) -> str:
    masks, depths = counts.masks or [0], counts.depths or [0]
    tiles = [
        (f"{len(counts.masks):,}", _plural(len(counts.masks), "photo"), ""),
        (f"{sum(masks):,}", _plural(sum(masks), "mask"), _sources(counts.sources)),
        (
            f"{np.mean(masks):,.0f}",
            "masks per photo",
            f"from {min(masks):,} to {max(masks):,}",
        ),
        (f"{np.mean(depths):.1f}", "levels per photo", f"up to {max(depths)}"),
        (f"{counts.roots / len(masks):.1f}", "roots per photo", ""),
    ]
    if source.failures:
        tiles.append((f"{len(source.failures):,}", "failed", "listed at the end"))
    cells = "".join(
        f"<div><dt>{label}</dt><dd>{value}</dd>{f'<dd>{note}</dd>' if note else ''}</div>"
        for value, label, note in tiles
    )
    return f'<dl class="tiles">{cells}</dl>\n'


def _safe(text: str) -> str:
    """Return text for HTML; bytes of a file name that are no UTF-8 become question marks."""
    return escape(text.encode("utf-8", "replace").decode("utf-8"))


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _sources(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(
        f"{_safe(name)} {100 * count / total:.3g} %" for name, count in sorted(counts.items())
    )


def _charts(source: PseudoMaskFolder, counts: SetCounts) -> str:
    masks = counts.masks or [0]
    per_photo = bar_chart(
        "Masks per photo, mean",
        [""],
        {"this folder": [float(np.mean(masks))]} | {name: [n] for name, n in PAPER_MASKS.items()},
        ranges={"this folder": [(min(masks), max(masks))]},
    )
    share = 100.0 * counts.bins / max(1, counts.bins.sum())
    granularity = bar_chart(
        "Masks by granularity, per cent",
        [f"{0.1 * (place + 1):.1f} to {0.1 * (place + 2):.1f}" for place in range(NUM_BINS)],
        {"this folder": share.tolist(), "UnSAMv2 paper": list(PAPER_GRANULARITY)},
        unit=" %",
    )
    return (
        f'<div class="charts">\n<div>{per_photo}\n<p class="key">The thin line spans the photos of '
        f"this folder: {min(masks):,} to {max(masks):,} masks.</p>\n{_recipe(source)}</div>\n"
        f'<div>{granularity}\n<p class="key">{int(counts.bins.sum()):,} masks; 0.1 is the finest '
        "part, 1 the whole.</p></div>\n</div>\n"
    )


def _recipe(source: PseudoMaskFolder) -> str:
    if not source.made_by:
        return ""
    text = _safe(json.dumps(source.made_by, indent=2))
    return f"<details><summary>How they were made</summary><pre>{text}</pre></details>\n"


# -------------------------------------------------------------------------------------- one photo
def _card(number: int, name: str, photo: np.ndarray, masks: MaskSet) -> str:
    """Return the section about one photo."""
    small = fit_photo(photo, min(_PICTURE_SIDE, _MOST_ENLARGED * max(photo.shape)))
    palette = tree_colours(masks)
    levels = draw_levels(small, masks, palette)
    safe = _safe(name)
    shape = "portrait" if photo.shape[0] > photo.shape[1] else "landscape"
    figures = [_figure(number, 0, len(levels), small, "Photo", f"{safe}, the photo", "")]
    figures += [
        _figure(number, place, len(levels), level.image, *_captions(safe, level))
        for place, level in enumerate(levels, start=1)
    ]
    strip = strip_svg(masks, palette, "Tree of the masks of this photo")
    caption = (
        "Tree of masks: parts below their wholes, width by area (where parts overlap, "
        "narrowed to fit), colours as above"
    )
    if not len(masks):
        strip, caption = "", "No masks were found in this photo."
    return (
        f'<section class="photo" id="photo-{number}">\n<h3><a href="#photo-{number}">{safe}</a>'
        f"</h3>\n{_facts(photo, masks)}"
        f'<div class="panels {shape}">\n{"".join(figures)}</div>\n'
        f'<figure class="tree">{strip}<figcaption>{caption}</figcaption></figure>\n</section>\n'
    )


def _captions(name: str, level: Level) -> tuple[str, str, str]:
    return level.span, f"{name}, masks of granularity {level.span}", level.count


def _figure(
    number: int, place: int, last: int, image: np.ndarray, title: str, alt: str, note: str
) -> str:
    """Return one picture, which its own address shows at full size; texts are escaped already."""
    data = base64.b64encode(encode_image(image, "WEBP")).decode("ascii")
    here, height, width = f"p{number}-{place}", *image.shape[:2]
    steps = [
        f'<a href="#p{number}-{place - 1}">Coarser</a>' * (place > 0),
        f'<a href="#photo-{number}">Close</a>',
        f'<a href="#p{number}-{place + 1}">Finer</a>' * (place < last),
    ]
    return (
        f'<figure id="{here}"><a class="open" href="#{here}"><img alt="{alt}" width="{width}" '
        f'height="{height}" loading="lazy" src="data:image/webp;base64,{data}"></a>'
        f"<figcaption><b>{title}</b> <span>{note}</span></figcaption>"
        f'<nav aria-label="Enlarged picture">{"".join(steps)}</nav></figure>\n'
    )


def _facts(photo: np.ndarray, masks: MaskSet) -> str:
    depth = tree_depths(masks.parent)
    names, counts = np.unique(masks.source, return_counts=True)
    roots, levels = int((masks.parent < 0).sum()), int(depth.max()) + 1 if depth.size else 0
    facts = [
        (_plural(len(masks), "mask"), len(masks)),
        (_plural(roots, "root"), roots),
        (_plural(levels, "level"), levels),
        *((f"by {name}", int(count)) for name, count in zip(names, counts, strict=True)),
        ("pixels", f"{photo.shape[1]} × {photo.shape[0]}"),
    ]
    items = "".join(f"<li><b>{value}</b> {_safe(str(label))}</li>" for label, value in facts)
    return f'<ul class="facts">{items}</ul>\n'


# ---------------------------------------------------------------------------------------- the end
def _write_end(
    page: IO[Any], source: PseudoMaskFolder, shown: int, problems: dict[str, str]
) -> None:
    hidden = len(source.entries) - len(problems) - shown
    if hidden:
        page.write(
            f'<p class="key">{hidden:,} more photos are counted above and not shown here; '
            "<code>--max-photos</code> shows more.</p>\n"
        )
    page.write(_problem_table("Photos that the run could not use", source.failures))
    page.write(_problem_table("Photos that this page could not show", problems))
    page.write("</main>\n</body>\n</html>\n")


def _problem_table(title: str, problems: dict[str, str]) -> str:
    if not problems:
        return ""
    rows = "".join(
        f"<tr><td>{_safe(name)}</td><td>{_safe(reason)}</td></tr>\n"
        for name, reason in sorted(problems.items())[:_MAX_PROBLEMS]
    )
    more = len(problems) - _MAX_PROBLEMS
    note = f'<p class="key">and {more:,} more</p>\n' if more > 0 else ""
    return (
        f'<h2>{title}: {len(problems):,}</h2>\n<table class="problems"><thead><tr><th>Photo</th>'
        f"<th>Reason</th></tr></thead><tbody>\n{rows}</tbody></table>\n{note}"
    )
