"""The training loop."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from unsam.data.loader import TrainLoader, worker_deaths_as_errors
from unsam.data.mapper import Sample
from unsam.data.task_sampler import AdaptiveTaskSampler
from unsam.engine import distributed, random_state
from unsam.engine.ema import WeightAverage
from unsam.engine.parallel import LoneModel, clip_gradients, parallelise
from unsam.engine.step_errors import memory_as_error, not_finite
from unsam.engine.stop_signals import StoppedBySignalError, StopSignals
from unsam.errors import ConfigError, UnsamError
from unsam.modeling import SegmentationModel
from unsam.modeling.training_model import TrainingModel
from unsam.solver import Schedule

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""What tells the time of a run; the second counts the processor time of this process alone."""

logger = logging.getLogger(__name__)


class Hook:
    """Something that happens around the steps; all ranks run all hooks, in the same order."""

    def before_train(self, trainer: Trainer) -> None:
        """Run once, before the first step."""

    def after_step(self, trainer: Trainer) -> None:
        """Run after each step, when ``trainer.iteration`` counts it."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """Run when a signal has asked for the end, before the trainer stops."""

    def after_train(self, trainer: Trainer) -> None:
        """Run once, when the last step is done."""


class Trainer:
    """Takes optimizer steps until the budget is used up.

    Args:
        training_model: the model with its objectives; wrapped for several processes here.
        optimizer: over the parameters of `training_model`.
        schedule: sets the optimizer's learning rate before each step.
        make_loader: gives the loader from a position in the run (samples seen before).
        batch_size: samples of a step, over all ranks.
        max_iter: steps of the run.
        max_seconds: seconds of loading and stepping after which the run ends; 0 for no limit.
        clock: tells them, one of `CLOCKS`.
        accumulate: micro-batches of a step on each rank.
        clip_norm: largest norm of the gradient; 0 leaves it as it is.
        autocast: type of the matrix products, None for float32. With float16 the loss is scaled, as
            small gradients would vanish; a step whose gradient overflows is skipped and the scale
            lowered (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2).
        device: where the model is.
        hooks: what happens around the steps.
        average: moving average of the model; None keeps none.
        tasks: draws harder tasks more often; None draws as configured.
        parallel: how several processes share the work, see `parallelise`.
        seed: of the run; what a model draws beside the samples' own numbers, such as dropout,
            follows from it, the step and the place of the micro-batch in the step.

    Attributes:
        model: the segmentation model in `training_model`.
        iteration: finished steps.
        position: samples seen, over all ranks.
        seconds: training time of the run so far, the slowest rank's.
        losses: this rank's means over the last step's micro-batches, by name; with float16 also
            ``skipped_steps``, 1 if the last step was not made, and ``gradient_scale``.
        learning_rate: of the last step.
        gradient_norm: of the last step, before clipping; 0 if the step was skipped.
        scaler: of the loss; without float16 it does nothing.
        data_seconds: what the last step waited for its samples.
        step_seconds: what the last step took, waiting included.
    """

    def __init__(
        self,
        *,
        training_model: TrainingModel,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        make_loader: Callable[[int], TrainLoader],
        batch_size: int,
        max_iter: int,
        max_seconds: float = 0.0,
        clock: str = "wall",
        accumulate: int = 1,
        clip_norm: float = 0.0,
        autocast: torch.dtype | None = None,
        device: torch.device | None = None,
        hooks: Sequence[Hook] = (),
        average: WeightAverage | None = None,
        tasks: AdaptiveTaskSampler | None = None,
        parallel: str = "ddp",
        seed: int = 0,
    ) -> None:
        self.training_model = training_model
        self.model = training_model.model
        self.average = average
        self.tasks = tasks
        training_model.tasks = tasks
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.device = device or torch.device("cpu")
        self.hooks = list(hooks)
        self.iteration = 0
        self.position = 0
        self.seconds = 0.0
        self.losses: dict[str, float] = {}
        self.learning_rate = self.gradient_norm = 0.0
        self.data_seconds = self.step_seconds = 0.0
        self._schedule = schedule
        self._make_loader = make_loader
        self._max_seconds = max_seconds
        self._clock = _clock(clock)
        self._began = 0.0
        self._accumulate = accumulate
        self._clip_norm = clip_norm if clip_norm > 0 else math.inf
        self._autocast = autocast
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=autocast is torch.float16)
        self._seed = seed
        self._parallel = LoneModel(training_model)
        self._parallel_kind = parallel
        training_model.set_teacher(None if average is None else average.model)

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]: of the steps, or of the time if that is more.

        The same on every rank.
        """
        by_steps = self.iteration / self.max_iter
        by_time = self.seconds / self._max_seconds if self._max_seconds > 0 else 0.0
        return min(1.0, max(by_steps, by_time))

    def whole_model(self) -> SegmentationModel:
        """Return the model as it will be used: the average, where one is kept.

        Every rank must call this, for with "fsdp" it gathers the weights.
        """
        return self._parallel.whole_model() if self.average is None else self.average.model

    def train(self) -> None:
        """Take the steps that are left.

        Raises:
            TrainingError: a loss or the gradient is not finite on some rank, or the GPU's memory is
                full on the way forward; raised on every rank, before the step is made. Or memory
                ran out elsewhere, or a data loading process died; raised on that rank.
            DataError: some rank cannot read a photo; raised on every rank.
            StoppedBySignalError: SIGTERM or Ctrl-C came; the hooks have saved a checkpoint.
        """
        self._parallel = parallelise(
            self._parallel_kind,
            self.training_model,
            self.optimizer,
            scales_loss=self.scaler.is_enabled(),
        )
        self.training_model.train()
        for hook in self.hooks:
            hook.before_train(self)
        loader = self._make_loader(self.position)
        with (
            worker_deaths_as_errors(),
            StopSignals() as signals,
            contextlib.closing(iter(loader)) as batches,
        ):
            while self.progress < 1.0:
                self._one_iteration(batches, signals)
        for hook in self.hooks:
            hook.after_train(self)

    def _one_iteration(self, batches: Iterator[list[Sample]], signals: StopSignals) -> None:
        started, self._began = time.perf_counter(), self._clock()
        micro_batches, error = self._fetch(batches)
        self.data_seconds = time.perf_counter() - started
        self._agree_to_go_on(error, signals)
        self._step(micro_batches, started)
        self.iteration += 1
        self.position += self.batch_size
        if self.tasks is not None:
            records = distributed.gather(self.tasks.take_records())
            self.tasks.end_step(records, self.iteration, self.progress)
        for hook in self.hooks:
            hook.after_step(self)

    def _fetch(
        self, batches: Iterator[list[Sample]]
    ) -> tuple[list[list[Sample]], UnsamError | None]:
        try:
            return [next(batches) for _ in range(self._accumulate)], None
        except UnsamError as error:
            return [], error

    def _agree_to_go_on(self, error: UnsamError | None, signals: StopSignals) -> None:
        """Stop all ranks if one has to, before any of them waits for another's gradients."""
        distributed.barrier()
        failed, signal_number = distributed.maximum(
            [float(error is not None), float(signals.received)]
        )
        if failed:
            distributed.raise_gathered(error)
        if signal_number:
            for hook in self.hooks:
                hook.on_interrupt(self)
            stopped = StoppedBySignalError(
                f"stopped by signal {int(signal_number)} after iteration {self.iteration}; "
                "--resume continues from there",
                int(signal_number),
            )
            raise distributed.mark_every_rank(stopped)

    def _step(self, micro_batches: list[list[Sample]], started: float) -> None:
        self.learning_rate = self._schedule.apply(self.iteration, self.progress)
        self.optimizer.zero_grad(set_to_none=True)
        named: list[dict[str, torch.Tensor]] = []
        num_masks = self._masks_per_micro_batch(micro_batches)
        for number, batch in enumerate(micro_batches):
            # The gradients of several processes are averaged once, after the last micro-batch.
            last = number == len(micro_batches) - 1
            with contextlib.nullcontext() if last else self._parallel.without_averaging():
                named.append(self._backward(batch, number, num_masks))
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = clip_gradients(parameters, self._clip_norm)
        losses = self._to_numbers(named, norm)
        self.step_seconds = time.perf_counter() - started
        self._agree_to_step(losses, micro_batches)
        with memory_as_error(self.iteration + 1, micro_batches[-1]):
            self.scaler.step(self.optimizer)
        self._parallel.end_step()
        if self.average is not None:
            self.average.update(self.model, self.iteration + 1)
        self.losses = _means(losses) | self._update_scale()

    def _masks_per_micro_batch(self, micro_batches: list[list[Sample]]) -> float:
        """Return what sums over masks are divided by, so that each mask of the step counts once."""
        own = sum(self.training_model.count_targets(batch) for batch in micro_batches)
        return max(distributed.total(own), 1.0) / (distributed.world_size() * self._accumulate)

    def _backward(
        self, batch: list[Sample], number: int, num_masks: float
    ) -> dict[str, torch.Tensor]:
        # The same numbers for the same micro-batch, whichever process has it and after any resume.
        place = number * distributed.world_size() + distributed.rank()
        random_state.seed_torch(self._seed, self.iteration, place)
        with torch.autocast(
            self.device.type, dtype=self._autocast, enabled=self._autocast is not None
        ):
            with self._parallel.forward_together(), memory_as_error(self.iteration + 1, batch):
                losses = self._parallel.losses(batch, num_masks, self.progress)
            total = sum(value for name, value in losses.items() if name.startswith("loss_"))
        assert isinstance(total, torch.Tensor), "the model returned no loss_*"
        with memory_as_error(self.iteration + 1, batch):
            self.scaler.scale(total / self._accumulate).backward()
        return {name: value.detach() for name, value in losses.items()}

    def _to_numbers(
        self, named: list[dict[str, torch.Tensor]], norm: torch.Tensor
    ) -> list[dict[str, float]]:
        """Take the losses and the gradient's norm from the device, in one transfer."""
        flat = [value.reshape(()).double() for losses in named for value in losses.values()]
        numbers = iter(torch.stack([*flat, norm.reshape(()).double()]).tolist())
        values = [{name: next(numbers) for name in losses} for losses in named]
        self.gradient_norm = next(numbers)
        return values

    def _agree_to_step(
        self, losses: list[dict[str, float]], micro_batches: list[list[Sample]]
    ) -> None:
        """Stop all ranks if a number of one is not finite; share the slowest rank's clock."""
        bad_loss = bad_norm = None
        for part, batch in zip(losses, micro_batches, strict=True):
            bad = [
                f"{name} is {value}"
                for name, value in part.items()
                if name.startswith("loss_") and not math.isfinite(value)
            ]
            if bad and bad_loss is None:
                bad_loss = not_finite(self.iteration + 1, bad, batch)
        if not math.isfinite(self.gradient_norm):
            every = [sample for batch in micro_batches for sample in batch]
            bad = [f"the gradient norm is {self.gradient_norm}"]
            bad_norm = not_finite(self.iteration + 1, bad, every)
        seconds = self.seconds + self._clock() - self._began
        any_loss, any_norm, self.seconds = distributed.maximum(
            [bad_loss is not None, bad_norm is not None, seconds]
        )
        # A bad loss spoils the averaged gradient of all ranks: only the loss is to blame then.
        if any_loss:
            distributed.raise_gathered(bad_loss)
        # Scaled gradients may overflow: the scaler then skips the step on all ranks and tries less.
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() > 1.0
        if any_norm and not overflow:
            distributed.raise_gathered(bad_norm)

    def _update_scale(self) -> dict[str, float]:
        """Let the scale of the loss follow the gradient; return what became of the step."""
        if not self.scaler.is_enabled():
            return {}
        before = self.scaler.get_scale()
        self.scaler.update()
        skipped = self.scaler.get_scale() < before
        if skipped:
            self.gradient_norm = 0.0
        return {"skipped_steps": float(skipped), "gradient_scale": before}


def _means(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each value over the micro-batches that have it."""
    together: dict[str, list[float]] = {}
    for part in parts:
        for name, value in part.items():
            together.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in together.items()}


def _clock(name: str) -> Callable[[], float]:
    if name not in CLOCKS:
        raise ConfigError(f"SOLVER.CLOCK is one of {', '.join(CLOCKS)}, got {name!r}")
    return CLOCKS[name]
