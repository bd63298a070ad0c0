"""A real local Ray: the same bytes as the local engine, and a photo that kills costs one photo."""

from __future__ import annotations

import shutil
import sys

import pytest

from divide_and_conquer import generate
from divide_and_conquer.generate import generate_pseudo_masks
from unsam.errors import ConfigError, UnsamError

ray = pytest.importorskip("ray")

# Dies at one photo, finds the disk full at another.
WORKER = """
import os, signal
from divide_and_conquer.generation import worker
from unsam.checkpoint.atomic import StorageError
def read(path, blob=None, read=worker.read_photo):
    if "killer" in str(path): os.kill(os.getpid(), signal.SIGKILL)
    return read(path)
def write(path, text, write=worker.write_text_atomic):
    if "full" in str(path): raise StorageError("No space left") from OSError(28, "")
    write(path, text)
worker.read_photo, worker.write_text_atomic = read, write
worker.main()
"""


@pytest.fixture(scope="module")
def cluster():
    """Two cores, shared by the tests; a run uses a connection that is there and leaves it."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_ray_writes_the_bytes_of_the_local_engine(data_root, tmp_path, tiny_cfg, monkeypatch):
    source = tmp_path / "in"
    source.mkdir()
    for photo in sorted((data_root / "bsds500/images/val").glob("*.jpg"))[:7]:
        shutil.copy(photo, source)
    shutil.copy(next(source.glob("*.jpg")), source / "killer.jpg")
    (source / "broken.png").write_text("no photo")
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(generate, "WORKER_COMMAND", [sys.executable, str(tmp_path / "worker.py")])
    for output_format in ("json", "webdataset"):
        trees = []
        for engine, workers in (("local", 1), ("ray", 2)):
            target = tmp_path / f"{engine}-{output_format}"
            manifest = generate_pseudo_masks(
                source, target, tiny_cfg, workers, progress=False, engine=engine,
                output_format=output_format, samples_per_shard=3,
            )  # fmt: skip
            assert set(manifest["failures"]) == {"killer.jpg", "broken.png"}
            assert "signal 9" in manifest["failures"]["killer.jpg"]
            trees.append(tree(target))
        assert trees[0] == trees[1]
    assert ray.is_initialized()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_full_disk_ends_a_ray_run(tmp_path, tiny_cfg, monkeypatch, save_photo):
    for number, name in enumerate(["a.png", "full.png", "z.png"]):
        save_photo(tmp_path / "in" / name, number)
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(generate, "WORKER_COMMAND", [sys.executable, str(tmp_path / "worker.py")])
    with pytest.raises(UnsamError, match=r"No space left; . of 3 photos are finished, a rerun"):
        generate_pseudo_masks(
            tmp_path / "in", tmp_path / "out", tiny_cfg, 1, progress=False, engine="ray"
        )


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_gpu_that_the_cluster_has_not(tmp_path, tiny_cfg, save_photo, monkeypatch):
    save_photo(tmp_path / "in/a.png")
    monkeypatch.setattr(generate, "_has_network", lambda section: True)
    cfg = tiny_cfg.clone()
    cfg.DEVICE = "cuda"
    with pytest.raises(ConfigError, match="no GPU"):
        generate_pseudo_masks(tmp_path / "in", tmp_path / "out", cfg, progress=False, engine="ray")
