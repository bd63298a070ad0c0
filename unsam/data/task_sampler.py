"""The adaptive task sampler (ATS): what the model still gets wrong comes more often.

Published is one sentence: it keeps a running difficulty per photo, granularity bin and prompt kind,
and in the later part of training draws harder tasks more often. The rest is our reading of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from unsam.data.photo_order import PhotoOrder
from unsam.data.sampler import SampleKey
from unsam.errors import CheckpointError, ConfigError
from unsam.structures.granularity_bands import NUM_BANDS, granularity_bands

Records = np.ndarray
"""``float64 [R, 4]``: photo, granularity, prompt kind, error in [0, 1]."""

_PHOTOS, _GRANULARITIES, _PROMPTS = _AXES = ("photos", "granularities", "prompts")
_UNSEEN = -1.0
# Beside the numbers of datasets, which come last in the seeds of their passes.
_ADAPTIVE_DRAW = 1 << 31


class AdaptiveTaskSampler:
    """Keeps the running difficulty of photos, bands of granularity and kinds of prompts.

    The difficulty of each is a moving average of the model's error, 1 - IoU after the first prompt,
    over the steps in which it came up. A step's errors of one photo (band, kind) count as their
    mean. The three are kept apart: a photo is as hard as its masks are on average, and so on.

    The difficulties are frozen at the start of every period of `refresh_period` steps, and the
    chances of the *next* period follow from them. So a loader that is ahead of the training by
    less than a period finds the chances it needs, and what is drawn does not depend on how far
    ahead it is. The state is the same on all ranks, if all call `end_step` with the same records.

    Args:
        num_photos: photos of the training set.
        num_prompt_kinds: kinds of first prompts.
        start: share of the training after which chances are frozen; until they hold, and before,
            everything is drawn as without this sampler.
        temperature: over 0; chances go with the difficulty to the power of its inverse.
        floor: share of an even chance that each task keeps, in (0, 1].
        momentum: share of a running difficulty that a new error leaves, in [0, 1).
        refresh_period: steps.
        photos: whether photos are drawn by difficulty;
        granularities: bands of granularity;
        prompts: kinds of prompts.

    Attributes:
        iteration: finished steps.

    Raises:
        ConfigError: a value out of its range.
    """

    def __init__(
        self,
        num_photos: int,
        num_prompt_kinds: int,
        *,
        start: float = 0.5,
        temperature: float = 1.0,
        floor: float = 0.2,
        momentum: float = 0.9,
        refresh_period: int = 50,
        photos: bool = True,
        granularities: bool = True,
        prompts: bool = True,
    ) -> None:
        if not (temperature > 0 and 0 < floor <= 1 and 0 <= momentum < 1 and refresh_period >= 1):
            raise ConfigError(
                "TASKS: TEMPERATURE is over 0, FLOOR in (0, 1], MOMENTUM in [0, 1), REFRESH_PERIOD "
                f"at least 1, got {temperature}, {floor}, {momentum}, {refresh_period}"
            )
        self.refresh_period = refresh_period
        self._start = start
        self._temperature = temperature
        self._floor = floor
        self._momentum = momentum
        self._adapts = dict(zip(_AXES, (photos, granularities, prompts), strict=True))
        sizes = (num_photos, NUM_BANDS, num_prompt_kinds)
        self._difficulty = {
            axis: np.full(size, _UNSEEN) for axis, size in zip(_AXES, sizes, strict=True)
        }
        # Frozen difficulties, by the period that draws from them.
        self._frozen: dict[int, dict[str, np.ndarray]] = {}
        self.iteration = 0
        self._pending: list[Tensor] = []
        self._cumulative: dict[tuple[int, int, int], np.ndarray] = {}

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``TASKS`` into the constructor's arguments."""
        node = cfg.TASKS
        return {
            "start": node.START,
            "temperature": node.TEMPERATURE,
            "floor": node.FLOOR,
            "momentum": node.MOMENTUM,
            "refresh_period": node.REFRESH_PERIOD,
            "photos": node.PHOTOS,
            "granularities": node.GRANULARITIES,
            "prompts": node.PROMPTS,
        }

    def draw_photo(self, step: int, first: int, count: int, uniform: float) -> int | None:
        """Draw one of the photos ``[first, first + count)`` by their difficulty.

        Args:
            step: that will use it, less than `refresh_period` ahead of the training.
            first: number of the first photo.
            count: of photos.
            uniform: a random number in [0, 1).

        Returns:
            The photo's number; None in the part of the training without adaptation.
        """
        period = step // self.refresh_period
        if period not in self._frozen or not self._adapts[_PHOTOS]:
            return None
        key = (period, first, count)
        if key not in self._cumulative:
            difficulty = self._frozen[period][_PHOTOS][first : first + count]
            self._cumulative[key] = self._chances(difficulty).cumsum()
        cumulative = self._cumulative[key]
        place = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
        return first + min(place, count - 1)

    def mask_weights(self, granularity: Tensor) -> Tensor | None:
        """Return factors ``[M]`` on the chances of masks of these granularities ``[M]``.

        None in the part of the training without adaptation.
        """
        weights = self._weights(_GRANULARITIES)
        if weights is None:
            return None
        return weights[torch.from_numpy(granularity_bands(granularity.cpu().numpy()))]

    def prompt_weights(self) -> Tensor | None:
        """Return a factor on the chance of each kind of prompt; None without adaptation."""
        return self._weights(_PROMPTS)

    def record(
        self, photos: Tensor, granularity: Tensor, prompt_kinds: Tensor, errors: Tensor
    ) -> None:
        """Note the errors of P masks of the current step, each input ``[P]``, on any device."""
        columns = (photos, granularity, prompt_kinds, errors)
        self._pending.append(
            torch.stack([part.detach().to(errors.device, torch.float64) for part in columns], dim=1)
        )

    def take_records(self) -> Records:
        """Return what was noted since the last call, for `end_step` on every rank."""
        taken = [part.cpu().numpy() for part in self._pending]
        self._pending = []
        return np.concatenate([np.zeros((0, 4)), *taken])

    def end_step(self, records: Sequence[Records], iteration: int, progress: float) -> None:
        """Learn from a step.

        Args:
            records: what `take_records` returned on each rank.
            iteration: finished steps.
            progress: share of the training that is done, in [0, 1].
        """
        every = np.concatenate(records)
        # In an order of their own: sums must not depend on which rank had which photo.
        every = every[np.lexsort(every.T)]
        photos, granularity, kinds, errors = every.T
        cells = (photos.astype(np.int64), granularity_bands(granularity), kinds.astype(np.int64))
        for axis, cell in zip(_AXES, cells, strict=True):
            self._learn(self._difficulty[axis], cell, errors)
        self.iteration = iteration
        period, step = divmod(iteration, self.refresh_period)
        if step == 0:
            kept = {key: value for key, value in self._frozen.items() if key >= period}
            if progress >= self._start:
                kept[period + 1] = {key: value.copy() for key, value in self._difficulty.items()}
            self._frozen = kept
            self._cumulative = {key: v for key, v in self._cumulative.items() if key[0] >= period}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to draw as the uninterrupted one."""
        return {
            "difficulty": _tensors(self._difficulty),
            "frozen": {period: _tensors(axes) for period, axes in self._frozen.items()},
        }

    def load_state_dict(self, state: dict[str, Any], iteration: int) -> None:
        """Go on from a `state_dict`.

        Args:
            state: empty if the run had no such sampler so far.
            iteration: finished steps.

        Raises:
            CheckpointError: the state is of another training set.
        """
        self.iteration = iteration
        if not state:
            return
        for axis, own in self._difficulty.items():
            if len(state["difficulty"][axis]) != len(own):
                raise CheckpointError(
                    f"the checkpoint's task sampler knows {len(state['difficulty'][axis])} {axis}, "
                    f"this run has {len(own)}; resume with the DATASETS.TRAIN of the run"
                )
        self._difficulty = _arrays(state["difficulty"])
        self._frozen = {period: _arrays(axes) for period, axes in state["frozen"].items()}
        self._cumulative = {}

    def _learn(self, difficulty: np.ndarray, cell: np.ndarray, errors: np.ndarray) -> None:
        """Move the difficulty ``[n]`` of the cells that came up towards their mean errors."""
        seen, where, counts = np.unique(cell, return_inverse=True, return_counts=True)
        means = np.bincount(where, weights=errors, minlength=len(seen)) / counts
        old = difficulty[seen]
        mixed = self._momentum * old + (1 - self._momentum) * means
        difficulty[seen] = np.where(old == _UNSEEN, means, mixed)

    def _weights(self, axis: str) -> Tensor | None:
        frozen = self._frozen.get(self.iteration // self.refresh_period)
        if frozen is None or not self._adapts[axis]:
            return None
        chances = self._chances(frozen[axis])
        return torch.from_numpy(chances * len(chances)).to(torch.float32)

    def _chances(self, difficulty: np.ndarray) -> np.ndarray:
        """Return the chances ``[n]``, of sum 1, for difficulties ``[n]``."""
        count, seen = len(difficulty), difficulty != _UNSEEN
        # A task that never came up is as hard as the others on average.
        usual = difficulty[seen].mean() if seen.any() else 1.0
        powers = np.where(seen, difficulty, usual) ** (1 / self._temperature)
        total = powers.sum()
        shares = powers / total if total > 0 else np.full(count, 1 / count)
        return self._floor / count + (1 - self._floor) * shares


class AdaptiveOrder:
    """The photos of `PhotoOrder`, replaced by harder ones of the same dataset in later training.

    The datasets keep their turns; within a dataset photos are drawn with replacement.

    Args:
        order: what is drawn without adaptation.
        tasks: knows how hard the photos are.
        batch_size: samples of one optimizer step, over all ranks and micro-batches.
        start: samples of the run seen before, in the steps that `tasks` knows to be finished.
        seed: seed of the draws.
    """

    def __init__(
        self,
        order: PhotoOrder,
        tasks: AdaptiveTaskSampler,
        *,
        batch_size: int,
        start: int,
        seed: int,
    ) -> None:
        self._order = order
        self._tasks = tasks
        self._batch_size = batch_size
        self._start = start
        self._finished = tasks.iteration
        self._seed = seed

    def key(self, position: int) -> SampleKey:
        """Return the sample at `position` of the whole run, not before the start.

        A drawn photo has the position for its pass, so that no two draws of it are alike.
        """
        dataset = self._order.turn(position).dataset
        uniform = np.random.default_rng([self._seed, position, _ADAPTIVE_DRAW]).random()
        photo = self._tasks.draw_photo(
            self._finished + (position - self._start) // self._batch_size,
            self._order.firsts[dataset],
            self._order.lengths[dataset],
            uniform,
        )
        return self._order.key(position) if photo is None else SampleKey(position, photo)


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value.copy()) for key, value in arrays.items()}


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {key: value.numpy().copy() for key, value in tensors.items()}
