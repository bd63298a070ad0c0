"""Results files of other programs are evaluated as if a segmenter had just made the masks."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unsam.config import load_config
from unsam.data import ImageRecord
from unsam.errors import ConfigError, DataError
from unsam.evaluation import evaluate
from unsam.evaluation.coco_scores import score_detections
from unsam.evaluation.predictions import StoredPredictions
from unsam.structures import MaskSet

SIZE = (40, 60)


def quarters() -> MaskSet:
    return MaskSet.from_label_map(
        np.repeat(np.repeat(np.arange(4).reshape(2, 2), 20, 0), 30, 1), source="model"
    )


class Files:
    """A dataset of three photos with four masks each, and a results file that repeats them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.truth: dict[str, Any] = {
            "images": [
                {"id": n, "file_name": f"{n}.png", "height": SIZE[0], "width": SIZE[1]}
                for n in (3, 5, 8)
            ],
            "annotations": [row for n in (3, 5, 8) for row in quarters().to_coco(n, 10 * n)],
        }
        for n in (3, 5, 8):
            Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(folder / f"{n}.png")
        keys = ("image_id", "category_id", "segmentation", "score")
        self.results: Any = [
            {key: row[key] for key in keys} | {"score": 1 - 0.1 * place}
            for place, row in enumerate(self.truth["annotations"])
        ]

    def without(self, image_id: int) -> Any:
        return [row for row in self.results if row["image_id"] != image_id]

    def evaluate(self, *words: Any) -> dict[str, float]:
        (self.folder / "truth.json").write_text(json.dumps(self.truth))
        path = self.folder / "results.json"
        path.write_text(self.results if isinstance(self.results, str) else json.dumps(self.results))
        words = (
            "DATASETS.TEST", str(self.folder / "truth.json"),
            "EVALUATION.SEGMENTER", "StoredPredictions",
            "EVALUATION.PREDICTIONS", str(path), *words,
        )  # fmt: skip
        (metrics,) = evaluate(load_config(None, [str(word) for word in words])).values()
        return metrics["AverageRecallEvaluator"]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_the_truth_as_prediction_is_perfect(files: Files) -> None:
    metrics = files.evaluate()
    assert metrics["AR@1000"] == 1.0
    assert metrics["masks_per_photo"] == 4


def test_the_numbers_are_those_of_the_rows(files: Files) -> None:
    rng = np.random.default_rng(0)
    for row in files.results:
        mask = MaskSet.from_rles(SIZE, [row["segmentation"]]).masks()
        moved = MaskSet.from_masks(np.roll(mask, rng.integers(-5, 6, 2), (1, 2)))
        row["segmentation"] = moved.to_coco(1)[0]["segmentation"]
        # Scores that a float32 cannot tell apart decide the order all the same.
        row["score"] = 0.5 + rng.integers(0, 1000) * 1e-12
    rows = score_detections(files.truth["images"], files.truth["annotations"], files.results)
    metrics = files.evaluate()
    for name in ("AR@1", "AR@10", "AR@1000", "ARs@1000"):
        assert metrics[name] == rows.metrics[name]
    assert 0 < metrics["AR@1"] < metrics["AR@1000"] < 1


def test_photos_without_predictions_are_refused_unless_allowed(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.results = files.without(5)
    with pytest.raises(DataError, match=r"no prediction for 1 of 3 photos \(.*5\.png\); .*PARTIAL"):
        files.evaluate()
    with caplog.at_level(logging.WARNING):
        metrics = files.evaluate("EVALUATION.ALLOW_PARTIAL", True)
    assert metrics["AR@1000"] == pytest.approx(2 / 3)
    lines = [line for line in caplog.messages if "no prediction for 1 of 3 photos" in line]
    assert len(lines) == 1
    assert "count as photos without masks" in lines[0]


def test_a_file_that_lists_its_photos_may_have_none_for_some(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.results = {"images": files.truth["images"], "annotations": files.without(8)}
    with caplog.at_level(logging.WARNING):
        assert files.evaluate()["AR@1000"] == pytest.approx(2 / 3)
    assert "no prediction for 1 of 3 photos" in caplog.text
    files.results["images"] = files.truth["images"][:2]
    with pytest.raises(DataError, match=r"no prediction for 1 of 3 photos \(.*8\.png\)"):
        files.evaluate()


def test_photos_that_are_not_evaluated_need_no_predictions(files: Files) -> None:
    files.results = files.without(8)
    assert files.evaluate("EVALUATION.MAX_IMAGES", 2)["AR@1000"] == 1.0


def test_crowd_regions_and_empty_annotations(files: Files) -> None:
    annotations = files.truth["annotations"]
    annotations[0]["iscrowd"] = 1
    annotations[1] |= {"segmentation": [], "area": 0}
    files.truth["annotations"] = [row for row in annotations if row["image_id"] != 8]
    metrics = files.evaluate()
    # Of 8 annotations one is a crowd region and one has no pixel, so that nothing can find it.
    assert metrics["objects"] == 7
    assert metrics["AR@1000"] == pytest.approx(6 / 7)


def broken_truth(files: Files, case: str) -> None:
    if case == "duplicate id":
        files.truth["images"][1]["id"] = 3
    if case == "photo missing on disk":
        (files.folder / "5.png").unlink()
    if case == "truth of another size":
        row = files.truth["annotations"][2]
        row["segmentation"] = row["segmentation"] | {"size": [20, 20]}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("duplicate id", r"truth\.json: two images have the id 3"),
        ("photo missing on disk", r"1 of 3 photos are missing, the first is .*5\.png"),
        ("truth of another size", r"3\.png: annotation 32: an RLE is of size \[20, 20\]"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_one_line(files: Files, case: str, message: str) -> None:
    broken_truth(files, case)
    with pytest.raises(DataError, match=message) as caught:
        files.evaluate()
    assert "\n" not in str(caught.value)


def broken_results(files: Files, case: str) -> None:
    row = files.results[1]
    if case == "truncated":
        files.results = json.dumps(files.results)[:-40]
    if case == "RLE of another size":
        row["segmentation"]["size"] = [20, 20]
    if case == "unknown photo":
        row["image_id"] = 77
    if case == "no list":
        files.results = {"annotations": 3}
    if case == "boxes only":
        del row["segmentation"]
    if case == "no score":
        del row["score"]
    if case == "score is NaN":
        row["score"] = float("nan")
    if case == "id is text":
        row["image_id"] = "3"
    if case == "photo without id":
        files.results = {"images": [{"name": 3}], "annotations": files.results}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("truncated", r"results\.json: truncated or not JSON"),
        ("RLE of another size", r"results\.json: .*3\.png: .*an RLE is of size \[20, 20\]"),
        ("unknown photo", r"results\.json: 1 image ids \(77\) are not in the dataset of 3 photos"),
        ("no list", "expected a list of {image_id, segmentation, score}"),
        ("boxes only", "prediction 1 needs an integer 'image_id', a 'segmentation' and"),
        ("no score", "prediction 1 needs"),
        ("score is NaN", "prediction 1 needs"),
        ("id is text", "prediction 1 needs"),
        ("photo without id", "an image without a number as its 'id'"),
    ],
)
def test_a_results_file_that_cannot_be_used_is_one_line(
    files: Files, case: str, message: str
) -> None:
    broken_results(files, case)
    with pytest.raises(DataError, match=message) as caught:
        files.evaluate()
    assert "\n" not in str(caught.value)


def test_a_config_that_cannot_be_used_is_one_line(files: Files) -> None:
    with pytest.raises(ConfigError, match=r"EVALUATION\.PREDICTIONS is empty"):
        files.evaluate("EVALUATION.PREDICTIONS", "")
    with pytest.raises(ConfigError, match=r"of one dataset, DATASETS\.TEST names 2"):
        files.evaluate("DATASETS.TEST", '("coco_val", "lvis_val")')
    with pytest.raises(DataError, match="gone"):
        files.evaluate("EVALUATION.PREDICTIONS", files.folder / "gone.json")


def test_the_same_photo_twice_has_the_predictions_of_its_id(files: Files) -> None:
    photo = str(files.folder / "3.png")
    records = [ImageRecord(number, photo, *SIZE) for number in (3, 5, 8)]
    path = files.folder / "results.json"
    path.write_text(json.dumps(files.results[:4] + files.results[4:5] + files.results[8:10]))
    segmenter = StoredPredictions(path, records)
    counts = []
    for record in records:
        segmenter.set_photo(record)
        counts.append(len(segmenter.generate(np.zeros((*SIZE, 3), np.uint8))))
    assert counts == [4, 1, 2]
