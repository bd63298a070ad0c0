"""The mask file of one photo: any damage and any other origin is seen."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from divide_and_conquer.generation.records import RecordFacts, is_foreign, read_facts, write_record
from unsam.annotations.records import image_id_of
from unsam.structures import MaskSet

MADE_FROM = {"config": "c", "code_version": 1, "sha256": "s"}


@pytest.fixture(scope="module")
def text():
    grid = np.arange(24 * 32).reshape(24, 32)
    masks = MaskSet.from_masks(np.stack([grid % 7 < 3, grid > 200, grid > 0]), source="conquer")
    report = {"refinement": {"refined": 2, "failed": 1}}
    return write_record(masks, "a/grüße.jpg", MADE_FROM, report)


def test_a_record_is_sa1b_with_its_facts(text):
    record = json.loads(text)
    assert record["image"]["file_name"] == "a/grüße.jpg"
    assert record["image"]["image_id"] == image_id_of("a/grüße.jpg") < 2**48
    assert len(MaskSet.from_sa1b(record)) == 3
    assert read_facts(text, MADE_FROM) == RecordFacts("s", 3, {"refined": 2, "failed": 1})


def test_any_changed_byte_and_any_cut_is_seen(text):
    rng = random.Random(0)
    for _ in range(300):
        place = rng.randrange(len(text))
        other = rng.choice([c for c in '0a"}{, ' if c != text[place]])
        assert read_facts(text[:place] + other + text[place + 1 :], MADE_FROM) is None
        assert read_facts(text[:place], MADE_FROM) is None
    assert read_facts(text + "\n", MADE_FROM) is None


@pytest.mark.parametrize("key", MADE_FROM)
def test_another_origin_is_seen(text, key):
    assert read_facts(text, {**MADE_FROM, key: "other"}) is None


@pytest.mark.parametrize("foreign", ["", "{}", "[]", "null", '{"image": {}, "annotations": []}'])
def test_foreign_text_is_no_record(foreign):
    assert read_facts(foreign, MADE_FROM) is None


def test_foreign_json_is_told_from_a_damaged_mask_file(text):
    for foreign in ('{"shapes": []}', '[{"label": "cat"}]'):
        assert is_foreign(foreign)
    damaged = [text[:place] + "~" + text[place + 1 :] for place in range(0, len(text), 7)]
    for ours in [text, *damaged, text[:-9], "", "{}", "[]", "null", "3"]:
        assert not is_foreign(ours)
