"""The frame of every evaluator: per-photo results here, one number for all ranks at the end."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch.distributed as dist

from unsam.data import ImageRecord
from unsam.errors import DataError

Measured = TypeVar("Measured")


class Evaluator(ABC):
    """Collects what a segmenter did on each photo and turns it into numbers.

    Every rank handles its share of the photos; `evaluate` gathers the shares, so that any number
    of ranks, uneven and empty shares included, gives the same numbers. A photo that several ranks
    handled (padded shares) counts once.

    Attributes:
        drives_segmenter: False: `process` takes mask sets. True: the evaluator asks questions, so
            `process` takes the segmenter.
        needs_prompts: whether a segmenter that takes no clicks is of no use.
    """

    drives_segmenter: ClassVar[bool] = False
    needs_prompts: ClassVar[bool] = False

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        self.records = {record.image_id: record for record in records}
        if len(self.records) != len(records):
            raise DataError("a dataset to evaluate on has two photos with the same image id")
        if not records:
            raise DataError("a dataset to evaluate on has no photo")
        self._results: dict[int, Any] = {}

    def reset(self) -> None:
        """Forget all photos."""
        self._results = {}

    @abstractmethod
    def process(self, samples: Sequence[Mapping[str, Any]], outputs: Any) -> None:
        """Take in some photos.

        Args:
            samples: each with ``image_id``, and ``image`` (uint8 ``[H, W, 3]``) where the
                evaluator drives the segmenter.
            outputs: one `MaskSet` per sample, or the segmenter (see `drives_segmenter`).

        Raises:
            DataError: a photo is not of this dataset, or its masks are of another size.
        """

    @abstractmethod
    def measure(self, results: Mapping[int, Any]) -> dict[str, float]:
        """Return the numbers for all photos; `results` is sorted by image id."""

    def evaluate(self) -> dict[str, float]:
        """Return the numbers over the photos of all ranks, the same on each; collective.

        A number that has no meaning (no small object in the truth) is NaN.
        """
        return measure_once(self._results, self.measure)

    def record_of(self, sample: Mapping[str, Any]) -> ImageRecord:
        """Return the record of a sample.

        Raises:
            DataError: the dataset has no such photo.
        """
        image_id = int(sample["image_id"])
        if image_id not in self.records:
            name = sample.get("file_name", "")
            raise DataError(f"a result for photo {image_id} {name}, which is not in the dataset")
        return self.records[image_id]

    def add(self, image_id: int, result: Any) -> None:
        """Keep what `measure` needs of one photo; a photo that is seen again changes nothing."""
        self._results.setdefault(image_id, result)

    @property
    def results(self) -> Mapping[int, Any]:
        """What was added on this rank, by image id."""
        return self._results


def measure_once(
    local: Mapping[int, Any], measure: Callable[[Mapping[int, Any]], Measured]
) -> Measured:
    """Gather per-photo results of all ranks, measure on the first and tell the others.

    Args:
        local: image id -> result, on this rank.
        measure: function of all results, sorted by image id.

    Returns:
        What `measure` returns, on every rank. An error that it raises is raised on every rank.
    """
    if not _distributed():
        return measure(dict(sorted(local.items())))
    shares = _gather(dict(local))
    answer: list[Any] = [None]
    if shares is not None:
        merged: dict[int, Any] = {}
        for share in shares:
            merged = share | merged
        try:
            answer = [measure(dict(sorted(merged.items())))]
        except Exception as error:
            answer = [error]
    with _object_group() as group:
        dist.broadcast_object_list(answer, src=0, group=group)
    if isinstance(answer[0], Exception):
        raise answer[0]
    return answer[0]


def raise_on_every_rank(error: Exception | None) -> None:
    """Raise the first error that any rank had, on every rank; collective.

    Without it, the ranks that had none would wait for the others for ever.
    """
    if not _distributed():
        if error is not None:
            raise error
        return
    errors: list[Any] = [None] * dist.get_world_size()
    with _object_group() as group:
        dist.all_gather_object(errors, error, group=group)
    for item in errors:
        if item is not None:
            raise item


def rank_and_world() -> tuple[int, int]:
    """Return this process's rank and the number of processes; ``(0, 1)`` outside torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)


def _gather(value: Any) -> list[Any] | None:
    """Return the values of all ranks on the first rank, None on the others."""
    first = dist.get_rank() == 0
    shares: list[Any] | None = [None] * dist.get_world_size() if first else None
    with _object_group() as group:
        dist.gather_object(value, shares, dst=0, group=group)
    return shares


@contextlib.contextmanager
def _object_group() -> Iterator[Any]:
    """Give a process group for Python objects: gloo, also where the gradients use NCCL."""
    if dist.get_backend() == "gloo":
        yield None
        return
    group: Any = dist.new_group(backend="gloo")
    try:
        yield group
    finally:
        dist.destroy_process_group(group)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
