"""Who is measured on what: the trained model, its teacher, baselines; each once."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fvcore.common.config import CfgNode

from unsam.checkpoint.atomic import write_text_atomic
from unsam.errors import DataError
from unsam.fit.photo_sets import FitInputs, PhotoSets, digest_of_masks, photo_root
from unsam.fit.stage_file import StageFile, digest_of, digest_of_file

if TYPE_CHECKING:
    from unsam.data import ImageRecord

TRAINED, UNTRAINED, TEACHER = "trained model", "untrained model", "its teacher (pseudo masks)"
HELD_OUT, GROUND_TRUTH = "held-out pseudo masks", "ground truth"

Table = dict[str, dict[str, float]]
"""Row -> metric -> value."""

logger = logging.getLogger("unsam.fit")


@dataclass(frozen=True)
class Truth:
    """A dataset to measure on.

    Attributes:
        title: `HELD_OUT` or `GROUND_TRUTH`.
        dataset: as ``DATASETS.TEST`` names it.
        image_root: as ``DATASETS.IMAGE_ROOT``.
        digest: changes with its content.
        teacher: folder of pseudo masks of all its photos, None for none.
    """

    title: str
    dataset: str
    image_root: str
    digest: str
    teacher: Path | None = None

    def records(self, max_images: int = 0) -> list[ImageRecord]:
        """Return the photos, only the first so many unless 0."""
        from unsam.data import get_dataset

        return get_dataset(self.dataset, self.image_root)[: max_images or None]


@dataclass(frozen=True)
class Contender:
    """A row of a table: its name, ``EVALUATION.SEGMENTER`` and the file or folder behind it."""

    name: str
    segmenter: str
    source: Path | None = None


def list_truths(cfg: CfgNode, root: Path, inputs: FitInputs, sets: PhotoSets) -> list[Truth]:
    """Return what to measure on: the held-out pseudo masks, and the ground truth if there is one.

    Where not all photos of the ground truth have pseudo masks, these are made below `root`.

    Raises:
        DataError: the ground truth, or a photo of it, cannot be used.
    """
    image_root = cfg.DATASETS.IMAGE_ROOT
    digest = digest_of_masks(sets.held_out)
    truths = [Truth(HELD_OUT, str(sets.held_out), image_root, digest)]
    if inputs.ground_truth is not None:
        name = str(inputs.ground_truth)
        image_root, records = _read_ground_truth(cfg, inputs, sets)
        digest = digest_of_file(Path(name)) if Path(name).is_file() else name
        teacher = _teacher_of(records, cfg, root, inputs, sets)
        truths.append(Truth(GROUND_TRUTH, name, image_root, digest, teacher))
    return truths


def compare(
    cfg: CfgNode,
    stages: StageFile,
    weights: Path,
    truths: Sequence[Truth],
    baselines: Sequence[str] = (),
) -> dict[str, Table]:
    """Measure every contender on every truth, and keep what was measured before.

    A result is measured again when the weights, the dataset or the config that it depends on have
    changed. It is noted as soon as it is there.

    Args:
        cfg: the recipe.
        stages: where results are noted.
        weights: of the trained model.
        truths: see `list_truths`.
        baselines: names for ``EVALUATION.SEGMENTER``, on the held-out photos; any at all also adds
            the model without training.

    Returns:
        Title of the truth -> table; a truth without a single mask has an empty table.
    """
    results: dict[str, Any] = stages.content["results"]
    tables: dict[str, Table] = {}
    for truth in truths:
        table = tables[truth.title] = {}
        for contender in _contenders(truth, weights, baselines):
            made_from = _made_from(cfg, truth, contender)
            name = f"{contender.name} on {truth.title}"
            if results.get(name, {}).get("made_from") == made_from:
                logger.info("fit: %s: measured before", name)
            else:
                metrics = _measure(cfg, truth, contender)
                results[name] = {"made_from": made_from, "metrics": metrics}
                stages.note(results=results)
            if results[name]["metrics"]:
                table[contender.name] = results[name]["metrics"]
    return tables


def _contenders(truth: Truth, weights: Path, baselines: Sequence[str]) -> Iterator[Contender]:
    from unsam.evaluation.evaluation_loop import MODEL

    yield Contender(TRAINED, MODEL, weights)
    if truth.teacher is not None:
        yield Contender(TEACHER, "StoredMasks", truth.teacher)
    if truth.title == HELD_OUT and baselines:
        yield Contender(UNTRAINED, MODEL)
        for name in baselines:
            yield Contender(name, name)


def _made_from(cfg: CfgNode, truth: Truth, contender: Contender) -> str:
    import safetensors.torch

    from unsam.inference.folder import digest_of_weights

    source = ""
    if contender.source is not None and contender.source.is_dir():
        source = digest_of_masks(contender.source)
    elif contender.source is not None:
        source = digest_of_weights(safetensors.torch.load_file(contender.source))
    sections = [cfg[name].dump() for name in ("EVALUATION", "INFERENCE", "INPUT", "MODEL")]
    return digest_of(sections, cfg.SEED, truth.digest, contender.segmenter, source)


def _measure(cfg: CfgNode, truth: Truth, contender: Contender) -> dict[str, float]:
    """Return the finite numbers of a contender; none where there is nothing to find."""
    import torch

    from unsam.evaluation import evaluate
    from unsam.evaluation.build import build_segmenter
    from unsam.evaluation.evaluation_loop import MODEL
    from unsam.inference import Segmenter

    local = cfg.clone()
    local.defrost()
    local.DATASETS.TEST, local.DATASETS.IMAGE_ROOT = (truth.dataset,), truth.image_root
    local.EVALUATION.SEGMENTER = contender.segmenter
    if contender.segmenter == MODEL:
        torch.manual_seed(cfg.SEED)
        local.MODEL.WEIGHTS = str(contender.source or "")
        segmenter: Any = Segmenter.from_config(local)
    else:
        local.EVALUATION.STORED_MASKS = str(contender.source or "")
        segmenter = build_segmenter(local)
    largest = _largest_object(truth.records(cfg.EVALUATION.MAX_IMAGES))
    if not largest:
        return {}
    evaluators = ["AverageRecallEvaluator"]
    takes_clicks = getattr(segmenter, "takes_prompts", False)
    if takes_clicks and largest >= cfg.EVALUATION.INTERACTIVE.MIN_AREA:
        evaluators.append("InteractiveEvaluator")
    local.EVALUATION.EVALUATORS = tuple(evaluators)
    (results,) = evaluate(local, segmenter).values()
    return {
        key: value
        for metrics in results.values()
        for key, value in metrics.items()
        if math.isfinite(value)
    }


def _largest_object(records: Sequence[ImageRecord]) -> int:
    """Return the pixels of the largest mask of some photos, 0 where there is no mask."""
    return max((int(record.masks().areas.max(initial=0)) for record in records), default=0)


def _read_ground_truth(
    cfg: CfgNode, inputs: FitInputs, sets: PhotoSets
) -> tuple[str, list[ImageRecord]]:
    """Return the folder of the photos of the ground truth ("": where it says), and its records."""
    from unsam.data import get_dataset

    roots = ["", *(photo_root(folder) for folder in sets.masks)]
    if cfg.DATASETS.IMAGE_ROOT:
        roots = [cfg.DATASETS.IMAGE_ROOT]
    problem: DataError | None = None
    for root in roots:
        try:
            records = get_dataset(str(inputs.ground_truth), root)
            return root, records[: cfg.EVALUATION.MAX_IMAGES or None]
        except DataError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _teacher_of(
    records: Sequence[ImageRecord], cfg: CfgNode, root: Path, inputs: FitInputs, sets: PhotoSets
) -> Path | None:
    """Return a folder with pseudo masks of all these photos, made if need be."""
    from divide_and_conquer.generate import generate_pseudo_masks
    from unsam.data import get_dataset

    wanted = {str(Path(record.file_name).resolve()) for record in records}
    for folder in sets.masks:
        found = get_dataset(str(folder), cfg.DATASETS.IMAGE_ROOT)
        if wanted <= {str(Path(record.file_name).resolve()) for record in found}:
            return folder
    if inputs.masks is not None:
        # Masks made here might be of another kind than those that the model learns.
        logger.warning("%s: without masks of the ground truth's photos", inputs.masks)
        return None
    listing, target = root / "truth_photos.txt", root / "truth_masks"
    write_text_atomic(listing, "".join(f"{name}\n" for name in sorted(wanted)))
    folder = Path(os.path.commonpath([Path(name).parent for name in wanted]))
    generate_pseudo_masks(listing, target, cfg, strict=True, image_root=folder)
    return target
