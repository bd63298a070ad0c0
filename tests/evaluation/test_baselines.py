from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.measure import label

from unsam.config import load_config
from unsam.data import get_dataset
from unsam.errors import ConfigError
from unsam.evaluation import (
    AdaptiveOtsu,
    Felzenszwalb,
    MultiOtsu,
    Otsu,
    Slic,
    build_segmenter,
    evaluate,
)
from unsam.evaluation.baselines import ClassicalSegmenter
from unsam.structures import MaskSet, read_photo

NAMES = ("otsu", "felzenszwalb", "slic")
CLASSES = (Otsu, AdaptiveOtsu, MultiOtsu, Felzenszwalb, Slic)


@pytest.fixture(scope="module")
def photo(data_root: Path) -> np.ndarray:
    return read_photo(get_dataset("bsds500_val_distinct")[0].file_name)[::2, ::2].copy()


@pytest.mark.parametrize("name", [*NAMES, "adaptiveotsu", "multiotsu"])
def test_recipes_name_their_segmenter(name: str) -> None:
    recipe = name.replace("otsu", "_otsu").removeprefix("_")
    segmenter = build_segmenter(load_config(f"baselines/{recipe}.yaml"))
    assert type(segmenter).__name__.lower() == name


@pytest.mark.parametrize("kind", CLASSES)
def test_masks_are_distinct_regions_largest_first(
    kind: type[ClassicalSegmenter], photo: np.ndarray
) -> None:
    masks = kind().generate(photo)
    assert masks.size == photo.shape[:2]
    assert 1 < len(masks) <= 1000
    assert (np.diff(masks.areas) <= 0).all()
    assert (np.diff(masks.score) <= 0).all()
    assert len({masks.runs_of(i).tobytes() for i in range(len(masks))}) == len(masks)
    few = kind(max_masks=7).generate(photo)
    assert few == masks.filter(np.arange(7))


@pytest.mark.parametrize("kind", CLASSES)
def test_one_granularity_is_one_partition(
    kind: type[ClassicalSegmenter], photo: np.ndarray
) -> None:
    coarse, fine = (kind().generate(photo, granularity=value) for value in (1.0, 0.1))
    np.testing.assert_array_equal(coarse.masks().sum(axis=0), 1)
    if kind is not Otsu:
        assert len(coarse) < len(fine)
        assert set(coarse.granularity.tolist()) == {1.0}
        assert set(fine.granularity.tolist()) == {np.float32(0.1)}
        both = kind().generate(photo, granularity=[0.1, 1.0])
        assert len(fine) < len(both) <= len(fine) + len(coarse)


def test_otsu_gives_the_pieces_of_both_sides() -> None:
    image = np.full((12, 20, 3), 30, np.uint8)
    image[2:6, 2:6] = 200
    image[6:9, 6:9] = 210  # touches the first piece at a corner only
    image[2:5, 12:18] = 220
    masks = Otsu().generate(image)
    assert sorted(masks.areas.tolist()) == [9, 16, 18, 240 - 43]


def test_adaptive_otsu_sees_through_a_shadow() -> None:
    """Squares on a slope of light: no one threshold finds all of them, local ones do."""
    image = np.repeat(np.linspace(20, 200, 160).astype(np.uint8)[None], 40, axis=0)
    squares = np.zeros(image.shape, bool)
    for left in (20, 70, 120):
        squares[15:25, left : left + 10] = True
    image = np.where(squares, image + 30, image).astype(np.uint8)
    photo = np.repeat(image[:, :, None], 3, axis=2)
    truth = MaskSet.from_label_map(label(squares), background=0)

    def best(segmenter: ClassicalSegmenter) -> np.ndarray:
        return truth.iou(segmenter.generate(photo)).max(axis=1)

    assert best(AdaptiveOtsu(windows=[25])).min() > 0.7
    assert best(Otsu()).min() < 0.3


def test_multi_otsu_gives_the_pieces_of_each_class() -> None:
    image = np.full((20, 30, 3), 20, np.uint8)
    image[2:8, 2:8] = 120
    image[12:18, 2:8] = 220
    image[2:8, 20:28] = 120
    areas = {count: MultiOtsu(classes=[count]).generate(image).areas.tolist() for count in (3, 5)}
    # With three greys there are no more than three classes.
    assert sorted(areas[3]) == sorted(areas[5]) == [36, 36, 48, 600 - 120]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="classes must be at least 2"):
        MultiOtsu(classes=[1])
    with pytest.raises(ValueError, match="windows must be at least 1"):
        AdaptiveOtsu(windows=[])


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (7, 7, 3)])
def test_tiny_and_flat_photos(kind: type[ClassicalSegmenter], shape: tuple[int, ...]) -> None:
    masks = kind().generate(np.full(shape, 90, np.uint8))
    assert len(masks) >= 1
    assert masks.masks().any(axis=0).all()


def test_wrong_arguments() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    for value in (0.0, 1.5, [0.5, float("nan")], []):
        with pytest.raises(ValueError, match=r"granularity must lie in \[0\.1, 1\]"):
            Otsu().generate(image, granularity=value)
    with pytest.raises(ValueError, match="image must be uint8"):
        Otsu().generate(image.astype(np.float32))
    with pytest.raises(ConfigError, match="did you mean 'Otsu'"):
        build_segmenter(load_config(None, ["EVALUATION.SEGMENTER", "Otsuu"]))


def test_the_union_of_scales_beats_superpixels_beats_one_threshold(data_root: Path) -> None:
    """The order that the whole of BSDS500 val gives too, here on two photos."""
    found = []
    for name in NAMES:
        results = evaluate(load_config(f"baselines/{name}.yaml", ["EVALUATION.MAX_IMAGES", "2"]))
        metrics = results["bsds500_val_distinct"]["AverageRecallEvaluator"]
        assert metrics["AR@1000"] <= metrics["AR@1000_best_overlap"] + 1e-12
        found.append(metrics["mean_best_iou"])
    otsu, felzenszwalb, superpixels = found
    assert otsu < superpixels < felzenszwalb
