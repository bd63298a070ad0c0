"""What can go wrong within a step, as errors that say where and what to do about it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from unsam.data.mapper import Sample
from unsam.errors import TrainingError


@contextlib.contextmanager
def memory_as_error(iteration: int, batch: Sequence[Sample]) -> Iterator[None]:
    """Turn an exhausted GPU into a one-line error with the sizes of the batch.

    Args:
        iteration: the step that is being made, from 1.
        batch: the micro-batch that it is made of.

    Raises:
        TrainingError: torch could not allocate memory in the block.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        sizes = ", ".join(
            f"{sample['image'].shape[-2]}x{sample['image'].shape[-1]} with "
            f"{len(sample['masks'])} masks"
            for sample in batch
        )
        raise TrainingError(
            f"iteration {iteration}: out of memory on {len(batch)} photo(s) at once ({sizes}); "
            "raise SOLVER.ACCUMULATE, or lower SOLVER.BATCH_SIZE, INPUT.IMAGE_SIZE or "
            "MODEL.CLICKS.MASKS_PER_IMAGE, or set SOLVER.ACTIVATION_CHECKPOINTING, and --resume"
        ) from error


def not_finite(iteration: int, bad: Sequence[str], batch: Sequence[Sample]) -> TrainingError:
    """Return the error for numbers that are not finite.

    Args:
        iteration: the step that would have been made, from 1.
        bad: what the numbers are, such as ``loss_dice is nan``.
        batch: the samples that they come from.
    """
    files = ", ".join(str(sample["file_name"]) for sample in batch)
    return TrainingError(
        f"iteration {iteration}: {', '.join(bad)} on {files}; the step was not made. "
        "Look at these photos and masks, or lower SOLVER.BASE_LR and --resume"
    )
