"""Stand-in segmenters whose answers are known, for tests of the evaluators."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from unsam.data import ImageRecord
from unsam.evaluation.clicks import Click
from unsam.evaluation.evaluator import Evaluator
from unsam.structures import MaskSet


def disc_predictor(
    target: np.ndarray, positive: int, negative: int, margin: int
) -> Callable[[Sequence[Click]], np.ndarray]:
    """Return the deterministic predictor of the golden numbers (golden/evaluation/README.md)."""
    near = np.rint(distance_transform_edt(~target) ** 2) <= margin**2
    rows, columns = np.ogrid[: target.shape[0], : target.shape[1]]

    def predict(clicks: Sequence[Click]) -> np.ndarray:
        mask = np.zeros(target.shape, bool)
        for click in clicks:
            squared = (rows - click.y) ** 2 + (columns - click.x) ** 2
            if click.positive:
                mask |= (squared <= positive**2) & near
            else:
                mask &= squared > negative**2
        return mask

    return predict


class ClickableTruth:
    """Answers clicks by the golden predictor; knows the objects, finds its own by the first click.

    `radii` maps granularity to (positive, negative, margin) for each object. The logits that it
    returns carry the number of clicks so far, so that it can check that they come back.
    """

    takes_prompts = True

    def __init__(
        self, objects: Sequence[np.ndarray], radii: Sequence[dict[float, Sequence[int]]]
    ) -> None:
        self.objects = objects
        self.radii = radii
        self.predictors = [
            {value: disc_predictor(item, *row[value]) for value in row}
            for item, row in zip(objects, radii, strict=True)
        ]
        self.images_set = 0
        self.batches: list[int] = []

    def set_image(self, image: np.ndarray) -> None:
        self.images_set += 1

    def predict_batch(
        self, points: np.ndarray, labels: np.ndarray, mask_logits: Any, granularity: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        count, clicks = labels.shape
        assert points.shape == (count, clicks, 2)
        assert (mask_logits is None) == (clicks == 1)
        if mask_logits is not None:
            assert (mask_logits == clicks - 1).all()
        self.batches.append(count)
        masks = []
        for row in range(count):
            x, y = points[row, 0].astype(int)
            owner = next(i for i, item in enumerate(self.objects) if item[y, x])
            value = min(self.radii[owner], key=lambda g: abs(g - granularity[row]))
            history = [
                Click(int(p[1]), int(p[0]), bool(q))
                for p, q in zip(points[row], labels[row], strict=True)
            ]
            masks.append(self.predictors[owner][value](history))
        return (
            torch.from_numpy(np.stack(masks)),
            torch.ones(count),
            torch.full((count, 4, 4), float(clicks)),
        )


class Replay:
    """Gives stored mask sets, in order of the calls."""

    def __init__(self, results: Sequence[MaskSet]) -> None:
        self.results = list(results)

    def generate(self, image: np.ndarray, granularity: Any = None) -> MaskSet:
        return self.results.pop(0)


def made_up_dataset(photos: int, seed: int = 0) -> tuple[list[ImageRecord], dict[int, MaskSet]]:
    """Return records with random truth and noisy detections of it; ids are not consecutive."""
    rng = np.random.default_rng(seed)
    records, results = [], {}
    for number in range(photos):
        height, width = (int(value) for value in rng.integers(60, 140, 2))
        truth = random_rectangles(rng, height, width, 9)
        shifted = np.roll(truth, rng.integers(-3, 4, 2), axis=(1, 2))
        masks = np.concatenate([shifted, random_rectangles(rng, height, width, 6)])
        rows = MaskSet.from_masks(truth).to_coco(10 + 7 * number, first_id=0)
        for row in rows[:2]:
            row["iscrowd"] = 1
        image_id = 10 + 7 * number
        records.append(ImageRecord(image_id, f"/photos/{image_id}.jpg", height, width, rows))
        # Few distinct scores: ties must not depend on how photos are shared out.
        score = rng.integers(1, 6, len(masks)) / 5
        results[image_id] = MaskSet.from_masks(masks, score=score)
    return records, results


def random_rectangles(rng: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    masks = np.zeros((count, height, width), bool)
    for mask in masks:
        top, left = rng.integers(0, height - 8), rng.integers(0, width - 8)
        mask[top : top + rng.integers(8, height), left : left + rng.integers(8, width)] = True
    return masks


def measured_in_shares(
    make: Callable[[], Evaluator],
    samples: Sequence[dict[str, Any]],
    segmenter: Callable[[dict[str, Any]], Any],
    ranks: int,
) -> dict[str, float]:
    """Return what so many ranks would measure: each its photos, then all results in one place.

    `segmenter` is called for each sample anew; results cross processes as pickles.
    """
    merged: dict[int, Any] = {}
    for rank in reversed(range(ranks)):
        evaluator = make()
        for sample in samples[rank::ranks]:
            evaluator.process([sample], segmenter(sample))
        merged |= pickle.loads(pickle.dumps(dict(evaluator.results)))
    return make().measure(dict(sorted(merged.items())))
