"""A self-contained HTML report: pictures, charts and tables in one file, no script, no network."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from unsam.checkpoint.atomic import write_text_atomic
from unsam.visualization.overlay import encode_image

_STYLE = Path(__file__).with_name("report.css")


class Report:
    """A page that is built from top to bottom and written once.

    Args:
        title: heading of the page.
        lead: one paragraph below it.
    """

    def __init__(self, title: str, lead: str) -> None:
        self.title = title
        self._parts = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(lead)}</p>']

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Add a paragraph of plain text."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def figures(self, images: Sequence[np.ndarray], captions: Sequence[str]) -> None:
        """Add a row of pictures ``uint8 [H, W, 3]`` (RGB), each with its caption below."""
        cells = []
        for image, caption in zip(images, captions, strict=True):
            data = base64.b64encode(encode_image(image, "JPEG")).decode("ascii")
            cells.append(
                f'<figure><img src="data:image/jpeg;base64,{data}" alt="{escape(caption)}" '
                f'width="{image.shape[1]}" height="{image.shape[0]}">'
                f"<figcaption>{escape(caption)}</figcaption></figure>"
            )
        self._parts.append(f'<div class="row">{"".join(cells)}</div>')

    def charts(self, svgs: Sequence[str]) -> None:
        """Add a row of charts made by `unsam.visualization.line_chart`."""
        self._parts.append(f'<div class="row">{"".join(svgs)}</div>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; the first column is text, the others are numbers."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        self._parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all."""
        style = _STYLE.read_text(encoding="utf-8")
        body = "\n".join(self._parts)
        write_text_atomic(
            path,
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>\n{style}</style>\n</head>\n"
            f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n",
        )
