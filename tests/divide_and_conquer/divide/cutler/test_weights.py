from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch

from divide_and_conquer.divide.cutler.detector import CascadeMaskRcnn
from divide_and_conquer.divide.cutler.weights import load_cutler, read_state_dict
from unsam.errors import CheckpointError


@pytest.fixture(scope="module")
def state():
    """The published layout; every tensor repeats one number, so that its file stays small."""
    with torch.device("meta"):
        own = CascadeMaskRcnn().state_dict()
    return {
        key: torch.tensor(index % 7, dtype=tensor.dtype).expand(tensor.shape)
        for index, (key, tensor) in enumerate(own.items())
    }


def test_the_published_tensors_and_no_others(state, golden_root):
    published = json.loads((golden_root / "cutler" / "keys.json").read_text())
    ours = {
        key: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for key, tensor in state.items()
    }
    assert ours == published


def wrapped(state):
    return {"model": state, "iteration": 5, "optimizer": {"state": {}, "param_groups": [{}]}}


def with_buffers(state):
    anchors = {
        f"proposal_generator.anchor_generator.cell_anchors.{i}": torch.zeros(3, 4) for i in range(5)
    }
    means = {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    return {"model": state | anchors | means, "__author__": "someone"}


def without_counters(state):
    return {key: value for key, value in state.items() if "num_batches" not in key}


def from_parallel(state):
    return {"state_dict": {f"module.{key}": value for key, value in state.items()}}


@pytest.mark.parametrize("layout", [dict, wrapped, with_buffers, without_counters, from_parallel])
def test_layouts(layout, state, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(layout(state), path)
    net = load_cutler(path)
    assert not net.training
    for key, tensor in net.state_dict().items():
        if "num_batches" not in key:
            assert (tensor == state[key].reshape(-1)[0]).all(), key


def test_numpy_arrays_in_the_file(tmp_path):
    path = tmp_path / "weights.pth"
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array(7, np.int64),
        "c": np.float64(0.5),
    }
    torch.save({"model": arrays, "__author__": "someone"}, path)
    tensors = read_state_dict(path)
    assert tensors["a"].tolist() == arrays["a"].tolist()
    assert tensors["b"].dtype == torch.int64
    assert tensors["c"].item() == 0.5


def test_arrays_pickled_by_an_older_numpy(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": {"a": np.ones(3, np.float32)}}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    # Protocol 2 names modules in lines of text, so the older name can be put in.
    path.write_bytes(content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert b"numpy.core" in path.read_bytes()
    assert read_state_dict(path)["a"].tolist() == [1, 1, 1]


def test_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"a": torch.arange(3)}, path)
    assert read_state_dict(path)["a"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="truncated or not a safetensors file"):
        read_state_dict(path)


def test_wrong_tensors_are_counted_and_named(state, tmp_path):
    path = tmp_path / "weights.pth"
    wrong = dict(state)
    del wrong["roi_heads.mask_head.deconv.bias"]
    wrong["roi_heads.extra"] = torch.zeros(1)
    wrong["roi_heads.box_predictor.1.bbox_pred.weight"] = torch.zeros(320, 1024)
    torch.save(wrong, path)
    with pytest.raises(CheckpointError) as caught:
        load_cutler(path)
    text = str(caught.value)
    assert "1 missing (roi_heads.mask_head.deconv.bias)" in text
    assert "1 left over (roi_heads.extra)" in text
    assert "bbox_pred.weight [320, 1024], expected [4, 1024]" in text
    assert "\n" not in text


def test_another_model(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({f"blocks.{i}.attn.qkv.weight": torch.zeros(3) for i in range(12)}, path)
    with pytest.raises(CheckpointError, match=r"weights of another model .*blocks\.0\.attn"):
        load_cutler(path)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"model": {"a": Evil()}}, path)
    with pytest.raises(CheckpointError, match="refused"):
        read_state_dict(path)
    path.write_bytes(pickle.dumps({"model": Evil()}, protocol=2))
    with pytest.raises(CheckpointError, match=r"refused|damaged"):
        read_state_dict(path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 broken"])
def test_damaged_files(content, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights.pth: (damaged|refused)") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


def test_not_weights(tmp_path):
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_state_dict(tmp_path / "nothing.pth")
    path = tmp_path / "weights.pth"
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="no weights in it"):
        read_state_dict(path)
    torch.save({"a": 5}, path)
    with pytest.raises(CheckpointError, match="a is a int, expected a tensor"):
        read_state_dict(path)
