"""Class-agnostic average recall on 100 photos with 1,000 detections and 60 objects each.

Ours, pycocotools and faster-coco-eval get the same rows of COCO files and end with the tables of
recall and precision. UNSAM_BENCHMARK_PHOTOS sets another number of photos; times grow in step.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np

HEIGHT, WIDTH = 480, 640
PHOTOS = 100
DETECTIONS = 1000
OBJECTS = 60
LIMITS = [1, 10, 100, 1000]
CORNERS = 48

Rows = list[dict[str, Any]]
Tables = tuple[np.ndarray, np.ndarray]


def benchmark_eval() -> dict[str, Any]:
    """Return the seconds of the three and whether their tables are the same to the last bit."""
    import faster_coco_eval
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    photos = int(os.environ.get("UNSAM_BENCHMARK_PHOTOS", PHOTOS))
    images, truth, found = made_up_rows(photos)
    _scores(*made_up_rows(1))  # compiles
    ours, tables = _timed(_scores, images, truth, found)
    reference, expected = _timed(_library_scores(COCO, COCOeval), images, truth, found)
    engine = _library_scores(faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster)
    other, close = _timed(engine, images, truth, found)
    return {
        "photos": photos,
        "detections": len(found),
        "objects": len(truth),
        "AR@1000": float(tables[0][:, 0, 0, -1].mean()),
        "seconds": ours,
        "pycocotools_seconds": reference,
        "faster_coco_eval_seconds": other,
        "speedup_vs_pycocotools": reference / ours,
        "speedup_vs_faster_coco_eval": other / ours,
        "identical": all(map(np.array_equal, tables, expected)),
        # faster-coco-eval leaves out a term of 2e-16 in the denominator of precision.
        "identical_recall_of_faster_coco_eval": bool(np.array_equal(tables[0], close[0])),
    }


def made_up_rows(photos: int, seed: int = 0) -> tuple[Rows, Rows, Rows]:
    """Return images, truth and detections: wobbly ellipses, and copies that are more or less off.

    Sizes are spread evenly in their logarithm; three of four detections are of an object, the rest
    of nothing; one object of 50 is a crowd region.
    """
    rng = np.random.default_rng(seed)
    images, truth, found = [], [], []
    for image_id in range(1, photos + 1):
        images.append({"id": image_id, "height": HEIGHT, "width": WIDTH})
        objects = _outlines(rng, OBJECTS)
        chosen = rng.integers(0, OBJECTS, DETECTIONS * 3 // 4)
        near = objects[chosen]
        extent = np.ptp(near, axis=1, keepdims=True)
        # Some objects are hard for all of their detections.
        error = 10 ** rng.uniform(-2.5, 0, (OBJECTS, 1, 1))[chosen]
        error = error * 10 ** rng.uniform(0, 0.7, error.shape)
        near = near + extent * error * rng.standard_normal((len(near), 1, 2))
        near = near + 0.3 * extent * error * rng.standard_normal(near.shape)
        others = _outlines(rng, DETECTIONS - len(near))
        quality = np.concatenate([1 - error.ravel(), rng.random(len(others))])
        score = np.round(quality + rng.normal(0, 0.2, DETECTIONS), 3)
        truth += _rows(objects, image_id, iscrowd=(rng.random(OBJECTS) < 0.02).astype(int).tolist())
        found += _rows(np.concatenate([near, others]), image_id, score=score.tolist())
    for number, row in enumerate(truth, start=1):
        row["id"] = number
    return images, truth, found


def _outlines(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return polygons ``[count, CORNERS, 2]``, x and y in pixels."""
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    waves = rng.normal(0, 0.12, (count, 4, 1)) * np.sin(
        np.arange(2, 6)[:, None] * angle + rng.uniform(0, 2 * np.pi, (count, 4, 1))
    )
    radius = 2 ** rng.uniform(2, 7.5, (count, 1)) * (1 + waves.sum(axis=1))
    stretch = 2 ** rng.uniform(-0.5, 0.5, (count, 1, 2))
    middle = rng.uniform((0, 0), (WIDTH, HEIGHT), (count, 1, 2))
    return middle + stretch * radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def _rows(outlines: np.ndarray, image_id: int, **fields: list[Any]) -> Rows:
    from pycocotools import mask as coco_mask

    from unsam.structures import MaskSet

    inside = np.clip(outlines, 0, (WIDTH, HEIGHT)).reshape(len(outlines), -1)
    rles = coco_mask.frPyObjects(inside.tolist(), HEIGHT, WIDTH)
    areas = MaskSet.from_rles((HEIGHT, WIDTH), rles).areas.tolist()
    return [
        {
            "image_id": image_id,
            "category_id": 1,
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode("ascii")},
            "area": areas[place],
            **{name: values[place] for name, values in fields.items()},
        }
        for place, rle in enumerate(rles)
    ]


def _scores(images: Rows, truth: Rows, found: Rows) -> Tables:
    from unsam.evaluation.coco_scores import score_detections

    scores = score_detections(images, truth, found, max_detections=LIMITS)
    return scores.recall, scores.precision


def _library_scores(dataset: Any, evaluation: Any) -> Callable[[Rows, Rows, Rows], Tables]:
    def run(images: Rows, truth: Rows, found: Rows) -> Tables:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = dataset()
            coco.dataset = {"images": images, "annotations": truth, "categories": [{"id": 1}]}
            coco.createIndex()
            engine = evaluation(coco, coco.loadRes(found), "segm")
            engine.params.maxDets = LIMITS
            engine.params.useCats = 0
            engine.evaluate()
            engine.accumulate()
        return np.asarray(engine.eval["recall"]), np.asarray(engine.eval["precision"])

    return run


def _timed(function: Callable[..., Tables], *rows: Rows) -> tuple[float, Tables]:
    """Return the seconds of one run on copies of the rows (the libraries write into them)."""
    from benchmark import median_seconds

    copies = copy.deepcopy(rows)
    answers: list[Tables] = []
    seconds = median_seconds(lambda: answers.append(function(*copies)), repeats=1, warm_up=0)
    return seconds, answers[0]
