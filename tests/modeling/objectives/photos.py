"""Photos with masks that are large against the patches of a tiny model, and their contexts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.segmentation_model import SegmentationModel
from unsam.modeling.training_context import TrainingContext


def photo(seed: int, size: tuple[int, int] = (96, 128)) -> dict[str, Any]:
    """Return a sample of noise over two colours: the left part, the right part and all of it."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 100, (3, *size), dtype=torch.uint8, generator=generator)
    split = size[1] // 2 + 5
    image[0, :, :split] += 120
    masks = torch.zeros(3, *size, dtype=torch.bool)
    masks[0, :, :split] = masks[1, :, split:] = masks[2] = True
    return {
        "image": image,
        "masks": masks,
        "granularity": torch.tensor([0.4, 0.5, 1.0]),
        "image_id": seed,
        "seed": seed,
    }


def context_of(model: SegmentationModel, batch: Sequence[dict[str, Any]]) -> TrainingContext:
    """Return what an objective is given for a batch."""
    features = model.encode([sample["image"] for sample in batch])
    return TrainingContext(batch, features, 1.0, SampleRandom.from_batch(batch))


def without_masks(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample as of a photo that nothing was found in."""
    return sample | {"masks": sample["masks"][:0], "granularity": sample["granularity"][:0]}
