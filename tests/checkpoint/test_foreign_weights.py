"""Weights files of other projects: what is let through, and that nothing in them runs."""

from __future__ import annotations

import argparse
import os
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

from unsam.checkpoint.foreign_weights import read_foreign_weights, read_weights_file
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

    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="found an empty dict"):
        read_foreign_weights(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, device="meta"),
    ],
    ids=["sparse", "complex", "meta"],
)
def test_tensors_that_are_no_plain_numbers_are_named(tmp_path, tensor):
    torch.save({"good": torch.ones(1), "odd": tensor}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth: .*odd.*real numbers") as caught:
        read_weights_file(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


def test_code_in_a_file_does_not_run(tmp_path, capsys):
    torch.save({"teacher": Forbidden()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="refused"):
        read_foreign_weights(tmp_path / "a.pth")
    assert "code ran" not in capsys.readouterr().out


def write_pickle(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_detectron2(tmp_path, protocol):
    arrays = {
        "stem.conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "count": np.int64(3),
        "half": np.asfortranarray(np.arange(4, dtype=np.float16).reshape(2, 2)),
        "swapped": np.arange(3, dtype=">f4"),
    }
    content = {"model": arrays, "__author__": "someone", "matching_heuristics": True}
    path = write_pickle(tmp_path / "weights.pkl", content, protocol)
    assert read_foreign_weights(path)["__author__"] == "someone"
    read = read_weights_file(path).tensors
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name].numpy(), array)


class MakesFile:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


class CallsSystem:
    def __reduce__(self):
        return (os.system, ("true",))


@pytest.mark.parametrize("name", ["weights.pkl", "weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("as_torch", [True, False])
def test_a_pickle_that_would_run_code_is_refused_by_name(tmp_path, name, as_torch):
    path, made = tmp_path / name, tmp_path / "made"
    content = {"model": {"a": MakesFile(made)}}
    if as_torch:
        torch.save(content, path)
    else:
        write_pickle(path, content)
    with pytest.raises(CheckpointError, match=r"refused: holds [a-z_]*io\.open, which could run"):
        read_foreign_weights(path)
    assert not made.exists()
    write_pickle(path, {"model": CallsSystem()})
    with pytest.raises(CheckpointError, match=r"holds (posix|nt)\.system"):
        read_foreign_weights(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02cnumpy\ndtype\n(X\x01\x00\x00\x00OtR.",
        b"\x80\x02cnumpy\nndarray\n(K\x03tR.",
        b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00zliptR.",
        b"\x80\x02Pelsewhere\n.",
        b"\x80\x02cunsam.checkpoint\natomic\n.",
    ],
)
def test_what_arrays_do_not_need_is_refused(tmp_path, content):
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights.pkl: (refused|damaged)") as caught:
        read_foreign_weights(path)
    assert "\n" not in str(caught.value)


def test_arrays_of_objects_are_no_weights(tmp_path):
    path = write_pickle(tmp_path / "a.pkl", {"a": np.array([{}], dtype=object)})
    with pytest.raises(CheckpointError, match="refused: holds an array of object"):
        read_foreign_weights(path)


@pytest.mark.parametrize("new_name", ["model.pth", "model.pkl", "model.safetensors", "model"])
def test_the_name_of_a_file_does_not_matter(tmp_path, new_name):
    tensors = {"weight": torch.arange(3.0)}
    torch.save(tensors, tmp_path / "torch")
    torch.save(tensors, tmp_path / "old", _use_new_zipfile_serialization=False)
    write_pickle(tmp_path / "pickle", {"weight": np.arange(3, dtype=np.float32)})
    safetensors.torch.save_file(tensors, tmp_path / "safe")
    for kind in ("torch", "old", "pickle", "safe"):
        path = (tmp_path / kind).rename(tmp_path / new_name)
        assert torch.equal(read_weights_file(path).tensors["weight"], tensors["weight"]), kind


def test_truncated_files_are_named_so(tmp_path):
    tensors = {"weight": torch.arange(3000.0)}
    torch.save(tensors, tmp_path / "torch")
    write_pickle(tmp_path / "pickle", {"weight": np.arange(3000.0)})
    safetensors.torch.save_file(tensors, tmp_path / "safe")
    for kind in ("torch", "pickle", "safe"):
        path = tmp_path / kind
        whole = path.read_bytes()
        for length in (20, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(CheckpointError, match="truncated") as caught:
                read_foreign_weights(path)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\n<!DOCTYPE html><html>Sign in", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\xff\xd8\xff\xe0 photo", "a JPEG photo"),
        (b"\x89PNG\r\n\x1a\n", "a PNG photo"),
        (b"\x1f\x8b\x08", "gzip"),
        (b'{"a": 1}', "a JSON text"),
        (b"MODEL:\n  NAME: a\n", "a text that starts with"),
        (b"\x00\x01\x02\x03", "the bytes 00 01 02 03"),
        (b"", "an empty file"),
    ],
)
def test_unrelated_files_are_named_as_what_they_are(tmp_path, content, what):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=what) as caught:
        read_foreign_weights(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


def test_an_archive_that_is_not_torchs(tmp_path):
    np.savez(tmp_path / "a.npz", weight=np.ones(2))
    with pytest.raises(CheckpointError, match=r"a zip archive and no torch file .*weight\.npy"):
        read_foreign_weights(tmp_path / "a.npz")


def test_wrappers_are_opened(tmp_path):
    tensors = {"module.weight": torch.ones(2), "module.bias": torch.zeros(1)}
    for wrapper in ("model", "state_dict", "teacher"):
        torch.save({wrapper: tensors, "iteration": 3}, tmp_path / "a.pth")
        file = read_weights_file(tmp_path / "a.pth")
        assert list(file.tensors) == ["weight", "bias"]
        assert file.config == ""
    torch.save({"weight": torch.ones(1), "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="epoch is a int"):
        read_weights_file(tmp_path / "a.pth")
    torch.save({"model": {}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no weights in it"):
        read_weights_file(tmp_path / "a.pth")


def test_flipped_bytes_are_found(tmp_path):
    torch.save({"weight": torch.zeros(3000)}, tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged \(wrong checksum"):
        read_foreign_weights(tmp_path / "a.pth")


def test_the_config_of_our_own_files_comes_along(tmp_path):
    tensors = {"weight": torch.ones(1)}
    own = {"format_version": 1, "model": tensors, "config": "SEED: 1"}
    torch.save(own, tmp_path / "a.pt")
    assert read_weights_file(tmp_path / "a.pt").config == "SEED: 1"
    metadata = {"format_version": "1", "config": "SEED: 1"}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", metadata)
    assert read_weights_file(tmp_path / "a.safetensors").config == "SEED: 1"
    torch.save(own | {"format_version": 2}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="checkpoint format 2, this program reads 1"):
        read_weights_file(tmp_path / "a.pt")
