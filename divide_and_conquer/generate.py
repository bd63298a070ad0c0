"""Divide and conquer on many photos: masks for each, and a manifest; on one machine or many."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode
from tqdm import tqdm

from divide_and_conquer.generation.local_engine import run_local, visible_gpus
from divide_and_conquer.generation.manifest import (
    MANIFEST,
    RunFacts,
    build_manifest,
    entries_before,
    manifest_name,
    merge_manifests,
    parts_are_there,
    write_manifest,
)
from divide_and_conquer.generation.outputs import JsonFolder, Output, ShardFolder
from divide_and_conquer.generation.ray_engine import ray_cluster, run_ray
from divide_and_conquer.generation.sources import PhotoList, find_photos, list_photos
from divide_and_conquer.generation.worker_process import Answer, Task, WorkerSetup
from divide_and_conquer.pipeline import build_masker
from unsam.annotations.folders import check_manifest
from unsam.checkpoint.atomic import StorageError
from unsam.errors import ConfigError, DataError, UnsamError

__all__ = ["MANIFEST", "find_photos", "generate_pseudo_masks", "merge_manifests"]

# Raise when the same photo and config give other masks than before: old files are made again.
CODE_VERSION = 1
WORKER_COMMAND = [sys.executable, "-m", "divide_and_conquer.generation.worker"]
ENGINES = ("local", "ray")
OUTPUT_FORMATS = ("json", "webdataset")
# Stages that run a network, and so on a GPU where there is one.
NETWORKS = {"FEATURES": ("vit",), "DIVIDE": ("cutler", "maskcut"), "REFINE": ("cascadepsp",)}

_ENTRY_KEYS = ("sha256", "masks", "refinement")


@dataclass(frozen=True)
class _Plan:
    """How the work is spread; see `generate_pseudo_masks`."""

    engine: str
    workers: int
    shard_index: int
    num_shards: int
    output_format: str
    samples_per_shard: int

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigError(f"engine: '{self.engine}' is not {' or '.join(ENGINES)}")
        if self.output_format not in OUTPUT_FORMATS:
            raise ConfigError(
                f"output format: '{self.output_format}' is not {' or '.join(OUTPUT_FORMATS)}"
            )
        if self.num_shards < 1:
            raise ConfigError(f"{self.num_shards} shards of the photos: at least 1 is needed")
        if not 0 <= self.shard_index < self.num_shards:
            raise ConfigError(
                f"shard {self.shard_index} of {self.num_shards}: indices go from 0 to "
                f"{self.num_shards - 1}"
            )
        if self.samples_per_shard < 1:
            raise ConfigError(f"{self.samples_per_shard} samples per shard: at least 1 is needed")
        if self.workers < 0:
            raise ConfigError(f"{self.workers} workers: give 1 or more, or 0 for all cores or GPUs")


def generate_pseudo_masks(
    input_path: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    cfg: CfgNode,
    workers: int = 0,
    strict: bool = False,
    progress: bool = True,
    *,
    engine: str = "local",
    shard_index: int = 0,
    num_shards: int = 1,
    output_format: str = "json",
    samples_per_shard: int = 1000,
    image_root: str | os.PathLike[str] = "",
) -> dict[str, Any]:
    """Make pseudo masks for all photos of an input, or for one machine's part of them.

    The photo ``a/b.jpg`` gives ``a/b.jpg.json``, in SA-1B's layout with granularity, parent and
    source added, or a sample of photo and JSON in a WebDataset shard. Files are written whole or
    not at all; a rerun keeps those that hold masks of the same photo, config and code version.
    Neither the engine nor the number of workers nor their timing changes a byte of the results.
    Hidden files and folders are passed over.

    Args:
        input_path: a folder, list, COCO JSON, tar or pattern; see `sources.list_photos`.
        output_dir: where the files go; made if missing.
        cfg: PSEUDO_MASKS and DEVICE are read.
        workers: processes, one thread each; 0 is one per usable core, or one per GPU for a config
            with networks.
        strict: raise if any photo failed (after all the others are done).
        progress: show a bar on standard error.
        engine: ``"local"``, processes here; ``"ray"``, the cluster that Ray is connected to.
        shard_index: which part of the photos, from 0.
        num_shards: how many parts; each can be made on another machine, into the same folder.
        output_format: ``"json"`` or ``"webdataset"``.
        samples_per_shard: photos in one WebDataset shard.
        image_root: folder of the photos of a list or a COCO JSON.

    Returns:
        What ``manifest.json`` holds (see `manifest.build_manifest`), or of several parts
        ``manifest-00003-of-00016.json``; the last one to finish joins them. A corrupt photo, or
        one at which a worker died, is a failure.

    Raises:
        ConfigError: a setting that does not exist or fit.
        DataError: the output holds what another command has made, or masks in the other format;
            there is no photo, none could be used, or `strict` and a photo failed. The
            manifest is written where there is something to say.
        StorageError: the output folder cannot be written.
        UnsamError: the disk is full, or workers cannot be started.
    """
    plan = _Plan(engine, workers, shard_index, num_shards, output_format, samples_per_shard)
    _check_device(cfg.DEVICE)
    listing = list_photos(input_path, image_root, shard_index, num_shards)
    folder = _check_output(output_dir, input_path, cfg, plan)
    section = cfg.PSEUDO_MASKS.dump()
    facts = RunFacts(str(listing.root), section, CODE_VERSION, _check_config(cfg), output_format)
    run = _Run(folder / manifest_name(shard_index, num_shards), facts, listing, plan)
    made_from = {
        "config": hashlib.sha256(section.encode()).hexdigest()[:16],
        "code_version": CODE_VERSION,
    }
    manifest = run.do_all(made_from, cfg.DEVICE, progress)
    if num_shards > 1 and parts_are_there(folder, num_shards):
        # Another part may be unfinished, or made anew at this moment: its machine joins them then.
        with contextlib.suppress(DataError):
            merge_manifests(folder)
    _check_outcome(manifest, listing.root, strict)
    return manifest


@dataclass
class _Run:
    """One call: its photos, what is final so far, and the manifest."""

    manifest_path: Path
    facts: RunFacts
    listing: PhotoList
    plan: _Plan
    final: dict[str, Answer] = field(default_factory=dict)

    def do_all(self, made_from: dict[str, Any], device: str, progress: bool) -> dict[str, Any]:
        """Work on all photos, write the manifest and return it."""
        output = self._output()
        tasks = output.tasks(made_from)
        try:
            with tqdm(total=len(tasks), unit="photo", disable=not progress) as bar:
                for task, answer in self._answers(tasks, device):
                    if answer.get("fatal"):
                        raise UnsamError(answer["error"] + self._so_far(tasks))
                    self.final.update(output.accept(task["name"], answer))
                    bar.update()
            output.finish()
        except StorageError as error:
            raise UnsamError(f"{error}{self._so_far(tasks)}") from error
        finally:
            # Also after a full disk or an interruption: finished photos stay usable as a data set.
            if len(self.final) < len(tasks):
                with contextlib.suppress(UnsamError):
                    write_manifest(self.manifest_path, self._manifest(output, complete=False))
            output.close()
        manifest = self._manifest(output, complete=True)
        write_manifest(self.manifest_path, manifest)
        return manifest

    def _so_far(self, tasks: list[Task]) -> str:
        done = sum("error" not in answer for answer in self.final.values())
        return f"; {done} of {len(tasks)} photos are finished, a rerun does the rest"

    def _output(self) -> Output:
        folder, photos, plan = self.manifest_path.parent, self.listing.photos, self.plan
        if plan.output_format == "json":
            return JsonFolder(folder, photos)
        return ShardFolder(
            folder, photos, plan.samples_per_shard, plan.shard_index, plan.num_shards
        )

    def _answers(self, tasks: list[Task], device: str) -> Iterator[tuple[Task, Answer]]:
        arguments = tuple(WORKER_COMMAND[1:])
        section, workers = self.facts.section, self.plan.workers
        if self.plan.engine == "local":
            gpus = _gpus(device) if _has_network(section) else []
            setup = WorkerSetup(section, "cuda" if gpus else "cpu", arguments)
            yield from run_local(tasks, setup, workers, gpus)
            return
        with ray_cluster(workers) as ray:
            has_gpu = "GPU" in ray.cluster_resources()
            on_gpu = _has_network(section) and (has_gpu if device == "auto" else device != "cpu")
            setup = WorkerSetup(section, "cuda" if on_gpu else "cpu", arguments)
            yield from run_ray(ray, tasks, setup, workers)

    def _manifest(self, output: Output, complete: bool) -> dict[str, Any]:
        images: dict[str, dict[str, Any]] = {}
        if not complete:
            # Photos that this run did not reach, but an earlier one finished.
            before = entries_before(self.manifest_path, self.facts)
            names = {photo.name for photo in self.listing.photos} - self.final.keys()
            images = {
                name: before[name]
                for name in sorted(names & before.keys())
                if before[name].items() >= output.place(name).items()
            }
        failures = dict(self.listing.failures)
        for name, answer in self.final.items():
            if "error" in answer:
                failures[name] = answer["error"]
            else:
                kept = {key: answer[key] for key in _ENTRY_KEYS if key in answer}
                images[name] = kept | output.place(name)
        return build_manifest(self.facts, images, failures, complete)


def _has_network(section: str) -> bool:
    node = CfgNode.load_cfg(section)
    return any(node[stage].NAME in names for stage, names in NETWORKS.items())


def _gpus(device: str) -> list[str]:
    """Return the GPUs of this machine that a DEVICE means, as CUDA_VISIBLE_DEVICES calls them."""
    _check_device(device)
    if device == "cpu":
        return []
    index = device.partition(":")[2]
    gpus = visible_gpus(_count_gpus())
    if device != "auto" and len(gpus) <= int(index or 0):
        raise ConfigError(f"DEVICE {device}: this machine has {len(gpus)} GPUs; set DEVICE cpu")
    return [gpus[int(index)]] if index else gpus


def _check_device(device: str) -> None:
    name, _, index = device.partition(":")
    if device not in ("auto", "cpu") and (name != "cuda" or (index and not index.isdigit())):
        raise ConfigError(f"DEVICE: unknown device '{device}'; use auto, cpu or cuda")


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _check_config(cfg: CfgNode) -> bool:
    """Build the pipeline once, so that a wrong config ends here; return whether it is supervised.

    Weights that have to be fetched are fetched here, before many processes ask for them.
    """
    on_cpu = cfg.clone()
    on_cpu.defrost()
    on_cpu.DEVICE = "cpu"
    return build_masker(on_cpu).supervised


def _check_output(
    output_dir: str | os.PathLike[str],
    input_path: str | os.PathLike[str],
    cfg: CfgNode,
    plan: _Plan,
) -> Path:
    """Return the output folder, made and writable, where nothing else would be lost."""
    if not os.fspath(output_dir):
        raise DataError("the output is an empty name; name a folder")
    folder = Path(output_dir).absolute()
    given = cfg.PSEUDO_MASKS.DIVIDE.GIVEN_MASKS
    if given and Path(given).expanduser().resolve() == folder.resolve():
        raise DataError(f"{folder}: the output is PSEUDO_MASKS.DIVIDE.GIVEN_MASKS; choose another")
    if plan.output_format == "webdataset" and folder.is_relative_to(Path(input_path).absolute()):
        raise DataError(f"{folder}: shards within the input would be taken for photos next time")
    for name in (MANIFEST, manifest_name(plan.shard_index, plan.num_shards)):
        check_manifest(folder / name, "PSEUDO_MASKS", plan.output_format)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        # Now, in one line, rather than after the first photo.
        raise DataError(
            f"{folder}: cannot write to the output folder ({error.strerror or error}); "
            "choose another one"
        ) from error
    return folder


def _check_outcome(manifest: dict[str, Any], root: Path, strict: bool) -> None:
    failures = manifest["failures"]
    if not failures or (manifest["images"] and not strict):
        return
    name, reason = next(iter(failures.items()))
    total = manifest["counts"]["photos"]
    if not manifest["images"]:
        raise DataError(f"{root}: none of the {total} photos could be used ({name}: {reason})")
    raise DataError(
        f"{root}: {len(failures)} of {total} photos could not be used ({name}: {reason})"
    )
