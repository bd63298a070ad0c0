"""A record is checked once, when it is read, and is the same whatever file it came from."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.annotations.conftest import nested_masks
from unsam.annotations.records import (
    image_id_of,
    make_record,
    name_in_record,
    peek_image,
    photo_name,
    safe_name,
)
from unsam.errors import DataError


def raw() -> dict[str, Any]:
    return nested_masks(0).to_sa1b("a/b.jpg", image_id=7)


def test_a_record_keeps_masks_and_fields() -> None:
    record = make_record(raw(), "a/b.jpg", "here")
    assert record.masks() == nested_masks(0)
    assert record.has_granularity().all()
    assert record.to_json() == raw()


def test_polygons_and_plain_counts_become_rle() -> None:
    content = raw()
    content["annotations"] = [
        {"id": 1, "segmentation": [[0, 0, 10, 0, 10, 5, 0, 5]], "area": 49.5},
        {"id": 2, "segmentation": {"size": [24, 36], "counts": [24, 48, 792]}},
    ]
    record = make_record(content, "b.jpg", "here")
    first, second = record.to_json()["annotations"]
    assert record.shapes.areas.tolist() == [50, 48]
    assert first["area"] == 49.5
    assert second["area"] == 48
    assert second["bbox"] == [1, 0, 2, 24]
    assert isinstance(second["segmentation"]["counts"], str)


def test_crowd_regions_travel_but_are_no_masks() -> None:
    content = raw()
    content["annotations"][1]["iscrowd"] = 1
    record = make_record(content, "b.jpg", "here")
    assert len(record.shapes) == 5
    assert len(record.masks()) == len(record.has_granularity()) == 4
    assert record.to_json()["annotations"][1]["iscrowd"] == 1


def test_repeated_ids_are_counted_anew_and_names_keep_their_parents() -> None:
    content = raw()
    for item in content["annotations"]:
        item["id"] = 1
    record = make_record(content, "b.jpg", "here")
    assert [item["id"] for item in record.annotations] == [1, 2, 3, 4, 5]
    assert record.masks().parent.tolist() == [-1] * 5
    content = raw()
    for item in content["annotations"]:
        item["id"], item["parent_id"] = f"m{item['id']}", f"m{item['parent_id']}"
    assert make_record(content, "b.jpg", "here").masks() == nested_masks(0)


def test_unsamv2_labels_get_a_source_and_lose_nan() -> None:
    content = raw()
    for item in content["annotations"]:
        del item["source"]
        item["is_divide"] = item["parent_id"] == -1
    content["annotations"][2]["granularity"] = float("nan")
    record = make_record(content, "b.jpg", "here")
    assert record.masks().source.tolist() == ["divide"] + ["conquer"] * 4
    assert np.flatnonzero(~record.has_granularity()).tolist() == [2]
    json.dumps(record.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("image"), "expected 'image'"),
        (lambda c: c["image"].update(height="tall"), "expected 'image'"),
        (lambda c: c["image"].update(height=0), "36x0 pixels"),
        (lambda c: c.update(image={"height": 10**6, "width": 10**6}, annotations=[]), "2.31"),
        (lambda c: c.update(annotations=[3]), "not a JSON object"),
        (lambda c: c["annotations"][0].pop("segmentation"), "annotation 1: no segmentation"),
        (lambda c: c["annotations"][3].update(granularity="fine"), "wrong kind"),
        (
            lambda c: c["annotations"][3].update(segmentation={"size": [2, 2], "counts": "4"}),
            "size",
        ),
        (lambda c: c["annotations"][4].update(segmentation="x"), "annotation 5"),
    ],
)
def test_broken_records_are_one_line_with_their_place(change: Any, message: str) -> None:
    content = raw()
    change(content)
    with pytest.raises(DataError, match=message) as caught:
        make_record(content, "b.jpg", "file.tsv line 3")
    assert str(caught.value).startswith("file.tsv line 3: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a.jpg", "a/../../b.jpg", "a\0.jpg"])
def test_names_stay_below_their_folder(name: str) -> None:
    with pytest.raises(DataError, match="not a path below a folder"):
        safe_name(name)


def test_names_come_from_the_record_and_its_place() -> None:
    assert photo_name("sa_000001/sa_5", "sa_5.jpg") == "sa_000001/sa_5.jpg"
    assert photo_name("a/b.jpg", "a/b.jpg") == "a/b.jpg"
    assert photo_name("sa_5", "/home/x/sa_5.jpg") == "sa_5.jpg"
    assert photo_name("a/b.jpg", None) == "a/b.jpg"
    assert safe_name("./a/ünï.jpg") == "a/ünï.jpg"


def test_the_name_is_found_in_the_first_bytes_or_in_all() -> None:
    text = json.dumps(raw()).encode()
    head = text[:200]
    assert peek_image(head) == raw()["image"]

    def not_needed() -> bytes:
        raise AssertionError

    assert name_in_record(head, not_needed, "x") == "a/b.jpg"
    late = json.dumps({"info": {}, **raw()}).encode()
    assert name_in_record(late[:20], lambda: late, "x") == "a/b.jpg"
    assert name_in_record(b"garb", lambda: b"garbage", "x") == "x"


def test_photos_without_a_number_get_one_from_their_name() -> None:
    content = raw()
    del content["image"]["image_id"]
    assert make_record(content, "b.jpg", "here").image["image_id"] == image_id_of("b.jpg")
    content["image"]["id"] = 12
    record = make_record(content, "b.jpg", "here")
    assert record.image == {"image_id": 12, "file_name": "b.jpg", "width": 36, "height": 24}
