from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unsam.config import load_config
from unsam.data import get_dataset
from unsam.evaluation import ContourTree, Watershed, build_segmenter
from unsam.evaluation.contour_baselines import colour_gradient, merge_weakest_boundaries
from unsam.regions.region_graph import RegionGraph
from unsam.structures import read_photo

CLASSES = (Watershed, ContourTree)


@pytest.fixture(scope="module")
def photo(data_root: Path) -> np.ndarray:
    return read_photo(get_dataset("bsds500_val_distinct")[0].file_name)[::2, ::2].copy()


def merge_by_exhaustive_search(graph: RegionGraph) -> list[tuple[int, int]]:
    """The definition, slowly: all boundaries again after each merge, from the starting regions."""
    members = {node: [node] for node in range(len(graph.sizes))}
    merges = []
    while len(members) > 1:
        found = []
        for second in members:
            for first in members:
                if first >= second:
                    continue
                inside = np.isin(graph.edges, members[first]).any(1) & np.isin(
                    graph.edges, members[second]
                ).any(1)
                if inside.any():
                    mean = np.average(graph.strength[inside], weights=graph.lengths[inside])
                    found.append((round(float(mean), 9), first, second))
        _, first, second = min(found)
        merges.append((first, second))
        members[len(graph.sizes) + len(merges) - 1] = members.pop(first) + members.pop(second)
    return merges


@pytest.mark.parametrize("seed", range(3))
def test_merges_are_those_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = np.repeat(np.repeat(np.arange(30).reshape(5, 6), 4, 0), 4, 1).astype(np.int32)
    graph = RegionGraph.from_labels(cells, rng.random(cells.shape, np.float32))
    merges = merge_weakest_boundaries(graph)
    assert [tuple(pair) for pair in merges.tolist()] == merge_by_exhaustive_search(graph)


@pytest.mark.parametrize("kind", CLASSES)
def test_recipes_and_settings(kind: type) -> None:
    name = {"Watershed": "watershed", "ContourTree": "contour_tree"}[kind.__name__]
    assert type(build_segmenter(load_config(f"baselines/{name}.yaml"))) is kind
    with pytest.raises(ValueError, match="over 0"):
        Watershed(depths=[0.1, 0.0])
    with pytest.raises(ValueError, match="over 0"):
        ContourTree(depth=0.0)


@pytest.mark.parametrize("kind", CLASSES)
def test_masks_are_distinct_and_always_the_same(kind: type, photo: np.ndarray) -> None:
    masks = kind().generate(photo)
    assert masks.size == photo.shape[:2]
    assert 20 < len(masks) <= 1000
    assert (np.diff(masks.score) <= 0).all()
    assert len({masks.runs_of(i).tobytes() for i in range(len(masks))}) == len(masks)
    assert kind().generate(photo) == masks
    assert kind(max_masks=7).generate(photo) == masks.filter(np.arange(7))


@pytest.mark.parametrize("kind", CLASSES)
def test_one_granularity_is_one_partition_and_coarser_is_fewer(
    kind: type, photo: np.ndarray
) -> None:
    counts = []
    for value in (0.15, 0.4, 0.7, 1.0):
        regions = kind(max_masks=10**6).generate(photo, granularity=value)
        np.testing.assert_array_equal(regions.masks().sum(axis=0), 1)
        counts.append(len(regions))
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0]
    several = kind(max_masks=10**6).generate(photo, granularity=[0.4, 0.7])
    assert counts[1] < len(several) <= counts[1] + counts[2]


def test_a_contour_tree_nests(photo: np.ndarray) -> None:
    masks = ContourTree(depth=0.03).generate(photo)
    common = masks.intersections(masks)
    smaller = np.minimum(masks.areas[:, None], masks.areas[None])
    assert ((common == 0) | (common == smaller)).all()
    assert masks.areas.max() == photo.shape[0] * photo.shape[1]


def test_objects_with_clear_edges_are_found() -> None:
    image = np.full((60, 80, 3), (40, 90, 60), np.uint8)
    image[10:40, 10:35] = (200, 180, 60)
    image[20:30, 15:25] = (230, 60, 60)
    image[15:50, 50:70] = (60, 60, 200)
    truth = [np.s_[10:40, 10:35], np.s_[20:30, 15:25], np.s_[15:50, 50:70]]
    for segmenter in (Watershed(sigma=0.7), ContourTree(sigma=0.7)):
        masks = segmenter.generate(image).masks()
        for place in truth[1:] if isinstance(segmenter, Watershed) else truth:
            wanted = np.zeros((60, 80), bool)
            wanted[place] = True
            iou = (masks & wanted).sum((1, 2)) / (masks | wanted).sum((1, 2))
            assert iou.max() > 0.75, place


def test_gradient_of_a_step() -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    image[:, 4:] = 255
    gradient = colour_gradient(image, 0.0)
    np.testing.assert_allclose(gradient[:, 3:5], 1.0, atol=1e-3)
    np.testing.assert_array_equal(gradient[:, [0, 1, 2, 5, 6, 7]], 0.0)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 3), (7, 7, 3)])
def test_tiny_and_flat_photos(kind: type, shape: tuple[int, ...]) -> None:
    image = np.full(shape, 90, np.uint8)
    for granularity in (None, 0.5):
        masks = kind().generate(image, granularity)
        assert masks.masks().any(axis=0).all()
    with pytest.raises(ValueError, match="image must be uint8"):
        kind().generate(image[..., 0])
    for value in (0.0, []):
        with pytest.raises(ValueError, match=r"granularity must lie in \[0\.1, 1\]"):
            kind().generate(image, value)
