from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from divide_and_conquer.granularity import granularity_of_trees
from unsam.data import get_dataset
from unsam.data.preparation.sa1b import prepare_sa1b
from unsam.errors import DataError


@pytest.fixture
def tars(data_root: Path, tmp_path: Path) -> Path:
    """Two tars of one photo each, with the fields of SA-1B."""
    folder = tmp_path / "tars"
    folder.mkdir()
    for number in (1, 2):
        with tarfile.open(folder / f"sa_00000{number}.tar", "w") as tar:
            for suffix in (".jpg", ".json"):
                name = f"layout_00000{number}{suffix}"
                tar.add(data_root / "sa1b_layout" / name, f"./{name}")
    return folder


def test_masks_get_parents_and_granularity_and_keep_the_rest(tars: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = prepare_sa1b(tars, out, granularity_of=granularity_of_trees)
    assert line == f"2 tars in {out}, 0 of them were there"
    before, after = get_dataset(str(tars)), get_dataset(str(out))
    for raw, made in zip(before, after, strict=True):
        np.testing.assert_array_equal(raw.read_photo(), made.read_photo())
        old, new = raw.masks(), made.masks()
        np.testing.assert_array_equal(old.runs, new.runs)
        parent = old.with_parents(0.9).parent
        np.testing.assert_array_equal(new.parent, parent)
        expected = granularity_of_trees(old.areas, parent)
        np.testing.assert_allclose(new.granularity, expected, atol=1e-6)
        assert np.ptp(new.granularity) > 0.5
        for key in ("predicted_iou", "point_coords", "crop_box", "id"):
            assert [row[key] for row in raw.load_annotations()] == [
                row[key] for row in made.load_annotations()
            ]


def test_a_rerun_goes_on_where_the_last_one_ended(tars: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_sa1b(tars, out, granularity_of=granularity_of_trees, num_tars=1)
    first = out / "sa_000001.tar"
    assert [path.name for path in out.iterdir()] == [first.name]
    stamp = first.stat().st_mtime_ns
    line = prepare_sa1b(tars, out, granularity_of=granularity_of_trees)
    assert line.endswith("2 tars in " + str(out) + ", 1 of them were there")
    assert first.stat().st_mtime_ns == stamp
    assert len(get_dataset(str(out))) == 2


def test_damaged_tars_are_refused_and_leave_nothing(tars: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            prepare_sa1b(tars, out, granularity_of=granularity_of_trees)
        assert "\n" not in str(caught.value)
        assert not list(out.glob("*.tar"))

    first = tars / "sa_000001.tar"
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])
    refused(r"sa_000001\.tar: cut off within")
    record = json.loads(whole[whole.index(b'{"image"') :].split(b"\0")[0])
    with tarfile.open(first, "w") as tar:
        (tars / "a.json").write_text(json.dumps(record))
        tar.add(tars / "a.json", "./a.json")
    refused("no photo beside the masks")
    (tars / "a.jpg").write_bytes(b"\xff\xd8 no photo")
    with tarfile.open(first, "w") as tar:
        for name in ("a.jpg", "a.json"):
            tar.add(tars / name, f"./{name}")
    refused(r"sa_000001\.tar \(.*\): the photo is in no known format.*fetch the tar again")
    with pytest.raises(DataError, match=r"none: no such file"):
        prepare_sa1b(out.parent / "none", out, granularity_of=granularity_of_trees)
    with pytest.raises(DataError, match="another folder than that of the tars"):
        prepare_sa1b(tars, tars, granularity_of=granularity_of_trees)
