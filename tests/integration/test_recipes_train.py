"""Every training recipe, made tiny, trains: with its losses, rates, precision and objectives."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

import train_net
from tests.engine.tiny import make_dataset, make_trainer
from tests.modeling.backbone.conftest import SMALL_SWIN, SMALL_VIT
from tests.modeling.sam2.tiny import TINY as SMALL_HIERA
from unsam.checkpoint.checkpointer import load_checkpoint
from unsam.config import list_configs, load_config
from unsam.engine.build import build_seeded_model
from unsam.modeling import build_model
from unsam.modeling.backbone import resnet, swin
from unsam.modeling.encoder_layers import encoder_distances, encoder_name
from unsam.modeling.objectives import WeightSchedule
from unsam.modeling.pretrained import load_weights_into
from unsam.modeling.sam import image_encoder
from unsam.modeling.sam2 import architectures
from unsam.solver import Schedule

SWIN_L = "unsam_only_sa-1b_swinL.yaml"
VISA_ATS = "unsam/sam_visa_ats.yaml"
FOLDERS = ("unsam/", "unsamv2/", "quickstart/", "fit/")
RECIPES = [name for name in list_configs() if name.startswith(FOLDERS) or name == SWIN_L]

# With float16 the first two steps find the scale of the loss; the third is made.
STEPS = 3
NARROW = [
    *("MODEL.PIXEL_DECODER.DIM", "32", "MODEL.PIXEL_DECODER.MASK_DIM", "32"),
    *("MODEL.PIXEL_DECODER.NUM_LAYERS", "1", "CRITERION.QUERIES.NUM_POINTS", "64"),
]
FEW_CLICKS = ["MODEL.CLICKS.MASKS_PER_IMAGE", "3", "MODEL.CLICKS.ROUNDS", "2"]
TINY = {
    "Mask2Former": [
        *NARROW,
        *("MODEL.QUERY_DECODER.NUM_QUERIES", "8", "MODEL.QUERY_DECODER.NUM_LAYERS", "2"),
    ],
    "SemanticSam": [
        *NARROW,
        *("MODEL.PROMPTED_DECODER.NUM_LAYERS", "2", "MODEL.PROMPTED_DECODER.MAX_PROMPTS", "3"),
    ],
    "Sam": FEW_CLICKS,
    "Sam2": FEW_CLICKS,
    "GranularSam": [
        *("MODEL.EMBED_DIM", "32", "MODEL.IMAGE_ENCODER.STEM_DIM", "8"),
        *("MODEL.IMAGE_ENCODER.STAGE_DIMS", "(16, 16, 32)", "MODEL.IMAGE_ENCODER.NUM_HEADS", "2"),
        *("MODEL.MASK_DECODER.MLP_DIM", "32", "MODEL.MASK_DECODER.UPSCALE_DIMS", "(16, 8)"),
        *("INPUT.SQUARE_SIZE", "64"),
    ],
}
# One recipe of each architecture.
FIRST_OF_KIND = {load_config(name).MODEL.META_ARCHITECTURE: name for name in reversed(RECIPES)}


@dataclass(frozen=True)
class Stated:
    """What a recipe says, written out once more.

    Attributes:
        losses: of the model, without objectives.
        rate: after the warm-up, of all but the image encoder.
        encoder: the image encoder's rate as a share of it; None where the encoder does not learn.
        warmup: steps.
        late: the multiple of the rate at 93 % and at 97 % of the training.
        layer_decay: rate of each layer of the image encoder as a share of the next one's.
    """

    losses: set[str]
    rate: float
    encoder: float | None
    warmup: int
    late: tuple[float, float]
    layer_decay: float = 1.0


def _cosine(final: float) -> tuple[float, float]:
    first, second = (0.5 * (1 + math.cos(math.pi * done)) for done in (0.93, 0.97))
    return final + (1 - final) * first, final + (1 - final) * second


CLICKED = {"loss_focal", "loss_dice", "loss_quality"}
QUERIED = {"loss_class", "loss_mask", "loss_dice"}
PROMPTED = {"loss_mask", "loss_dice", "loss_box", "loss_giou", "loss_quality"}
STATED = {
    "Mask2Former": Stated(QUERIED, 5e-5, 0.1, 10, (0.1, 0.01)),
    "SemanticSam": Stated(PROMPTED, 1e-4, 0.1, 10, (0.1, 0.01)),
    "Sam2": Stated(CLICKED | {"loss_object"}, 1e-4, None, 0, _cosine(0.1)),
    "Sam": Stated(CLICKED, 1e-4, None, 0, _cosine(0.1)),
    "GranularSam": Stated(CLICKED | {"loss_contour"}, 2e-3, 1.0, 50, _cosine(0.01)),
    # What its objectives teach is the encoder.
    VISA_ATS: Stated(CLICKED, 1e-4, 0.1, 0, _cosine(0.1), layer_decay=0.8),
}


@pytest.fixture(autouse=True)
def tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink what no key of a config does."""
    for size in swin.SIZES:
        monkeypatch.setitem(swin.SIZES, size, SMALL_SWIN)
    monkeypatch.setitem(image_encoder.ENCODERS, "base", SMALL_VIT)
    monkeypatch.setitem(architectures.SIZES, "small", SMALL_HIERA)
    monkeypatch.setattr(resnet, "_DEPTHS", [1, 1, 1, 1])
    monkeypatch.setattr(resnet._FoldedBottleneck, "expansion", 1)
    monkeypatch.setattr(resnet.ResNet50, "channels", (64, 128, 256, 512))


def _words(recipe: str, folder: Path) -> list[str]:
    """Return the overrides that make a recipe tiny and its task sampler and teacher quick."""
    annotations = make_dataset(folder / "data", [f"{number}.png" for number in range(3)])
    return [
        *("OUTPUT_DIR", str(folder / "run"), "DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"),
        *("DATASETS.TRAIN", str(annotations), "DATASETS.IMAGE_ROOT", str(folder / "data")),
        *("MODEL.WEIGHTS", "", "INPUT.IMAGE_SIZE", "128" if recipe == VISA_ATS else "64"),
        *("SOLVER.MAX_ITER", str(STEPS), "SOLVER.BATCH_SIZE", "2", "SOLVER.LOG_PERIOD", "1"),
        *("TASKS.REFRESH_PERIOD", "1", "OBJECTIVES.PROPAGATION.QUALITY_THRESHOLD", "0.0"),
        *("OBJECTIVES.PROPAGATION.STABILITY_THRESHOLD", "0.0"),
        *TINY[load_config(recipe).MODEL.META_ARCHITECTURE],
    ]


def _stated(recipe: str) -> Stated:
    return STATED.get(recipe) or STATED[load_config(recipe).MODEL.META_ARCHITECTURE]


def _objectives_at(cfg: CfgNode, progress: float) -> set[str]:
    """Return the losses of the objectives whose weight is not zero."""
    return {
        f"loss_{name.lower()}"
        for name, node in cfg.OBJECTIVES.items()
        if WeightSchedule(node.WEIGHT, node.SCHEDULE, node.START, node.END)(progress) > 0
    }


def _train(recipe: str | Path, *words: str) -> None:
    assert train_net.main(["--num-gpus", "1", "--config-file", str(recipe), *words]) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Train a recipe, once for all tests; return its folder, with the data and the run."""

    @functools.cache
    def train(recipe: str) -> Path:
        folder = tmp_path_factory.mktemp("recipe")
        _train(f"configs/{recipe}", *_words(recipe, folder))
        return folder

    return train


def test_the_promised_recipes_are_there() -> None:
    whole_image = ("R50", "SwinL", "plus_R50", "R50_self_training")
    promptable = ("SwinT", "SwinL", "plus_SwinT")
    promised = {f"unsam/whole_image_{name}.yaml" for name in whole_image}
    promised |= {f"unsam/promptable_{name}.yaml" for name in promptable}
    unsamv2 = ("sam2_hiera_small", "sam2_hiera_small_plus", "sam_vit_b")
    promised |= {f"unsamv2/{name}.yaml" for name in unsamv2}
    promised |= {VISA_ATS, SWIN_L, "quickstart/tiny.yaml"}
    assert promised <= set(RECIPES)
    assert FIRST_OF_KIND.keys() == TINY.keys()


@pytest.mark.parametrize("recipe", RECIPES)
def test_trains_with_the_losses_and_rates_it_states(
    recipe: str, trained: Callable[[str], Path]
) -> None:
    run, stated = trained(recipe) / "run", _stated(recipe)
    cfg = load_config(recipe, _words(recipe, run.parent))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert [line["iteration"] for line in lines] == list(range(1, STEPS + 1))
    for step, line in enumerate(lines):
        losses = {name for name in line if name.startswith("loss_")}
        assert losses == stated.losses | _objectives_at(cfg, step / STEPS)
        assert all(math.isfinite(value) for value in line.values())
        warmup = min(1.0, (step + 1) / stated.warmup) if stated.warmup else 1.0
        assert line["lr"] <= stated.rate * warmup * (1 + 1e-9)
    assert lines[0]["lr"] == pytest.approx(stated.rate / max(stated.warmup, 1))
    assert ("gradient_scale" in lines[0]) == (load_config(recipe).SOLVER.PRECISION == "float16")

    model, untrained = build_model(cfg), build_seeded_model(cfg, torch.device("cpu"))
    load_weights_into(model, run / "model.safetensors")
    start = dict(untrained.named_parameters())
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, start[n])}
    assert all(p.isfinite().all() for p in model.parameters())
    assert changed
    encoder = encoder_name(model)
    assert any(name.startswith(f"{encoder}.") for name in changed) == (stated.encoder is not None)
    assert load_config(run / "config.yaml") == cfg


@pytest.mark.parametrize("recipe", RECIPES)
def test_groups_and_schedule_are_as_stated(recipe: str, tmp_path: Path) -> None:
    cfg, stated = load_config(recipe, _words(recipe, tmp_path)), _stated(recipe)
    trainer, _ = make_trainer(cfg)
    groups = trainer.optimizer.param_groups
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    encoder, distances = f"{encoder_name(trainer.model)}.", encoder_distances(trainer.model)
    for name, parameter in trainer.model.named_parameters():
        of_encoder = name.startswith(encoder)
        assert parameter.requires_grad or stated.encoder is None, name
        if of_encoder and stated.encoder is None:
            assert id(parameter) not in rates
        elif id(parameter) in rates:
            multiplier = 1.0
            if of_encoder:
                multiplier = (stated.encoder or 0.0) * stated.layer_decay ** distances[name]
            assert rates[id(parameter)] == pytest.approx(stated.rate * multiplier), name
    learning = [p for p in trainer.training_model.parameters() if p.requires_grad]
    assert rates.keys() == {id(parameter) for parameter in learning}
    assert {group["weight_decay"] for group in groups} == {0.0, cfg.SOLVER.WEIGHT_DECAY}

    schedule = Schedule.from_config(cfg, trainer.optimizer)
    late = [schedule.factor(stated.warmup, progress) for progress in (0.93, 0.97)]
    assert late == pytest.approx(list(stated.late))


@pytest.mark.parametrize("recipe", FIRST_OF_KIND.values())
def test_the_saved_config_gives_the_same_weights(
    recipe: str, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    run, again = trained(recipe) / "run", tmp_path
    _train(run / "config.yaml", "OUTPUT_DIR", str(again))
    first, second = (
        load_checkpoint(folder / "checkpoints" / f"iter_{STEPS:08d}.pt")["model"]
        for folder in (run, again)
    )
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize(
    ("recipe", "objectives"),
    [(SWIN_L, {"visa"}), (VISA_ATS, {"consistency", "propagation", "contrast", "visa"})],
)
def test_objectives_teach_the_model_and_the_task_sampler_learns(
    recipe: str, objectives: set[str], tmp_path: Path
) -> None:
    cfg = load_config(recipe, _words(recipe, tmp_path))
    trainer, _ = make_trainer(cfg)
    learning = [p for p in trainer.model.parameters() if p.requires_grad]
    reached: set[str] = set()

    def note(module: Any, given: Any, losses: dict[str, Tensor]) -> None:
        for name in _objectives_at(cfg, given[2]):
            gradients = torch.autograd.grad(
                losses[name], learning, retain_graph=True, allow_unused=True
            )
            if losses[name] > 0 and any(g is not None and g.any() for g in gradients):
                reached.add(name)

    trainer.training_model.register_forward_hook(note)
    trainer.train()
    assert reached == {f"loss_{name}" for name in objectives}
    assert trainer.tasks is not None
    state = trainer.tasks.state_dict()
    assert all((seen >= 0).any() for seen in state["difficulty"].values())
    # Past TASKS.START the chances of the periods to come are set.
    assert state["frozen"]


def test_self_training_starts_from_the_first_round(
    trained: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = trained("unsam/whole_image_R50.yaml") / "run" / "model.safetensors"
    recipe = "unsam/whole_image_R50_self_training.yaml"
    words = [*_words(recipe, tmp_path), "MODEL.WEIGHTS", str(weights)]
    _train(recipe, *words, "SOLVER.MAX_ITER", "1", "SOLVER.BASE_LR", "0.0")
    first, second = (build_model(load_config(recipe, words)) for _ in range(2))
    load_weights_into(first, weights)
    load_weights_into(second, tmp_path / "run" / "model.safetensors")
    expected = first.state_dict()
    for name, value in second.state_dict().items():
        assert torch.equal(value, expected[name]), name
