"""Numbers that papers have published on the benchmarks, under the names of our metrics.

Recall, precision and IoU are shares of 1 here, per cent in the papers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PUBLISHED_NOTE = (
    "Rows with a * chose the granularity of each object by looking at the truth; they compare with "
    "oracle_ numbers only."
)
"""Goes with every table of `published_rows`."""

_UNSAM = "UnSAM (arXiv 2406.20081)"
_UNSAMV2 = "UnSAMv2 (arXiv 2511.13714)"
_UCM = "Arbelaez et al. (PAMI 2011), its published segmentations"
_WHOLE_IMAGE = ("coco", "lvis", "ade20k", "entity", "sa1b", "partimagenet", "paco")
_GENERAL = ("grabcut", "berkeley", "sbd", "davis", "sa1b_interactive")
_PARTS = ("pascalpart", "partimagenet_seg")


@dataclass(frozen=True)
class Published:
    """What one paper says of one method on one dataset under one evaluator's protocol.

    Attributes:
        dataset: as registered.
        evaluator: as registered.
        method: as the paper calls it.
        source: paper and table.
        numbers: metric -> value, in the units of the evaluator.
    """

    dataset: str
    evaluator: str
    method: str
    source: str
    numbers: Mapping[str, float]


def _recall_rows(method: str, source: str, values: Sequence[float]) -> list[Published]:
    """Return one row per dataset, in the order of the papers' columns."""
    return [
        Published(
            f"unsam_{name}_val",
            "AverageRecallEvaluator",
            method,
            source,
            {"AR@1000": round(value / 100, 6)},
        )
        for name, value in zip(_WHOLE_IMAGE, values, strict=False)
    ]


def _size_row(method: str, values: Sequence[float]) -> Published:
    """Return AP and recall by size on SA-1B."""
    names = ("AP", "ARs@1000", "ARm@1000", "ARl@1000")
    numbers = {name: round(value / 100, 6) for name, value in zip(names, values, strict=True)}
    source = f"{_UNSAM}, table 4"
    return Published("unsam_sa1b_val", "AverageRecallEvaluator", method, source, numbers)


def _click_row(dataset: str, method: str, source: str, text: str) -> Published:
    """Return a row of "NoC80/NoC90/1-IoU"; the middle one is NoC85 on parts.

    A method that is marked * has its granularity chosen by the truth: our ``oracle_`` numbers.
    """
    first, second, iou = (float(word) for word in text.split("/"))
    prefix = "oracle_" if method.endswith("*") else ""
    harder = "noc85" if dataset in _PARTS else "noc90"
    numbers = {
        f"{prefix}noc80": first,
        f"{prefix}{harder}": second,
        f"{prefix}iou1": round(iou / 100, 6),
    }
    return Published(f"unsam_{dataset}_val", "InteractiveEvaluator", method, source, numbers)


_RECALL = {
    "SAM (ViT-B)": (f"{_UNSAM}, table 1", (49.6, 46.1, 45.8, 45.9, 60.8, 28.3, 18.1)),
    "FreeSOLO": (f"{_UNSAM}, table 1", (11.6, 5.9, 7.3, 8.0, 2.2, 13.8, 2.4)),
    "CutLER": (f"{_UNSAM}, table 1", (28.1, 20.2, 26.3, 23.1, 17.0, 28.7, 8.9)),
    "SOHES": (f"{_UNSAM}, table 1", (30.5, 29.1, 31.1, 33.5, 33.3, 36.0, 17.1)),
    "UnSAM (0.1M)": (f"{_UNSAM}, table 1", (40.5, 37.7, 35.7, 39.6, 41.9, 51.6, 27.5)),
    "UnSAM (0.2M)": (f"{_UNSAM}, table 1", (41.2, 39.7, 36.8, 40.3, 43.6, 52.1, 29.1)),
    "UnSAM (0.4M)": (f"{_UNSAM}, table 1", (42.0, 40.5, 37.5, 41.0, 44.5, 52.7, 29.7)),
    "UnSAM+": (f"{_UNSAM}, table 2", (52.2, 50.8, 45.3, 49.8, 64.8, 46.0, 32.3)),
    "UnSAMv2": (f"{_UNSAMV2}, table 3", (74.5, 63.8, 68.4, 64.3, 70.6)),
    "UnSAMv2+": (f"{_UNSAMV2}, table 3", (79.1, 70.3, 72.7, 70.3, 77.9)),
}
# Table 1 has SBD and PascalPart, table 2 the others; what both have is the same in both.
_CLICKS: dict[str, dict[str, str]] = {
    "SAM-2": {
        "grabcut": "1.48/1.54/76.8",
        "berkeley": "1.29/1.72/80.0",
        "sbd": "2.85/6.73/64.6",
        "davis": "2.51/4.50/71.7",
        "sa1b_interactive": "1.82/3.76/77.1",
        "pascalpart": "9.37/11.80/29.0",
        "partimagenet_seg": "5.09/6.64/39.5",
    },
    "UnSAMv2*": {
        "grabcut": "1.16/1.30/91.4",
        "berkeley": "1.10/1.60/90.8",
        "sbd": "2.75/5.97/74.8",
        "davis": "2.75/4.66/84.7",
        "sa1b_interactive": "2.18/4.16/72.4",
        "pascalpart": "7.84/9.59/51.5",
        "partimagenet_seg": "4.21/5.29/57.1",
    },
    "UnSAMv2+*": {
        "grabcut": "1.22/1.26/92.6",
        "berkeley": "1.12/1.37/91.1",
        "sbd": "2.55/5.72/77.3",
        "davis": "2.36/4.40/85.7",
        "sa1b_interactive": "1.87/3.69/78.4",
        "pascalpart": "7.87/9.67/52.0",
        "partimagenet_seg": "3.75/4.77/60.7",
    },
    "SimpleClick": {
        "grabcut": "1.32/1.48/89.6",
        "berkeley": "1.26/2.44/84.6",
        "davis": "2.88/5.38/75.6",
        "sa1b_interactive": "4.80/7.27/21.9",
        "partimagenet_seg": "6.34/7.76/29.2",
    },
    "GraCo*": {
        "grabcut": "1.24/1.32/91.1",
        "berkeley": "1.17/1.63/88.7",
        "davis": "2.84/5.09/74.0",
        "sa1b_interactive": "2.41/4.01/66.2",
        "partimagenet_seg": "4.11/5.03/51.7",
    },
}
_POINTS = {"SAM (ViT-B)": (52.1, 68.2), "UnSAM": (40.3, 59.5), "UnSAM+": (52.4, 69.5)}

PUBLISHED: tuple[Published, ...] = (
    *(
        row
        for method, (source, values) in _RECALL.items()
        for row in _recall_rows(method, source, values)
    ),
    _size_row("SAM (ViT-B)", (38.9, 20.0, 59.9, 82.8)),
    _size_row("UnSAM+", (42.8, 36.2, 65.9, 76.5)),
    *(
        _click_row(
            dataset,
            method,
            f"{_UNSAMV2}, table {1 if dataset in ('sbd', 'pascalpart') else 2}",
            text,
        )
        for method, rows in _CLICKS.items()
        for dataset, text in rows.items()
    ),
    *(
        Published(
            "unsam_coco_panoptic_val",
            "PointEvaluator",
            method,
            f"{_UNSAM}, table 5",
            {"point_max": round(best / 100, 6), "point_oracle": round(oracle / 100, 6)},
        )
        for method, (best, oracle) in _POINTS.items()
    ),
    Published(
        "bsds500_test_all",
        "BoundaryEvaluator",
        "gPb-UCM",
        _UCM,
        {"boundary_ODS_F": 0.726, "boundary_OIS_F": 0.760, "boundary_AP": 0.727},
    ),
    Published(
        "bsds500_test_all",
        "RegionEvaluator",
        "gPb-UCM",
        _UCM,
        {
            "covering_ODS": 0.588,
            "covering_OIS": 0.647,
            "covering_best": 0.744,
            "PRI_ODS": 0.827,
            "PRI_OIS": 0.856,
            "VI_ODS": 1.690,
            "VI_OIS": 1.475,
        },
    ),
)


def published_rows(
    dataset: str, evaluator: str, metrics: Mapping[str, float], ours: str
) -> dict[str, dict[str, float]]:
    """Return method -> metric -> value, `ours` first; nothing where no number can be compared."""
    rows: dict[str, dict[str, float]] = {}
    for item in PUBLISHED:
        if (item.dataset, item.evaluator) == (dataset, evaluator):
            rows.setdefault(item.method, {}).update(item.numbers)
    named = dict.fromkeys(name for row in rows.values() for name in row)
    mine = {name: metrics[name] for name in named if name in metrics}
    return {ours: mine, **rows} if mine else {}


def published_sources(dataset: str, evaluator: str) -> list[str]:
    """Return the papers and tables that the rows of `published_rows` are from."""
    places = [item for item in PUBLISHED if (item.dataset, item.evaluator) == (dataset, evaluator)]
    return list(dict.fromkeys(item.source for item in places))
