"""From a folder to a segmenter: what is there at the end, what a rerun repeats, what it refuses."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from PIL import Image

import unsam.evaluation
import unsam.fit.report
from unsam.engine import Trainer
from unsam.inference import Segmenter
from unsam.inference.folder import digest_of_weights
from unsam.structures import read_photo


def stage(out: Path) -> dict[str, Any]:
    return json.loads((out / "fit.json").read_text())


def times(out: Path) -> dict[Path, int]:
    """Return when each file that a finished rerun must not touch was written."""
    files = [*(out / "pseudo_masks").rglob("*.png.json"), out / "report.html"]
    return {path: path.stat().st_mtime_ns for path in files}


def test_photos_become_a_segmenter_and_a_rerun_repeats_nothing(
    run, photos: Path, truth: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--images", photos, "--output", out, "--ground-truth", truth)
    assert run(*words) == (0, "")
    facts = stage(out)
    assert facts["stage"] == "finished"
    assert facts["unusable_photos"].keys() == {"bad.jpg"}
    assert (facts["training"]["photos"], facts["training"]["held_out_photos"]) == (3, 1)

    rows = json.loads((out / "results.json").read_text())["results"]
    assert rows.keys() == {"trained model", "its teacher (pseudo masks)"}
    teacher = rows["its teacher (pseudo masks)"]["ground truth"]
    assert {"AR@1000", "masks_per_photo", "iou1@g0.5", "noc80@g0.5"} <= teacher.keys()
    page = (out / "report.html").read_text()
    # A photo, its pseudo masks at four granularities, the model's at three, four clicks.
    assert page.count("<img") == 12
    assert "bad.jpg" in page
    assert "its teacher" in page
    photo = photos / "0.png"
    segmenter = Segmenter.from_pretrained(out / "run" / "model.safetensors")
    assert segmenter.generate(read_photo(photo)).size == (128, 128)

    before, steps = times(out), (out / "run" / "metrics.jsonl").read_text()
    assert run(*words) == (0, "")
    assert times(out) == before
    assert (out / "run" / "metrics.jsonl").read_text() == steps
    assert stage(out) == facts


class Killed(BaseException):
    """Stands for the end of the process."""


def kill(*arguments: Any, **keywords: Any) -> None:
    raise Killed


def test_whatever_stage_is_killed_a_rerun_ends_the_same(
    run, masks: Path, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--masks", masks, "--ground-truth", truth, "--output")
    assert run(*words, tmp_path / "whole")[0] == 0

    step, evaluate, measured = Trainer._step, unsam.evaluation.evaluate, []

    def step_once(self: Trainer, *rest: Any) -> None:
        step(self, *rest) if self.iteration == 0 else kill()

    def evaluate_once(cfg: Any, segmenter: Any) -> Any:
        measured.append(cfg.EVALUATION.SEGMENTER)
        return evaluate(cfg, segmenter) if len(measured) != 2 else kill()

    out = tmp_path / "killed"
    for place, name, deadly in (
        (Trainer, "_step", step_once),
        (unsam.evaluation, "evaluate", evaluate_once),
        (unsam.fit.report, "write_report", kill),
    ):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(place, name, deadly)
            run(*words, out)
    monkeypatch.setattr(unsam.evaluation, "evaluate", kill)
    assert run(*words, out)[0] == 0
    # Held-out photos, then the truth, on which the run was killed.
    assert measured == ["model", "model"]
    ends = [
        digest_of_weights(safetensors.torch.load_file(folder / "run" / "model.safetensors"))
        for folder in (tmp_path / "whole", out)
    ]
    assert ends[0] == ends[1]
    assert stage(out) == stage(tmp_path / "whole")


def test_a_run_with_other_photos_masks_or_model_is_refused(
    run, photos: Path, masks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run("--masks", masks, "--output", out)[0] == 0
    fewer = tmp_path / "fewer"
    shutil.copytree(masks, fewer)
    manifest = json.loads((fewer / "manifest.json").read_text())
    del manifest["images"]["0.png"]
    (fewer / "manifest.json").write_text(json.dumps(manifest))
    code, line = run("--masks", fewer, "--output", out)
    assert code == 2
    assert "begun with 3 photos, now there are 2" in line
    assert f"--masks {fewer} --output ANOTHER" in line
    code, line = run("--masks", masks, "--output", out, "MODEL.EMBED_DIM", "64")
    assert code == 2
    assert "MODEL.EMBED_DIM 128 -> 64" in line
    code, line = run("--images", photos, "--output", out, "PSEUDO_MASKS.MIN_AREA_SHARE", "0.01")
    assert code == 2
    assert "other PSEUDO_MASKS settings" in line
    assert not (out / "pseudo_masks").exists()
    # A longer training goes on.
    assert run("--masks", masks, "--output", out, "SOLVER.BASE_LR", "0.01")[0] == 0


def test_photos_can_be_held_out_by_name_if_they_are_others(
    run, photos: Path, masks: Path, tmp_path: Path
) -> None:
    val = tmp_path / "val"
    val.mkdir()
    Image.open(photos / "0.png").transpose(Image.Transpose.ROTATE_90).save(val / "turned.png")
    words = ("--masks", masks, "--val-images", val, "--output", tmp_path / "out")
    assert run(*words)[0] == 0
    counts = stage(tmp_path / "out")["training"]
    assert (counts["photos"], counts["held_out_photos"]) == (4, 1)
    shutil.copy(photos / "2.png", val / "copy.png")
    code, line = run(*words)
    assert code == 1
    assert "1 photos to hold out are among those to train on (first: copy.png)" in line


def test_photos_that_cannot_do_are_one_line_at_once(
    run, photos: Path, masks: Path, tmp_path: Path
) -> None:
    single = tmp_path / "single"
    single.mkdir()
    shutil.copy(photos / "0.png", single)
    two = shutil.copytree(single, tmp_path / "two")
    shutil.copy(photos / "2.png", two)
    out = tmp_path / "out"
    for words, part in (
        (("--output", out), "no photos; name a folder"),
        (("--images", "nowhere", "--output", out), "nowhere"),
        (("--images", single, "--output", out), "at least 2 are needed"),
        (("--images", single, "--output", single / "out"), "lies within the photos"),
        (("--masks", masks, "--images", two, "--output", out), "not of those in"),
        (("--masks", masks, "--output", out, "--ground-truth", "no.json"), "no.json"),
    ):
        code, line = run(*words)
        assert code == 1
        assert part in line
    assert not (out / "run").exists()


def test_a_full_disk_is_one_line(
    run, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, line = run("--masks", masks, "--output", tmp_path / "out")
    assert code == 1
    assert "No space left on device" in line


def test_torchrun_is_refused(
    run, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("TORCHELASTIC_RUN_ID", "x")):
        monkeypatch.setenv(name, value)
    code, line = run("--masks", masks, "--output", tmp_path / "out")
    assert code == 2
    assert "--num-gpus N" in line
