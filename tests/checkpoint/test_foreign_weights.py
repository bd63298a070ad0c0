"""Weights files of other projects: what is let through, and that nothing in them runs."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import safetensors.torch
import torch

from unsam.checkpoint.foreign_weights import read_foreign_weights
from unsam.errors import CheckpointError


class Forbidden:
    def __reduce__(self):
        return (print, ("code ran",))


def test_tensors_arrays_and_command_lines_are_let_through(tmp_path):
    content = {
        "teacher": {"weight": torch.arange(3.0)},
        "model": {"bias": np.arange(4.0, dtype=np.float32)},
        "args": argparse.Namespace(arch="vit_small"),
    }
    torch.save(content, tmp_path / "a.pth")
    read = read_foreign_weights(tmp_path / "a.pth")
    assert torch.equal(read["teacher"]["weight"], torch.arange(3.0))
    np.testing.assert_array_equal(read["model"]["bias"], np.arange(4.0))
    assert read["args"].arch == "vit_small"
    safetensors.torch.save_file({"weight": torch.ones(2)}, tmp_path / "a.safetensors")
    assert torch.equal(read_foreign_weights(tmp_path / "a.safetensors")["weight"], torch.ones(2))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut off"])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_other_files_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name) as caught:
        read_foreign_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_and_nameless_weights(tmp_path):
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_foreign_weights(tmp_path / "a.pth")
    torch.save([torch.ones(1)], tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="found a list"):
        read_foreign_weights(tmp_path / "a.pth")


def test_code_in_a_file_does_not_run(tmp_path, capsys):
    torch.save({"teacher": Forbidden()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="refused"):
        read_foreign_weights(tmp_path / "a.pth")
    assert "code ran" not in capsys.readouterr().out
