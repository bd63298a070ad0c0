"""Pictures of masks and hierarchies, charts, the HTML report, and the gallery of a folder."""

from unsam.visualization.charts import bar_chart, line_chart
from unsam.visualization.gallery import write_gallery
from unsam.visualization.overlay import (
    draw_labels,
    draw_masks,
    draw_points,
    hstack,
    picture_kind,
    save_picture,
    save_png,
)
from unsam.visualization.photo_sheet import draw_hierarchy
from unsam.visualization.report import Report

__all__ = [
    "Report",
    "bar_chart",
    "draw_hierarchy",
    "draw_labels",
    "draw_masks",
    "draw_points",
    "hstack",
    "line_chart",
    "picture_kind",
    "save_picture",
    "save_png",
    "write_gallery",
]
