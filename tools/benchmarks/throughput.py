"""Pseudo masks of many photos: photos per second of each engine, and the stages of one photo."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

NUM_PHOTOS = 24
ROUNDS = 3
# SA-1B: the shorter side reduced to 1,500 pixels.
SHORT_SIDE = 1500


def benchmark_throughput() -> dict[str, Any]:
    """Return photos per second (medians over rounds, side by side) and seconds per stage."""
    data = Path(os.environ.get("UNSAM_DATA", Path(__file__).parents[3] / "shared" / "data"))
    figures = {"cores": len(os.sched_getaffinity(0)), "photos": NUM_PHOTOS, **_engines(data)}
    for name, blobs in (("bsds", _bsds(data)), ("sa1b_size", _sa1b_size(data))):
        figures |= {f"{name}_{key}": value for key, value in _stages(blobs).items()}
    return figures


def _engines(data: Path) -> dict[str, Any]:
    from divide_and_conquer.generation.ray_engine import ray_cluster

    figures: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {"local_1": [], "local_2": [], "ray_2": []}
    with tempfile.TemporaryDirectory() as root:
        source = Path(root) / "photos"
        source.mkdir()
        for photo in sorted((data / "bsds500/images/val").glob("*.jpg"))[:NUM_PHOTOS]:
            shutil.copy(photo, source)
        _run(source, Path(root) / "compiled", "local_1")
        start = time.perf_counter()
        with ray_cluster(2):
            figures["ray_start_seconds"] = time.perf_counter() - start
            for number in range(ROUNDS):
                for name, values in seconds.items():
                    values.append(_run(source, Path(root) / f"{name}-{number}", name))
    for name, values in seconds.items():
        figures[f"{name}_photos_per_second"] = NUM_PHOTOS / statistics.median(values)
    return figures


def _run(source: Path, target: Path, name: str) -> float:
    from divide_and_conquer.generate import generate_pseudo_masks
    from unsam.config import get_cfg

    engine, _, workers = name.partition("_")
    start = time.perf_counter()
    generate_pseudo_masks(source, target, get_cfg(), int(workers), progress=False, engine=engine)
    return time.perf_counter() - start


def _stages(blobs: list[bytes]) -> dict[str, Any]:
    """Return median seconds of each stage of the default preset on one core, and mean bytes.

    Those of the processor, but for "write", which waits for the disk.
    """
    from divide_and_conquer.generation.records import write_record
    from divide_and_conquer.pipeline import build_masker
    from unsam.checkpoint.atomic import write_text_atomic
    from unsam.config import get_cfg
    from unsam.structures import read_photo

    cv2.setNumThreads(1)
    masker = build_masker(get_cfg())
    times: dict[str, list[float]] = {"read": [], "make": [], "encode": [], "write": []}
    sizes, counts = [], []
    with tempfile.TemporaryDirectory() as root:
        path, target = Path(root) / "photo.jpg", Path(root) / "photo.jpg.json"
        for blob in blobs:
            path.write_bytes(blob)
            # Time of the processor, which a busy machine does not stretch.
            clock = [time.process_time()]
            hashlib.sha256(path.read_bytes()).hexdigest()
            photo = read_photo(path)
            clock.append(time.process_time())
            masks = masker(photo)
            clock.append(time.process_time())
            text = write_record(masks, "photo.jpg", {"config": "", "sha256": ""}, masker.report())
            clock.append(time.process_time())
            start = time.perf_counter()
            write_text_atomic(target, text)
            times["write"].append(time.perf_counter() - start)
            for name, taken in zip(("read", "make", "encode"), np.diff(clock), strict=True):
                times[name].append(float(taken))
            sizes.append(len(text))
            counts.append(len(masks))
    figures = {f"{name}_seconds": statistics.median(values) for name, values in times.items()}
    return {
        **figures,
        "masks": statistics.mean(counts),
        "photo_bytes": statistics.mean(map(len, blobs)),
        "json_bytes": statistics.mean(sizes),
    }


def _bsds(data: Path) -> list[bytes]:
    photos = sorted((data / "bsds500/images/val").glob("*.jpg"))[:NUM_PHOTOS]
    return [photo.read_bytes() for photo in photos]


def _sa1b_size(data: Path) -> list[bytes]:
    """Return the demo photos (of SA-1B, reduced to 1,024 pixels) enlarged to SA-1B's own size."""
    blobs = []
    for path in sorted((data / "demo").glob("*.jpg")):
        image = cv2.imread(str(path))
        factor = SHORT_SIDE / min(image.shape[:2])
        large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        blobs.append(cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return blobs
