from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.synthetic import ClickableTruth, Replay
from unsam.config import load_config
from unsam.data import ImageRecord, get_dataset
from unsam.errors import ConfigError, DataError, UnsamError
from unsam.evaluation import (
    AverageRecallEvaluator,
    InteractiveEvaluator,
    Otsu,
    evaluate,
    evaluate_dataset,
)
from unsam.structures import MaskSet


def write_dataset(folder: Path, photos: int = 3) -> Path:
    """A dataset of photos with one bright square each, which Otsu finds."""
    (folder / "images").mkdir()
    images, annotations = [], []
    for number in range(photos):
        pixels = np.full((40, 50, 3), 20, np.uint8)
        mask = np.zeros((40, 50), bool)
        mask[5 : 25 + number, 10:30] = True
        pixels[mask] = 220
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        images.append({"id": number + 1, "file_name": f"{number}.png", "height": 40, "width": 50})
        annotations += MaskSet.from_masks(mask[None]).to_coco(number + 1, first_id=number + 1)
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def config(path: Path, *overrides: str) -> Any:
    return load_config(
        None, ["DATASETS.TEST", str(path), "EVALUATION.SEGMENTER", "Otsu", *overrides]
    )


def test_a_baseline_through_the_whole_harness(tmp_path: Path) -> None:
    path = write_dataset(tmp_path)
    results = evaluate(config(path))
    metrics = results[str(path)]["AverageRecallEvaluator"]
    assert metrics["AR@1000"] == 1.0
    assert metrics["masks_per_photo"] == 2.0
    few = evaluate(config(path, "EVALUATION.MAX_IMAGES", "2"))
    assert few[str(path)]["AverageRecallEvaluator"]["photos"] == 2


def test_clicks_and_masks_in_one_pass(tmp_path: Path) -> None:
    records = get_dataset(str(write_dataset(tmp_path, photos=1)))
    masks = records[0].masks()

    class Both(ClickableTruth, Replay):
        def __init__(self) -> None:
            ClickableTruth.__init__(self, list(masks.masks()), [{0.5: (40, 1, 0)}])
            Replay.__init__(self, [masks])

    evaluators = {
        "masks": AverageRecallEvaluator(records),
        "clicks": InteractiveEvaluator(records, granularities=(0.5,)),
    }
    results = evaluate_dataset(Both(), records, evaluators, progress=False)
    assert results["masks"]["AR@1"] == 1.0
    assert results["clicks"]["noc90@g0.5"] == 1.0


def test_granularity_reaches_the_segmenter(tmp_path: Path) -> None:
    asked = []

    class Asked(Otsu):
        def generate(self, image: np.ndarray, granularity: Any = None) -> MaskSet:
            asked.append(granularity)
            return super().generate(image, granularity)

    path = write_dataset(tmp_path, photos=1)
    evaluate(config(path), Asked())
    evaluate(config(path, "EVALUATION.GRANULARITY", "(0.3, 1.0)"), Asked())
    assert asked == [None, [0.3, 1.0]]


def test_an_evaluator_may_ask_for_granularities_where_none_takes_clicks(tmp_path: Path) -> None:
    path = write_dataset(tmp_path, photos=1)
    (results,) = evaluate(config(path, "EVALUATION.EVALUATORS", "GranularityEvaluator")).values()
    assert results["GranularityEvaluator"]


def test_evaluating_twice_starts_afresh(tmp_path: Path) -> None:
    records = get_dataset(str(write_dataset(tmp_path, photos=1)))
    evaluators = {"masks": AverageRecallEvaluator(records)}
    empty = MaskSet.empty(records[0].size)
    replay = Replay([records[0].masks(), empty])
    first, second = (evaluate_dataset(replay, records, evaluators) for _ in range(2))
    assert (first["masks"]["AR@1"], second["masks"]["AR@1"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["DATASETS.TEST", "()"], "DATASETS.TEST is empty"),
        (["EVALUATION.EVALUATORS", "()"], "EVALUATION.EVALUATORS is empty"),
        (["EVALUATION.EVALUATORS", "AverageRecal"], "did you mean 'AverageRecallEvaluator'"),
        (["EVALUATION.EVALUATORS", "InteractiveEvaluator"], "Otsu gives whole-image masks only"),
        (["EVALUATION.SEGMENTER", "model"], "no model is given"),
        (["EVALUATION.SEGMENTER", "Slicc"], "did you mean 'Slic'"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        evaluate(config(write_dataset(tmp_path), *overrides))
    assert "\n" not in str(caught.value)


def test_bad_ground_truth_is_one_line_each(tmp_path: Path) -> None:
    path = write_dataset(tmp_path)
    content = json.loads(path.read_text())

    def message_of(changed: str | dict[str, Any]) -> str:
        path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
        with pytest.raises(UnsamError) as caught:
            evaluate(config(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "truncated" in message_of(path.read_text()[:200])
    assert "not one annotation" in message_of(content | {"annotations": []})
    assert "two images have the id 1" in message_of(content | {"images": content["images"] * 2})
    other = [
        dict(row, segmentation={"size": [9, 9], "counts": "c1"}) for row in content["annotations"]
    ]
    assert "an RLE is of size [9, 9]" in message_of(content | {"annotations": other})
    turned = [image | {"height": 50, "width": 40} for image in content["images"]]
    assert "the photo is 50x40 pixels" in message_of(content | {"images": turned})
    (tmp_path / "images" / "2.png").write_bytes(b"not a photo")
    assert "2.png" in message_of(content)
    (tmp_path / "images" / "1.png").unlink()
    assert "1 of 3 photos are missing" in message_of(content)
    assert "no image in it" in message_of({"images": [], "annotations": []})


def test_photos_that_change_under_way_are_one_line_each(tmp_path: Path) -> None:
    records = get_dataset(str(write_dataset(tmp_path, photos=1)))
    photo = Path(records[0].file_name)

    def message() -> str:
        evaluators = {"masks": AverageRecallEvaluator(records)}
        with pytest.raises(DataError) as caught:
            evaluate_dataset(Otsu(), records, evaluators, progress=False)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    Image.fromarray(np.zeros((40, 51, 3), np.uint8)).save(photo)
    assert "0.png: the photo is 51x40 pixels, its annotations are for 50x40" in message()
    photo.unlink()
    assert "0.png" in message()


def test_records_of_any_source_will_do(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    truth = MaskSet.from_label_map(np.zeros((4, 4), int))
    record = ImageRecord(0, str(tmp_path / "a.png"), 4, 4, truth.to_coco(0))
    results = evaluate_dataset(Otsu(), [record], {"AR": AverageRecallEvaluator([record])})
    assert results["AR"]["AR@1"] == 1.0
    with pytest.raises(DataError, match="photo 3"):
        AverageRecallEvaluator([record]).process([{"image_id": 3}], [truth])
