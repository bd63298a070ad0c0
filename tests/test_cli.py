"""The command line: quick help, one line and an exit code for every mistake."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unsam.cli import build_parser, main


def flags(parser: argparse.ArgumentParser, prefix: str = "") -> dict[str, list[str]]:
    """Return the flags of each command, without those of help; of commands of commands too."""
    result = {}
    for item in parser._actions:
        for name, sub in item.choices.items() if isinstance(item.choices, dict) else ():
            words = [flag for action in sub._actions for flag in action.option_strings]
            result[prefix + name] = sorted(set(words) - {"-h", "--help"})
            result |= flags(sub, f"{prefix}{name} ")
    return result


def test_the_surface_changes_only_on_purpose() -> None:
    merge = ["--image-root", "--max-iou", "--output", "--pseudo", "--strict"]
    training = ["--config-file", "--eval-only", "--max-restarts", "--num-gpus", "--resume"]
    assert flags(build_parser()) == {
        "pseudo-masks": [
            "--config-file",
            "--engine",
            "--format",
            "--image-root",
            "--input",
            "--num-shards",
            "--output",
            "--preset",
            "--samples-per-shard",
            "--shard-index",
            "--strict",
            "--workers",
        ],
        "gallery": ["--image-root", "--max-photos", "--output"],
        "convert-annotations": [
            "--image-root",
            "--input",
            "--output",
            "--rows-per-file",
            "--strict",
            "--to",
        ],
        "merge-masks": [],
        "merge-masks plus": sorted([*merge, "--human"]),
        "merge-masks self-training": sorted([*merge, "--min-score", "--predictions"]),
        "train": training,
        "eval": ["--allow-partial", "--config-file", "--num-gpus", "--predictions"],
        "convert-checkpoint": [
            "--allow-partial",
            "--config-file",
            "--merge-lora",
            "--opts",
            "--to",
        ],
        "segment": [
            "--granularity",
            "--image-root",
            "--images",
            "--output",
            "--strict",
            "--weights",
        ],
        "fit": [
            "--config-file",
            "--ground-truth",
            "--images",
            "--masks",
            "--num-gpus",
            "--output",
            "--val-images",
        ],
        "quickstart": ["--config-file", "--images", "--output"],
        "configs": [],
    }


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_help_and_import_pull_in_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "cv2", "numba", "transformers", "fvcore"}
    assert not loaded_by("import unsam") & heavy
    assert not loaded_by("from unsam.cli import build_parser; build_parser().format_help()") & heavy
    extras = {"wandb", "tensorboard", "gradio", "ray", "webdataset", "onnx", "onnxruntime"}
    assert not loaded_by("from unsam import Segmenter, MaskSet, get_cfg") & extras


def test_configs_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    assert "quickstart/tiny.yaml" in capsys.readouterr().out.split()


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("unsam: error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["train", "--config-file", "nowhere.yaml"], 2, "no such config file"),
        (["train", "--config-file", "Base.yaml", "SEEED", "1"], 2, "'SEED'"),
        (["eval", "--config-file", "Base.yaml", "SEED"], 2, "KEY VALUE"),
        (["pseudo-masks", "--input", "nowhere", "--output", "out"], 1, "nowhere"),
        (["quickstart", "--images", "nowhere", "--output", "out"], 1, "nowhere"),
        (["fit", "--images", "nowhere", "--output", "out"], 1, "nowhere"),
        (["segment", "--images", "no", "--output", "out", "--weights", "w.pth"], 1, "no"),
        (["pseudo-masks", "--input", ".", "--output", "out", "--preset", "sam"], 2, "unsamv2"),
        (["gallery", "nowhere"], 1, "nowhere"),
        (
            ["convert-annotations", "--input", "nowhere", "--output", "o", "--to", "tsv"],
            1,
            "nowhere",
        ),
        (["convert-checkpoint", "nowhere.pth", "out"], 1, "nowhere.pth"),
        (["merge-masks", "plus", "--human", "no", "--pseudo", "no", "--output", "o"], 1, "no"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    code: int,
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    assert part in one_line(capsys)


def test_a_corrupt_photo_is_a_warning_and_with_strict_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:30, 20:40] = (250, 30, 30)
    Image.fromarray(pixels).save(photos / "good.png")
    (photos / "bad.jpg").write_bytes(b"\xff\xd8 no photo")
    words = ["pseudo-masks", "--input", str(photos), "--output", str(tmp_path / "out")]
    assert main([*words, "--workers", "1"]) == 0
    output = capsys.readouterr()
    assert "1 photos" in output.out
    assert "bad.jpg" in output.err
    assert main([*words, "--workers", "1", "--strict"]) == 1
