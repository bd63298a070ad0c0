"""Pictures of masks and hierarchies, charts, and the HTML report."""

from unsam.visualization.charts import line_chart
from unsam.visualization.overlay import draw_labels, draw_masks, draw_points, hstack, save_png
from unsam.visualization.report import Report

__all__ = [
    "Report",
    "draw_labels",
    "draw_masks",
    "draw_points",
    "hstack",
    "line_chart",
    "save_png",
]
