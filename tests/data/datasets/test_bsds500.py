from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unsam.data.datasets import load_bsds500
from unsam.errors import DataError


def test_all_regions_of_an_annotator_cover_the_photo_once(data_root: Path) -> None:
    for record in load_bsds500(data_root / "bsds500", "val", "all")[:3]:
        rows = record.load_annotations()
        annotators = sorted({row["annotator"] for row in rows})
        assert len(annotators) >= 4
        for annotator in annotators:
            masks = record.decode([row for row in rows if row["annotator"] == annotator])
            np.testing.assert_array_equal(masks.masks().sum(axis=0), 1)


def test_distinct_regions_are_large_and_differ(data_root: Path) -> None:
    records = load_bsds500(data_root / "bsds500", "val", "distinct")
    assert sum(len(record.load_annotations()) for record in records) == 5275
    for record in records[:5]:
        masks = record.masks()
        assert masks.areas.min() >= 100
        overlap = masks.iou()
        np.fill_diagonal(overlap, 0)
        assert overlap.max() < 0.8


def test_pools_have_the_published_sizes(data_root: Path) -> None:
    records = load_bsds500(data_root / "bsds500", "train", "all")
    assert (len(records), sum(len(item.load_annotations()) for item in records)) == (200, 22537)


def test_unmarked_regions_and_other_names(tmp_path: Path) -> None:
    image = {"id": 1, "file_name": "a.jpg", "height": 2, "width": 2}
    row = {"id": 5, "image_id": 1, "segmentation": {"size": [2, 2], "counts": [4]}}
    path = tmp_path / "bsds500_val.json"
    path.write_text(json.dumps({"images": [image], "annotations": [row]}))
    with pytest.raises(DataError, match="annotation 5 has no 'distinct'"):
        load_bsds500(tmp_path, "val")
    with pytest.raises(ValueError, match="'minival'"):
        load_bsds500(tmp_path, "minival")
