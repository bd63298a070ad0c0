"""What lies in the output folder already and is not of this command: it is not lost."""

from __future__ import annotations

import json
import os

import pytest

from divide_and_conquer.generate import generate_pseudo_masks
from unsam.annotations.convert import convert_annotations
from unsam.errors import ConfigError, DataError


@pytest.fixture
def run(tiny_cfg, in_process, tmp_path, save_photo):
    save_photo(tmp_path / "in/a.jpg")

    def call(target, **options):
        return generate_pseudo_masks(
            tmp_path / "in", target, tiny_cfg, 1, progress=False, **options
        )

    return call


def test_annotations_of_another_tool_beside_the_photos_are_kept(run, tmp_path):
    theirs = tmp_path / "in/a.jpg.json"
    for number, text in enumerate(['{"shapes": [1]}', '[{"label": "cat"}]'], start=1):
        theirs.write_text(text)
        assert run(tmp_path / "in")["counts"]["done"] == 1
        assert json.loads(theirs.read_text())["made_from"]
        assert (tmp_path / f"in/a.jpg.json.old{number}").read_text() == text
    run(tmp_path / "in")
    assert len(list((tmp_path / "in").iterdir())) == 5


def test_masks_of_another_command_are_not_written_over(run, tmp_path):
    run(tmp_path / "out")
    convert_annotations(tmp_path / "out", tmp_path / "converted", "json")
    before = (tmp_path / "converted/a.jpg.json").read_bytes()
    with pytest.raises(DataError, match=r"manifest\.json: what another command .* choose another"):
        run(tmp_path / "converted")
    assert (tmp_path / "converted/a.jpg.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "{}", "[]"])
def test_a_broken_manifest_is_no_obstacle(run, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/manifest.json").write_text(text)
    assert run(tmp_path / "out")["counts"]["done"] == 1


@pytest.mark.parametrize(("first", "second"), [("json", "webdataset"), ("webdataset", "json")])
def test_the_two_outputs_are_not_mixed(run, tmp_path, first, second):
    run(tmp_path / "out", output_format=first)
    with pytest.raises(DataError, match=f"holds masks as {first}, not {second}"):
        run(tmp_path / "out", output_format=second)


def test_an_empty_output_name_is_refused(run):
    with pytest.raises(DataError, match="output is an empty name"):
        run("")


def test_an_unknown_device_is_refused_by_every_config(run, tiny_cfg, tmp_path):
    cfg = tiny_cfg.clone()
    cfg.DEVICE = "tpu"
    with pytest.raises(ConfigError, match="unknown device 'tpu'"):
        generate_pseudo_masks(tmp_path / "in", tmp_path / "out", cfg, progress=False)


def test_pipes_are_failures_and_do_not_hold_up_the_run(run, tmp_path):
    os.mkfifo(tmp_path / "in/pipe.jpg")
    manifest = run(tmp_path / "out")
    assert list(manifest["images"]) == ["a.jpg"]
    assert "pipe or device" in manifest["failures"]["pipe.jpg"]


def test_masks_that_are_read_are_not_written_over(run, tiny_cfg, tmp_path):
    run(tmp_path / "out")
    before = (tmp_path / "out/a.jpg.json").read_bytes()
    cfg = tiny_cfg.clone()
    cfg.PSEUDO_MASKS.DIVIDE.GIVEN_MASKS = str(tmp_path / "out")
    with pytest.raises(DataError, match="the output is PSEUDO_MASKS"):
        generate_pseudo_masks(tmp_path / "in", tmp_path / "out", cfg, progress=False)
    assert (tmp_path / "out/a.jpg.json").read_bytes() == before
