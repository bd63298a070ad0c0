"""MaskSet against brute force on dense arrays and against pycocotools."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from unsam.errors import DataError
from unsam.structures import MaskSet


def random_masks(seed: int, count: int = 12, size: tuple[int, int] = (31, 47)) -> np.ndarray:
    """Blobs, noise, an empty, a full and a one-pixel mask: bool [N, H, W]."""
    rng = np.random.default_rng(seed)
    noise = rng.random((count, *size))
    smooth = np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in noise])
    masks = smooth > np.median(smooth, axis=(1, 2), keepdims=True)
    masks[0] = noise[0] > 0.7
    masks[1] = False
    masks[2] = True
    masks[3] = False
    masks[3, 5, 7] = True
    masks[4] = masks[-1]
    return masks


def coco_rles(masks: np.ndarray) -> list[dict]:
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


def dense_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.reshape(len(a), -1).astype(float), b.reshape(len(b), -1).astype(float)
    common = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - common
    return common / np.maximum(union, 1)


def greedy_nms_oracle(iou: np.ndarray, key: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(key)), key=lambda i: (-key[i], i)):
        if all(iou[index, other] <= threshold for other in kept):
            kept.append(index)
    return kept


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 40), width=st.integers(1, 40))
def test_masks_and_rles_survive_the_round_trip(seed: int, height: int, width: int) -> None:
    masks = (
        np.random.default_rng(seed).random((6, height, width)) > np.linspace(0, 1, 6)[:, None, None]
    )
    masks_set = MaskSet.from_masks(masks)
    np.testing.assert_array_equal(masks_set.masks(), masks)
    expected = coco_rles(masks)
    assert [rle["counts"] for rle in masks_set.rles] == [rle["counts"] for rle in expected]
    assert MaskSet.from_rles((height, width), expected) == masks_set
    lengths = [coco_lengths(mask) for mask in masks]
    listed = [{"size": [height, width], "counts": item} for item in lengths]
    assert MaskSet.from_rles((height, width), listed) == masks_set


def coco_lengths(mask: np.ndarray) -> list[int]:
    flat = mask.T.reshape(-1).astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return np.diff(np.concatenate([[0], edges])).tolist()


def test_areas_boxes_and_iou_equal_pycocotools() -> None:
    masks, others = random_masks(0), random_masks(1, 7)
    first, second = MaskSet.from_masks(masks), MaskSet.from_masks(others)
    rles, other_rles = coco_rles(masks), coco_rles(others)
    np.testing.assert_array_equal(first.areas, coco_mask.area(rles))
    np.testing.assert_array_equal(first.boxes_xywh, coco_mask.toBbox(rles))
    filled = masks.any((1, 2))
    np.testing.assert_array_equal(
        first.iou(second)[filled], coco_mask.iou(rles, other_rles, [0] * 7)[filled]
    )
    np.testing.assert_array_equal(first.iou(), dense_iou(masks, masks))
    np.testing.assert_array_equal(first.iou(second), dense_iou(masks, others))
    common = first.containment(second) * np.maximum(first.areas, 1)[:, None]
    np.testing.assert_allclose(common, first.intersections(second))


@pytest.mark.parametrize("order", ["score", "area"])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_nms_is_exact(order: str, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # A small block, so that survivors of earlier blocks are compared too.
    monkeypatch.setattr("unsam.structures.mask_set._NMS_BLOCK", 7)
    masks = random_masks(3, 40)
    masks[20:30] = masks[10:20]
    score = np.random.default_rng(0).random(40).round(1)
    masks_set = MaskSet.from_masks(masks, score=score)
    key = masks_set.score if order == "score" else masks_set.areas
    expected = greedy_nms_oracle(dense_iou(masks, masks), key, threshold)
    assert masks_set.nms(threshold, order).tolist() == expected


def test_nms_of_nothing_is_nothing() -> None:
    assert MaskSet.empty((5, 4)).nms(0.5).size == 0
    assert MaskSet.empty((5, 4)).iou().shape == (0, 0)
    assert MaskSet.empty((5, 4)).with_parents().parent.size == 0


def test_filter_cat_and_sort_keep_fields_aligned() -> None:
    masks = random_masks(4, 6)
    parent = [-1, 0, 1, 2, 1, 0]
    source = ["divide", "conquer", "human", "model", "conquer", "divide"]
    masks_set = MaskSet.from_masks(
        masks, score=[0.6, 0.1, 0.5, 0.3, 0.2, 0.4], parent=parent, source=source
    )
    kept = masks_set.filter([0, 3, 4])
    np.testing.assert_array_equal(kept.masks(), masks[[0, 3, 4]])
    # Masks 1 and 2 are gone: 3 and 4 go to their grandparent 0.
    assert kept.parent.tolist() == [-1, 0, 0]
    assert kept.source.tolist() == ["divide", "model", "conquer"]
    ordered = masks_set.sort("score")
    np.testing.assert_array_equal(ordered.masks(), masks[np.argsort(-masks_set.score)])
    for child, above in enumerate(ordered.parent):
        if above >= 0:
            before = np.argsort(-masks_set.score)
            assert parent[before[child]] == before[above]
    joined = MaskSet.cat([kept, masks_set])
    assert len(joined) == 9
    assert joined.parent.tolist() == [-1, 0, 0, -1, 3, 4, 5, 4, 3]
    np.testing.assert_array_equal(joined.masks(), np.concatenate([kept.masks(), masks]))


def test_parents_are_the_smallest_container() -> None:
    masks = np.zeros((5, 30, 30), bool)
    masks[0, 8:12, 8:12] = True
    masks[1] = True
    masks[2, 5:20, 5:20] = True
    masks[3, 22:28, 22:28] = True
    masks[4, 8:12, 8:12] = True
    assert MaskSet.from_masks(masks).with_parents().parent.tolist() == [2, -1, 1, 1, 0]


def test_holes_and_islands_equal_a_flood_fill_of_the_whole_image() -> None:
    for seed in range(5):
        masks = random_masks(seed, 10)
        masks_set = MaskSet.from_masks(masks)
        for mask, filled, cleaned in zip(
            masks, masks_set.fill_holes(9).masks(), masks_set.remove_islands(9).masks(), strict=True
        ):
            np.testing.assert_array_equal(filled, fill_oracle(mask, 9))
            np.testing.assert_array_equal(cleaned, island_oracle(mask, 9))


def fill_oracle(mask: np.ndarray, max_area: int) -> np.ndarray:
    padded = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(padded, connectivity=4)
    out = mask.copy()
    for label in range(1, len(stats)):
        piece = (labels == label)[1:-1, 1:-1]
        if label != labels[0, 0] and stats[label, cv2.CC_STAT_AREA] <= max_area:
            out |= piece
    return out


def island_oracle(mask: np.ndarray, min_area: int) -> np.ndarray:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = [(labels == label).sum() for label in range(1, count)]
    out = np.zeros_like(mask)
    for label, area in enumerate(areas, start=1):
        if area >= min_area or label == 1 + int(np.argmax(areas)):
            out |= labels == label
    return out


def test_label_maps_both_ways() -> None:
    labels = np.random.default_rng(0).integers(-1, 6, (20, 33))
    masks_set = MaskSet.from_label_map(labels, background=-1)
    assert len(masks_set) == 6
    np.testing.assert_array_equal(masks_set.masks(), labels[None] == np.arange(6)[:, None, None])
    np.testing.assert_array_equal(masks_set.label_map(), labels)
    assert len(MaskSet.from_label_map(labels)) == 7
    nested = np.zeros((2, 9, 9), bool)
    nested[0, 4, 4] = True
    nested[1, 2:7, 2:7] = True
    assert MaskSet.from_masks(nested).label_map()[4, 4] == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), rows=st.integers(1, 90), columns=st.integers(1, 90))
def test_resize_samples_the_nearest_pixel_centre(seed: int, rows: int, columns: int) -> None:
    masks = random_masks(seed)
    height, width = masks.shape[1:]
    y = ((np.arange(rows) + 0.5) * height / rows).astype(int)
    x = ((np.arange(columns) + 0.5) * width / columns).astype(int)
    resized = MaskSet.from_masks(masks).resize((rows, columns))
    np.testing.assert_array_equal(resized.masks(), masks[:, y][:, :, x])


def test_coco_and_sa1b_json_survive_the_round_trip() -> None:
    masks_set = MaskSet.from_masks(
        random_masks(2, 6),
        score=np.linspace(0.1, 0.97, 6),
        granularity=np.linspace(0.1, 1, 6),
        parent=[-1, 0, 0, 2, -1, 4],
        source=["divide", "conquer", "human", "model", "divide", "conquer"],
    )
    annotations = json.loads(json.dumps(masks_set.to_coco(image_id=3, first_id=50)))
    assert MaskSet.from_coco(annotations, masks_set.size) == masks_set
    record = json.loads(json.dumps(masks_set.to_sa1b("a b.jpg", image_id=3)))
    assert MaskSet.from_sa1b(record) == masks_set
    assert record["image"] == {
        "image_id": 3,
        "file_name": "a b.jpg",
        "width": masks_set.size[1],
        "height": masks_set.size[0],
    }
    assert [item["instance_id"] for item in record["annotations"]] == [0, 0, 0, 0, 1, 1]


def test_sa1b_files_of_the_real_layout(data_root) -> None:
    for path in sorted((data_root / "sa1b_layout").glob("*.json")):
        record = json.loads(path.read_text())
        masks_set = MaskSet.from_sa1b(record)
        assert masks_set.areas.tolist() == [item["area"] for item in record["annotations"]]
        assert masks_set.boxes_xywh.tolist() == [item["bbox"] for item in record["annotations"]]


def test_polygons_equal_pycocotools() -> None:
    polygon = [[2.0, 3.0, 20.5, 4.0, 15.0, 18.0], [25.0, 5.0, 28.0, 5.0, 28.0, 9.0, 25.0, 9.0]]
    merged = coco_mask.merge(coco_mask.frPyObjects(polygon, 25, 30))
    masks_set = MaskSet.from_coco([{"id": 1, "segmentation": polygon}], (25, 30))
    np.testing.assert_array_equal(masks_set.mask(0), coco_mask.decode(merged).astype(bool))


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [4, 5], "counts": [3, 4]},
        {"size": [4, 5], "counts": [25]},
        {"size": [4, 5], "counts": [-5, 25]},
        {"size": [5, 4], "counts": [20]},
        {"size": [4, 5], "counts": "~~~~"},
        {"size": [4, 5], "counts": "oo"},
        {"size": [4, 5], "counts": "\u00e9"},
        {"size": [4, 5], "counts": None},
        {"size": 4, "counts": [20]},
        {"counts": [20]},
    ],
)
def test_a_broken_rle_is_one_clear_error(rle: dict) -> None:
    with pytest.raises(DataError) as error:
        MaskSet.from_rles((4, 5), [rle])
    assert "\n" not in str(error.value)


def test_wrong_arguments_are_refused() -> None:
    masks_set = MaskSet.from_masks(random_masks(0, 5))
    with pytest.raises(ValueError, match="score needs one entry"):
        masks_set.replace(score=[1.0])
    with pytest.raises(ValueError, match="granularity must lie"):
        masks_set.replace(granularity=np.zeros(5))
    with pytest.raises(ValueError, match="parent must be"):
        masks_set.replace(parent=[0, 0, 0, 0, 9])
    with pytest.raises(ValueError, match="different image sizes"):
        masks_set.iou(MaskSet.empty((3, 3)))
    with pytest.raises(ValueError, match="order must be"):
        masks_set.nms(0.5, "size")
    with pytest.raises(ValueError, match="N, H, W"):
        MaskSet.from_masks(np.zeros((4, 4)))
