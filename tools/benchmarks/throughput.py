"""Pseudo masks of many photos: photos per second of each engine, and the stages of one photo.

Networks have random weights, which cost as much as trained ones; they run on a GPU if there is one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
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
    return figures | _networks(_sa1b_size(data)[0])


def _engines(data: Path) -> dict[str, Any]:
    from divide_and_conquer.ray_engine import ray_cluster

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
    from divide_and_conquer.pipeline import build_masker
    from divide_and_conquer.records import write_record
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


def _networks(blob: bytes) -> dict[str, Any]:
    """Return seconds of CutLER on a large photo, and of DINO ViT-B/8 on a crop of 256x256."""
    import timm
    import torch

    from divide_and_conquer.divide.cutler.detector import CascadeMaskRcnn
    from divide_and_conquer.divide.cutler.divider import CutlerDivider
    from divide_and_conquer.features.vit import VitFeatures

    device = "cuda" if torch.cuda.is_available() else "cpu"
    photo = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR_RGB)
    torch.manual_seed(0)
    net = CascadeMaskRcnn()
    for weights in net.parameters():
        if weights.ndim > 1:
            # Signals of about equal size in all layers, so that there is something to detect.
            torch.nn.init.normal_(weights, std=weights[0].numel() ** -0.5)
    # Every detection passes, so that the mask head has the most to do.
    cutler = CutlerDivider(net, device=device, score_threshold=0.0)
    vit = timm.create_model("vit_base_patch8_224", num_classes=0, dynamic_img_size=True)
    features = VitFeatures(vit, output="keys", side=256, device=device)
    crops = [photo[:700, :700]] * features.batch_size
    # On the CPU the time of the processor, which a busy machine does not stretch.
    clock = time.perf_counter if device == "cuda" else time.process_time

    def seconds(function: Callable[[], Any]) -> float:
        taken = []
        for _ in range(ROUNDS + 1):
            start = clock()
            function()
            taken.append(clock() - start)
        return statistics.median(taken[1:])

    return {
        "device": device,
        "cutler_detections": len(cutler(photo)),
        "cutler_seconds_per_photo": seconds(lambda: cutler(photo)),
        "vit_b8_seconds_per_crop": seconds(lambda: features.batch(crops)) / len(crops),
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
