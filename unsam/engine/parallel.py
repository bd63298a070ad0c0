"""Several processes that train one model: each holds all of it (DDP), or a part of it (FSDP).

Both start from whole weights and a whole optimizer state and hand out whole ones, so checkpoints
are the same files whatever wrote them, and no name carries a prefix of a wrapper.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from unsam.engine import distributed
from unsam.errors import ConfigError
from unsam.modeling import SegmentationModel
from unsam.modeling.encoder_layers import encoder_blocks
from unsam.modeling.training_model import TrainingModel, add_zeros

KINDS = ("ddp", "fsdp")


class LoneModel:
    """A training model in one process; the base of those in several.

    Args:
        training_model: the model with its objectives.
    """

    def __init__(self, training_model: TrainingModel) -> None:
        self._training_model = training_model

    def losses(self, batch: Sequence[Any], num_masks: float, progress: float) -> dict[str, Tensor]:
        """Return what `TrainingModel.forward` returns, ready for ``backward``."""
        losses: dict[str, Tensor] = self._training_model(batch, num_masks, progress)
        return losses

    def forward_together(self) -> contextlib.AbstractContextManager[None]:
        """Raise an error of one rank's forward pass on all ranks."""
        return distributed.together()

    def without_averaging(self) -> contextlib.AbstractContextManager[Any]:
        """Keep the gradients of the block to this process, for all micro-batches but the last."""
        return contextlib.nullcontext()

    def end_step(self) -> None:
        """Note that the optimizer has changed the weights."""

    def whole_model(self) -> SegmentationModel:
        """Return a plain model with all the current weights; every rank must call this."""
        return self._training_model.model


class ReplicatedModel(LoneModel):
    """Every process holds the whole model; gradients are averaged once a step (DDP)."""

    def __init__(self, training_model: TrainingModel) -> None:
        super().__init__(training_model)
        # Filters of one input channel have strides of either layout at once; DDP asks whether
        # that is meant.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self._ddp = DistributedDataParallel(training_model)

    def losses(self, batch: Sequence[Any], num_masks: float, progress: float) -> dict[str, Tensor]:
        """Return the losses; their gradients will be averaged over the processes."""
        losses: dict[str, Tensor] = self._ddp(batch, num_masks, progress)
        return losses

    def without_averaging(self) -> contextlib.AbstractContextManager[Any]:
        """Leave the exchange of gradients to the last micro-batch."""
        return self._ddp.no_sync()


class ShardedModel(LoneModel):
    """Every process holds a part of each weight, its gradient and its moments (FSDP2).

    The encoder's blocks are groups of their own, so that their gradients are exchanged and dropped
    while the way back goes on. Weights are gathered once a step and kept until its end: that costs
    memory for one copy of the weights (not of gradients and moments), halves the traffic, and lets
    ranks differ in how often they run a block.

    Args:
        training_model: whole; sharded in place. The main rank's weights hold.
        optimizer: over its parameters, with whole state; sharded in place.
    """

    def __init__(self, training_model: TrainingModel, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(training_model)
        self._skeleton = _without_weights(training_model.model)
        for tensor in training_model.state_dict().values():
            dist.broadcast(tensor, 0)
        names = {parameter: name for name, parameter in training_model.named_parameters()}
        self._last_output: Tensor | None = None
        device = training_model.model.device
        mesh = init_device_mesh(device.type, (distributed.world_size(),))
        for block in encoder_blocks(training_model.model).values():
            fully_shard(block, mesh=mesh, reshard_after_forward=False)
            block.register_forward_hook(self._keep_output)
        fully_shard(training_model, mesh=mesh, reshard_after_forward=False)
        self._groups = [m for m in training_model.modules() if isinstance(m, FSDPModule)]
        for group in self._groups:
            group.set_reshard_after_backward(False)
        sharded = dict(training_model.named_parameters())
        _shard_optimizer(optimizer, {old: sharded[name] for old, name in names.items()})

    def losses(self, batch: Sequence[Any], num_masks: float, progress: float) -> dict[str, Tensor]:
        """Return the losses; their gradients will be averaged over the processes."""
        losses: dict[str, Tensor] = self._training_model(batch, num_masks, progress)
        if self._last_output is not None:
            # A batch without masks sends no gradient through the encoder; zeros keep this
            # rank's exchanges in the order of the others'.
            add_zeros(losses, [self._last_output])
            self._last_output = None
        return losses

    def forward_together(self) -> contextlib.AbstractContextManager[None]:
        """Let errors through: the other ranks wait for this one's weights, not for its word."""
        return contextlib.nullcontext()

    def end_step(self) -> None:
        """Drop the gathered weights, which are now old."""
        for group in self._groups:
            group.reshard()

    def whole_model(self) -> SegmentationModel:
        """Return a copy with all weights, which takes memory until it is let go of."""
        model = copy.deepcopy(self._skeleton)
        model.load_state_dict(whole(self._training_model.model.state_dict()), assign=True)
        return model

    def _keep_output(self, block: nn.Module, inputs: Any, output: Tensor) -> None:
        del block, inputs
        if torch.is_grad_enabled():
            self._last_output = output


def parallelise(
    kind: str,
    training_model: TrainingModel,
    optimizer: torch.optim.Optimizer,
    *,
    scales_loss: bool = False,
) -> LoneModel:
    """Spread a model and its optimizer over the processes of this run.

    Args:
        kind: "ddp" or "fsdp"; without other processes both are the plain model.
        training_model: whole, on its device; the main rank's weights hold, as in DDP.
        optimizer: over its parameters; with "fsdp" it is pointed at their shards.
        scales_loss: whether the loss is scaled for float16.

    Raises:
        ConfigError: another kind, or "fsdp" with a scaled loss.
    """
    if kind not in KINDS:
        raise ConfigError(f"SOLVER.PARALLEL is one of {', '.join(KINDS)}, got '{kind}'")
    if distributed.world_size() == 1:
        return LoneModel(training_model)
    if kind == "ddp":
        return ReplicatedModel(training_model)
    if scales_loss:
        # The scaler would look for overflow in a rank's own shards, and ranks would disagree.
        raise ConfigError(
            "SOLVER.PARALLEL fsdp cannot scale the loss; set SOLVER.PRECISION bfloat16"
        )
    return ShardedModel(training_model, optimizer)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale the gradients down to a norm over all parameters; return the norm before that.

    With sharded parameters the norm is that of the whole gradient, so every rank must call this.
    """
    return whole(torch.nn.utils.clip_grad_norm_(parameters, max_norm))


def whole(value: Any) -> Any:
    """Return nested containers with the shards in them gathered; every rank must call this.

    Values that hold no shard are returned as they are, not copied.
    """
    return _map_shards(value, DTensor.full_tensor)


def whole_on_main(value: Any) -> Any:
    """Like `whole`, on the CPU of the main rank; the others get an empty tensor for each shard."""

    def gathered(shard: DTensor) -> Tensor:
        # One at a time, so that a GPU never holds the whole of them.
        full = shard.full_tensor().detach()
        return full.cpu() if distributed.is_main() else full.new_empty(0)

    return _map_shards(value, gathered)


def _map_shards(value: Any, function: Callable[[DTensor], Tensor]) -> Any:
    if isinstance(value, DTensor):
        return function(value)
    if isinstance(value, dict):
        return {name: _map_shards(part, function) for name, part in value.items()}
    if isinstance(value, list):
        return [_map_shards(part, function) for part in value]
    return value


def _without_weights(model: SegmentationModel) -> SegmentationModel:
    """Return a copy whose parameters take no memory."""
    empty: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()
    }
    return copy.deepcopy(model, empty)


def _shard_optimizer(optimizer: torch.optim.Optimizer, shards: dict[Tensor, nn.Parameter]) -> None:
    """Replace whole parameters by their shards, and cut their moments alike."""
    for group in optimizer.param_groups:
        group["params"] = [shards[parameter] for parameter in group["params"]]
    for old, state in list(optimizer.state.items()):
        shard = shards[old]
        del optimizer.state[old]
        optimizer.state[shard] = {
            name: _cut_like(value, shard) if value.shape == old.shape else value
            for name, value in state.items()
        }


def _cut_like(value: Tensor, shard: nn.Parameter) -> Tensor:
    """Return this rank's part of a tensor that all ranks hold."""
    assert isinstance(shard, DTensor)
    return distribute_tensor(value, shard.device_mesh, shard.placements, src_data_rank=None)
