"""The published models against the libraries' own: seconds and peak memory, side by side."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

ROUNDS = 7
# The largest encoders take half a minute each time.
SLOW_SECONDS, SLOW_ROUNDS = 3.0, 2
CLICKS = 64


class Side(Protocol):
    """One implementation of a model, with random weights, in evaluation mode.

    Attributes:
        takes_prompts: whether it answers clicks, or segments whole photos alone.
    """

    takes_prompts: bool

    def encode(self, photo: np.ndarray) -> None:
        """Do what is done once per photo, ``uint8 [H, W, 3]``."""

    def decode(self, count: int) -> None:
        """Answer `count` clicks, or without prompts all queries; masks at the photo's size."""


class Ours:
    """A recipe of this project."""

    def __init__(self, recipe: str, *overrides: str) -> None:
        from unsam import Segmenter
        from unsam.config import load_config

        cfg = load_config(recipe, [*overrides, "INFERENCE.PRECISION", "float32"])
        self.segmenter = Segmenter.from_config(cfg)
        granular = cfg.MODEL.GRANULARITY.ENABLED
        self.granularity = 0.5 if granular else None
        self.takes_prompts = self.segmenter.takes_prompts

    def encode(self, photo: np.ndarray) -> None:
        """Prepare and encode."""
        self.segmenter.set_image(photo)
        self.size = photo.shape[:2]

    def decode(self, count: int) -> None:
        """Answer clicks, or ask all queries."""
        if not self.takes_prompts:
            self.segmenter.generate()
        elif count == 1:
            self.segmenter.predict(points=_clicks(self.size, 1)[0], granularity=self.granularity)
        else:
            clicks = _clicks(self.size, count)
            labels = np.ones((count, 1), np.int64)
            self.segmenter.predict_batch(clicks, labels, granularity=self.granularity)


class SegmentAnything:
    """segment-anything's predictor."""

    takes_prompts = True

    def __init__(self, kind: str) -> None:
        from segment_anything import SamPredictor, sam_model_registry

        self.predictor = SamPredictor(sam_model_registry[kind]().eval())

    def encode(self, photo: np.ndarray) -> None:
        """Prepare and encode."""
        self.predictor.set_image(photo)
        self.size = photo.shape[:2]

    def decode(self, count: int) -> None:
        """Answer clicks."""
        if count == 1:
            self.predictor.predict(_clicks(self.size, 1)[0], np.ones(1))
            return
        points = self.predictor.transform.apply_coords(_clicks(self.size, count), self.size)
        labels = torch.ones((count, 1))
        self.predictor.predict_torch(torch.from_numpy(points), labels, multimask_output=False)


class TransformersSam2:
    """The Sam2Model of transformers with its processor."""

    takes_prompts = True

    def __init__(self, size: str) -> None:
        from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

        from unsam.modeling.sam2.architectures import SIZES, video_config

        config = video_config(SIZES[size], "2.1", 1024)
        self.model = Sam2Model(
            Sam2Config(
                vision_config=config.vision_config,
                prompt_encoder_config=config.prompt_encoder_config.to_dict(),
                mask_decoder_config=config.mask_decoder_config.to_dict(),
            )
        ).eval()
        self.processor = Sam2Processor(Sam2ImageProcessor())

    @torch.inference_mode()
    def encode(self, photo: np.ndarray) -> None:
        """Prepare and encode."""
        self.size = photo.shape[:2]
        inputs = self.processor(images=photo, return_tensors="pt")
        self.original_sizes = inputs["original_sizes"]
        self.embeddings = self.model.get_image_embeddings(inputs["pixel_values"])

    @torch.inference_mode()
    def decode(self, count: int) -> None:
        """Answer clicks."""
        inputs = self.processor(
            input_points=[_clicks(self.size, count).tolist()],
            input_labels=[[[1]] * count],
            original_sizes=self.original_sizes,
            return_tensors="pt",
        )
        outputs = self.model(
            input_points=inputs["input_points"],
            input_labels=inputs["input_labels"],
            image_embeddings=self.embeddings,
            multimask_output=count == 1,
        )
        self.processor.post_process_masks(outputs.pred_masks, self.original_sizes)


class TransformersMask2Former:
    """The Mask2Former of transformers with a ResNet-50 and 2,000 queries, up to its mask logits."""

    takes_prompts = False

    def __init__(self) -> None:
        from transformers import (
            Mask2FormerConfig,
            Mask2FormerForUniversalSegmentation,
            ResNetConfig,
        )

        stages = ["stage1", "stage2", "stage3", "stage4"]
        config = Mask2FormerConfig(
            backbone_config=ResNetConfig(out_features=stages),
            num_queries=2000,
            num_labels=1,
            encoder_feedforward_dim=1024,
        )
        self.model = Mask2FormerForUniversalSegmentation(config).eval()

    @torch.inference_mode()
    def encode(self, photo: np.ndarray) -> None:
        """Run backbone and pixel decoder."""
        pixels = torch.from_numpy(photo).permute(2, 0, 1)[None].to(torch.float32) / 255
        pixels = torch.nn.functional.interpolate(pixels, size=(512, 768), mode="bilinear")
        self.features = self.model.model.pixel_level_module(pixels)

    @torch.inference_mode()
    def decode(self, count: int) -> None:
        """Ask all queries and take the mask logits of the best thousand."""
        output = self.model.model.transformer_module(
            multi_scale_features=self.features.decoder_hidden_states,
            mask_features=self.features.decoder_last_hidden_state,
            output_hidden_states=True,
        )
        probability = self.model.class_predictor(
            output.intermediate_hidden_states[-1].transpose(0, 1)
        )
        best = probability[0, :, 0].topk(1000).indices
        output.masks_queries_logits[-1][0, best]


def _clicks(size: tuple[int, int], count: int) -> np.ndarray:
    """Return clicks ``float64 [count, 1, 2]`` spread over a photo of ``(H, W)``."""
    side = int(np.ceil(np.sqrt(count)))
    y, x = np.divmod(np.arange(count), side)
    share = np.stack((x, y), axis=-1)[:, None] + 0.5
    return share / side * np.array([size[1], size[0]])


PAIRS: dict[str, tuple[Callable[[], Side], Callable[[], Side] | None]] = {
    "sam_vit_b": (lambda: Ours("sam/sam_vit_b.yaml"), lambda: SegmentAnything("vit_b")),
    "unsamv2": (lambda: Ours("unsamv2/sam2_hiera_small.yaml"), lambda: TransformersSam2("small")),
    "unsam_whole_r50": (
        # Half the published side: at the whole one the library takes 13 GiB.
        lambda: Ours("unsam/whole_image_R50.yaml", "INPUT.SHORTER_SIDE", "512"),
        TransformersMask2Former,
    ),
    "promptable_swin_t": (lambda: Ours("unsam/promptable_SwinT.yaml"), None),
    **{
        f"sam2.1_{size}": (
            lambda size=size: Ours(f"sam2/sam2.1_hiera_{size}.yaml"),
            lambda size=size: TransformersSam2(size),
        )
        for size in ("small", "tiny", "base_plus", "large")
    },
    "sam_vit_l": (lambda: Ours("sam/sam_vit_l.yaml"), lambda: SegmentAnything("vit_l")),
}
"""Model to ours and to the library's, None where no library has it."""

PHOTO_SIZE = (683, 1024)
# The published whole-image model at its own size, where memory is the question.
LARGE_MODEL = "unsam_whole_r50_published"
LARGE_PHOTO_SIZE = (1500, 2250)


def benchmark_models() -> dict[str, Any]:
    """Return seconds of one photo and of its clicks, peak MiB, and ratios of ours to theirs.

    What is known of a model is printed to stderr at once: the whole takes half an hour.
    """
    figures: dict[str, Any] = {
        f"{LARGE_MODEL}_1500x2250_peak_mib": _peak_mib(LARGE_MODEL, 0, LARGE_PHOTO_SIZE)
    }
    print(json.dumps(figures), file=sys.stderr, flush=True)
    for name, makers in PAIRS.items():
        found = _figures(name, makers)
        print(json.dumps(found), file=sys.stderr, flush=True)
        figures |= found
    return figures


def _figures(
    name: str, makers: tuple[Callable[[], Side], Callable[[], Side] | None]
) -> dict[str, float]:
    """Return the figures of one model."""
    figures = {}
    sides = [make() for make in makers if make is not None]
    for stage, (ours, *theirs) in _interleaved(sides).items():
        figures[f"{name}_{stage}_seconds"] = ours
        if theirs:
            figures[f"{name}_{stage}_ratio"] = ours / theirs[0]
    ours, *theirs = (_peak_mib(name, index) for index in range(len(sides)))
    figures[f"{name}_peak_mib"] = ours
    if theirs:
        figures[f"{name}_peak_ratio"] = ours / theirs[0]
    return figures


def _photo(size: tuple[int, int] = PHOTO_SIZE) -> np.ndarray:
    """Return a photo of ``(H, W)``; what it shows does not change the time."""
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def _stages(side: Side, photo: np.ndarray) -> dict[str, Callable[[], None]]:
    stages: dict[str, Callable[[], None]] = {"encode": lambda: side.encode(photo)}
    if not side.takes_prompts:
        return {**stages, "decode": lambda: side.decode(0)}
    return {**stages, "click": lambda: side.decode(1), "clicks64": lambda: side.decode(CLICKS)}


def _interleaved(sides: list[Side]) -> dict[str, list[float]]:
    """Return median seconds of each stage, one number per side, the sides taking turns."""
    photo = _photo()
    stages = [_stages(side, photo) for side in sides]
    medians = {}
    for stage in stages[0]:
        start = time.perf_counter()
        for functions in stages:
            functions[stage]()
        first = (time.perf_counter() - start) / len(sides)
        seconds: list[list[float]] = [[] for _ in sides]
        for _ in range(SLOW_ROUNDS if first > SLOW_SECONDS else ROUNDS):
            for functions, values in zip(stages, seconds, strict=True):
                start = time.perf_counter()
                functions[stage]()
                values.append(time.perf_counter() - start)
        medians[stage] = [statistics.median(values) for values in seconds]
    return medians


def _peak_mib(name: str, index: int, size: tuple[int, int] = PHOTO_SIZE) -> float:
    """Return the peak memory of one side, in a process of its own: a photo and 64 clicks."""
    tools = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "benchmarks.models", name, str(index), *map(str, size)]
    done = subprocess.run(command, cwd=tools, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _run_once(name: str, index: int, size: tuple[int, int]) -> None:
    make = PAIRS[name][index] if name in PAIRS else lambda: Ours("unsam/whole_image_R50.yaml")
    assert make is not None, name
    side = make()
    for function in _stages(side, _photo(size)).values():
        function()
    # Not getrusage: there a process inherits the peak of the one that started it.
    status = Path("/proc/self/status").read_text()
    print(json.dumps(int(status.partition("VmHWM:")[2].split()[0]) / 1024))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _run_once(sys.argv[1], int(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])))
