"""The scripts in datasets/ do what the functions do, and report errors in one line."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.preparation.conftest import coco_download  # noqa: F401
from unsam.data import get_dataset


def run_script(repository: Path, name: str, *words: object) -> int:
    """Run a script within this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, words)])
        script = repository / "datasets" / f"prepare_{name}.py"
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("coco", "coco_val"),
        ("lvis", "lvis_val"),
        ("entityseg", "entity_val"),
        ("partimagenet", "partimagenet_val"),
        ("paco", "paco_val"),
    ],
)
def test_coco_style(
    name: str,
    file: str,
    repository: Path,
    coco_download: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth, photos = coco_download
    words = ["--annotations", truth, "--images", photos, "--output", tmp_path / name]
    assert run_script(repository, name, *words) == 1
    assert "expected" in capsys.readouterr().err
    assert run_script(repository, name, *words, "--partial") == 0
    target = tmp_path / name / f"{file}.json"
    assert capsys.readouterr().out == f"2 photos, 3 masks in {target}\n"
    levels = [row["level"] for row in get_dataset(str(target))[1].load_annotations()]
    assert levels == {"paco": [0, 1], "partimagenet": [1, 1]}.get(name, [0, 0])


LISTED = ["--images", ".", "--masks", ".", "--list"]
PAIRED = ["--masks", ".", "--images"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ade20k", ["--images"]),
        ("bsds500", ["--raw"]),
        ("sa1b", ["--tars"]),
        ("sa1b", ["--split", "val", "--tars"]),
        ("grabcut", PAIRED),
        ("berkeley", PAIRED),
        ("davis", PAIRED),
        ("partimagenet", PAIRED),
        ("sbd", LISTED),
        ("pascalpart", LISTED),
        ("coco_panoptic", [*PAIRED, ".", "--annotations"]),
    ],
)
def test_the_others_name_what_is_not_there(
    name: str,
    words: list[str],
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_script(repository, name, *words, tmp_path / "no", "--output", tmp_path / "o") == 1
    text = capsys.readouterr().err
    assert text.startswith(f"unsam: error: {tmp_path / 'no'}")
    assert text.count("\n") == 1


def test_without_output_the_benchmark_is_written_where_its_name_reads_it(
    repository: Path,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    root = data_root / "davis"
    words = ["--images", root / "JPEGImages", "--masks", root / "Annotations"]
    assert run_script(repository, "davis", *words) == 1
    assert "found 14 photos, expected 345, 331 are missing" in capsys.readouterr().err
    assert run_script(repository, "davis", *words, "--partial") == 0
    assert (tmp_path / "davis" / "annotations" / "davis_val.json").is_file()
    made = get_dataset("unsam_davis_val")
    expected = [int(record.masks().areas[0]) for record in get_dataset("davis_val")]
    assert [int(record.masks().areas[0]) for record in made] == expected


def test_what_has_no_place_of_its_own_asks_for_output(
    repository: Path,
    coco_download: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    truth, photos = coco_download
    words = ["--annotations", truth, "--images", photos]
    assert run_script(repository, "coco", *words) == 1
    place = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    assert f"needs no preparation, it is read as downloaded: {place}" in capsys.readouterr().err
    assert run_script(repository, "lvis", *words, "--split", "train") == 1
    assert "lvis train is no benchmark" in capsys.readouterr().err
    assert run_script(repository, "bsds500", "--raw", tmp_path) == 1
    assert "bsds500 train is no benchmark" in capsys.readouterr().err
    assert run_script(repository, "sa1b", "--tars", tmp_path) == 2


def test_a_script_runs_on_its_own(repository: Path, data_root: Path, tmp_path: Path) -> None:
    """As a user calls it, with sa1b's rule for granularity."""
    tar, out = tmp_path / "sa_000000.tar", tmp_path / "out"
    names = [f"layout_000003{suffix}" for suffix in (".jpg", ".json")]
    subprocess.run(["tar", "-C", data_root / "sa1b_layout", "-cf", tar, *names], check=True)
    script = [sys.executable, repository / "datasets" / "prepare_sa1b.py"]
    done = subprocess.run(
        [*script, "--tars", tar, "--output", out], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"1 tars in {out}, 0 of them were there\n"
    (record,) = get_dataset(str(out))
    assert record.masks().granularity.min() < 0.2
