"""UnSAM+ and self-training merges keep what their rules say, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from divide_and_conquer.granularity import granularity_of_trees
from tests.annotations.conftest import nested_masks, records_of
from unsam.annotations.convert import convert_annotations
from unsam.annotations.merge import merge_self_training, merge_unsam_plus
from unsam.data import get_dataset
from unsam.errors import DataError
from unsam.structures import MaskSet


def shifted(masks: MaskSet, pixels: int) -> MaskSet:
    """Other masks of the same photo: the same ones, some pixels to the right."""
    dense = np.roll(masks.masks(), pixels, axis=2)
    score = np.linspace(0, 1, len(masks), dtype=np.float32)
    return MaskSet.from_masks(dense, source="conquer", score=score, granularity=0.25)


def rows_of(masks: MaskSet) -> list[bytes]:
    return sorted(rle["counts"] for rle in masks.rles)


@pytest.fixture
def real(
    some_of: Callable[..., Path], make_folder: Callable[..., Path], request: pytest.FixtureRequest
) -> tuple[Path, Path]:
    """Masks by people, and made-up pseudo masks of the same photos."""
    human = some_of(*request.param)
    masks = {name: record.masks() for name, record in records_of(human).items()}
    pseudo = make_folder("pseudo", {name: shifted(item, 9) for name, item in masks.items()})
    return human, pseudo


SETS = [
    ("bsds500", "bsds500_val.json", 3),
    ("coco", "coco_val.json", 8),
    ("clothing_parts", "clothing_parts_val.json", 3),
]


@pytest.mark.parametrize("real", SETS, indirect=True, ids=[name for name, *_ in SETS])
def test_plus_keeps_all_human_masks_and_only_pseudo_masks_beside_them(
    real: tuple[Path, Path], tmp_path: Path
) -> None:
    human, pseudo = real
    manifest = merge_unsam_plus(*real, tmp_path / "out", granularity_of=granularity_of_trees)
    assert manifest["failures"] == {}
    merged, people, made = (records_of(path) for path in (tmp_path / "out", human, pseudo))
    assert merged.keys() == people.keys()
    kept = 0
    for name, record in merged.items():
        masks = record.masks()
        is_human = masks.source == "human"
        assert rows_of(masks.filter(is_human)) == rows_of(people[name].masks())
        others = masks.filter(~is_human)
        assert set(others.source) <= {"conquer"}
        if len(others):
            assert others.iou(masks.filter(is_human)).max() <= 0.02
        best = made[name].masks().iou(people[name].masks()).max(axis=1)
        assert len(others) == (best <= 0.02).sum()
        assert (others.granularity == np.float32(0.25)).all()
        kept += len(others)
        inner = masks.parent >= 0
        inside = masks.containment()[np.arange(len(masks)), masks.parent]
        assert (inside[inner] >= 0.9).all()
    assert kept


@pytest.mark.parametrize("real", SETS[1:2], indirect=True)
def test_plus_with_a_bound_of_one_is_the_union(real: tuple[Path, Path], tmp_path: Path) -> None:
    human, pseudo = real
    merge_unsam_plus(*real, tmp_path, granularity_of=granularity_of_trees, max_iou=1)
    for name, record in records_of(tmp_path).items():
        both = [records_of(path)[name].masks() for path in (human, pseudo)]
        assert rows_of(record.masks()) == sorted(rows_of(both[0]) + rows_of(both[1]))


@pytest.mark.parametrize("real", SETS[2:], indirect=True)
def test_human_masks_get_their_granularity_within_the_union(
    real: tuple[Path, Path], tmp_path: Path
) -> None:
    merge_unsam_plus(*real, tmp_path, granularity_of=granularity_of_trees)
    for record in records_of(tmp_path).values():
        masks = record.masks()
        expected = granularity_of_trees(masks.areas, masks.parent)
        is_human = masks.source == "human"
        assert np.array_equal(masks.granularity[is_human], expected[is_human])
        assert masks.granularity[is_human].min() < 0.5 < masks.granularity[is_human].max()


@pytest.mark.parametrize("real", SETS[:2], indirect=True)
def test_self_training_with_no_sure_prediction_changes_no_mask(
    real: tuple[Path, Path], tmp_path: Path
) -> None:
    human, pseudo = real
    merge_self_training(pseudo, human, tmp_path, granularity_of=granularity_of_trees, min_score=1.0)
    start, end = records_of(pseudo), records_of(tmp_path)
    assert {name: item.masks() for name, item in end.items()} == {
        name: item.masks() for name, item in start.items()
    }


@pytest.mark.parametrize("real", SETS[1:2], indirect=True)
def test_self_training_replaces_what_sure_predictions_overlap(
    real: tuple[Path, Path], tmp_path: Path
) -> None:
    human, pseudo = real
    out = tmp_path / "out"
    merge_self_training(human, pseudo, out, granularity_of=granularity_of_trees)
    replaced = 0
    for name, record in records_of(out).items():
        old, predicted = records_of(human)[name].masks(), records_of(pseudo)[name].masks()
        sure = predicted.filter(predicted.score > 0.7)
        best = old.iou(sure).max(axis=1) if len(sure) else np.zeros(len(old))
        want = sorted(rows_of(old.filter(best <= 0.5)) + rows_of(sure))
        assert rows_of(record.masks()) == want
        replaced += int((best > 0.5).sum())
    assert replaced


def test_sources_are_kept_and_given(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    made = make_folder("made", {"a.jpg": nested_masks(0)})
    path = made / "a.jpg.json"
    content = json.loads(path.read_text())
    for item in content["annotations"]:
        item.pop("source")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "a.json").write_text(json.dumps(content))
    photos = tmp_path / "made_photos"
    options = {"granularity_of": granularity_of_trees, "image_root": photos}
    merge_unsam_plus(bare, made, tmp_path / "plus", max_iou=1.0, **options)
    (plus,) = records_of(tmp_path / "plus").values()
    own = nested_masks(0).source.tolist()
    assert plus.masks().source.tolist() == ["human"] * 5 + own
    merge_self_training(made, bare, tmp_path / "st", min_score=0, max_iou=1, **options)
    (trained,) = records_of(tmp_path / "st").values()
    assert trained.masks().source.tolist() == own + ["model"] * 5
    merge_self_training(bare, made, tmp_path / "st2", min_score=0, max_iou=1, **options)
    (trained,) = records_of(tmp_path / "st2").values()
    assert trained.masks().source.tolist() == ["conquer"] * 5 + own


def test_the_manifest_says_whether_people_had_a_hand_in_it(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    alone = nested_masks(0).replace(source="conquer")
    one, other = (make_folder(name, {"a.jpg": alone}) for name in ("one", "other"))
    rule = {"granularity_of": granularity_of_trees}
    assert not merge_self_training(one, other, tmp_path / "a", **rule)["supervised"]
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "supervised": True}))
    assert merge_self_training(one, other, tmp_path / "b", **rule)["supervised"]
    human = make_folder("human", {"a.jpg": nested_masks(0)})
    assert merge_unsam_plus(human, one, tmp_path / "c", **rule)["supervised"]


def test_photos_of_one_side_are_kept_and_the_rest_matched_by_name(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    human = make_folder("human", {"val/1.jpg": nested_masks(0), "val/2.jpg": nested_masks(1)})
    pseudo = make_folder("pseudo", {"1.jpg": nested_masks(2)})
    manifest = merge_unsam_plus(
        human, pseudo, tmp_path / "out", granularity_of=granularity_of_trees, max_iou=1
    )
    # The photos of the human masks are all there, those of the pseudo masks are not.
    assert manifest["image_root"] == str(tmp_path / "human_photos")
    records = get_dataset(str(tmp_path / "out"))
    assert [len(record.masks()) for record in records] == [10, 5]
    assert records[1].masks() == nested_masks(1)
    manifest = merge_unsam_plus(
        human,
        pseudo,
        tmp_path / "out2",
        granularity_of=granularity_of_trees,
        image_root=tmp_path / "pseudo_photos",
    )
    assert list(manifest["images"]) == ["1.jpg"]
    assert "--image-root" in manifest["failures"]["val/2.jpg"]


@pytest.mark.parametrize(
    "formats", [("coco", "tsv"), ("webdataset", "json"), ("tsv", "webdataset")]
)
def test_any_formats_merge_to_the_same_masks(
    make_folder: Callable[..., Path], tmp_path: Path, formats: tuple[str, str]
) -> None:
    human = make_folder("human", {"a/1.jpg": nested_masks(0), "b.c.png": nested_masks(1)})
    pseudo = make_folder("pseudo", {"a/1.jpg": nested_masks(3), "b.c.png": nested_masks(4)})
    rule = {"granularity_of": granularity_of_trees, "max_iou": 0.4}
    merge_unsam_plus(human, pseudo, tmp_path / "want", **rule)
    for source, to in zip((human, pseudo), formats, strict=True):
        convert_annotations(source, tmp_path / f"{source.name}_{to}", to)
    inputs = [tmp_path / f"human_{formats[0]}", tmp_path / f"pseudo_{formats[1]}"]
    merge_unsam_plus(*inputs, tmp_path / "out", **rule)
    for name in ("a/1.jpg.json", "b.c.png.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "want" / name).read_bytes()
    assert len(get_dataset(str(tmp_path / "out"))) == 2


def test_failures_are_recorded_by_photo(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    names = ("1.jpg", "2.jpg", "3.jpg")
    human = make_folder("human", {name: nested_masks(0) for name in names})
    turned = make_folder("turned", {"1.jpg": nested_masks(0, (36, 24))})
    pseudo = make_folder("pseudo", {name: nested_masks(1) for name in names})
    (pseudo / "1.jpg.json").write_bytes((turned / "1.jpg.json").read_bytes())
    os.truncate(pseudo / "2.jpg.json", 800)
    rule = {"granularity_of": granularity_of_trees}
    manifest = merge_unsam_plus(human, pseudo, tmp_path / "out", **rule)
    assert list(manifest["images"]) == ["3.jpg"]
    assert "two sizes, 24x36 and 36x24" in manifest["failures"]["1.jpg"]
    assert "truncated" in manifest["failures"]["2.jpg"]
    assert manifest["counts"] == {"photos": 3, "done": 1, "failed": 2, "masks": 5}
    assert len(get_dataset(str(tmp_path / "out"))) == 1
    with pytest.raises(DataError, match=r"2 of 3 photos could not be merged \(1\.jpg: masks for"):
        merge_unsam_plus(human, pseudo, tmp_path / "out", **rule, strict=True)


def test_a_crash_leaves_whole_files_and_a_rerun_completes(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number}.jpg" for number in range(4)]
    human = make_folder("human", {name: nested_masks(0) for name in names})
    pseudo = make_folder("pseudo", {name: nested_masks(1) for name in names})
    rule = {"granularity_of": granularity_of_trees, "max_iou": 0.3}
    merge_unsam_plus(human, pseudo, tmp_path / "want", **rule)
    real, calls = os.replace, iter([None, None])

    class CrashError(Exception):
        pass

    def crash(source: str, target: str) -> None:
        if next(calls, CrashError) is CrashError:
            raise CrashError
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(CrashError):
            merge_unsam_plus(human, pseudo, tmp_path / "out", **rule)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0.jpg.json",
        "1.jpg.json",
    ]
    merge_unsam_plus(human, pseudo, tmp_path / "out", **rule)
    for path in (tmp_path / "want").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_wrong_arguments(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    human = make_folder("human", {"a.jpg": nested_masks(0)})
    rule = {"granularity_of": granularity_of_trees}
    with pytest.raises(DataError, match="one of the inputs"):
        merge_unsam_plus(human, human, human, **rule)
    with pytest.raises(DataError, match=r"max_iou must lie in \[0, 1\], got 2"):
        merge_unsam_plus(human, human, tmp_path / "out", **rule, max_iou=2)
    with pytest.raises(DataError, match="output is an empty name"):
        merge_unsam_plus(human, human, "", **rule)
    (tmp_path / "tsv").mkdir()
    (tmp_path / "tsv/SAM-0.tsv").write_text("")
    with pytest.raises(DataError, match="holds masks as tsv"):
        merge_unsam_plus(human, human, tmp_path / "tsv", **rule)
    with pytest.raises(DataError, match="min_score"):
        merge_self_training(human, human, tmp_path / "out", **rule, min_score=-1)
    with pytest.raises(DataError, match="no such file or folder"):
        merge_unsam_plus(tmp_path / "gone", human, tmp_path / "out", **rule)
    (tmp_path / "x.json").write_bytes(b'{"images": [')
    with pytest.raises(DataError, match=r"x\.json: truncated"):
        merge_unsam_plus(tmp_path / "x.json", human, tmp_path / "out", **rule)
    assert not (tmp_path / "out").exists()


def test_masks_without_a_pixel_are_left_out(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    masks = nested_masks(0)
    pseudo = make_folder("pseudo", {"a.jpg": masks})
    point, square = [[3, 3, 3, 3, 3, 3]], [[2, 2, 9, 2, 9, 9, 2, 9]]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 36, "height": 24}],
        "annotations": [
            {"id": number, "image_id": 1, "segmentation": polygons}
            for number, polygons in enumerate([point, square], start=1)
        ],
    }
    (tmp_path / "human.json").write_text(json.dumps(content))
    rule = {"granularity_of": granularity_of_trees, "image_root": tmp_path / "pseudo_photos"}
    merge_unsam_plus(tmp_path / "human.json", pseudo, tmp_path / "out", max_iou=1, **rule)
    merged = records_of(tmp_path / "out")["a.jpg"].masks()
    assert len(merged) == len(masks) + 1
    assert (merged.areas > 0).all()
