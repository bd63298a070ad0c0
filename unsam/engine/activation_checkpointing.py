"""Less memory for more computing: blocks are computed once more on the way back."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from unsam.errors import ConfigError
from unsam.modeling.encoder_layers import encoder_blocks


def checkpoint_activations(model: nn.Module) -> None:
    """Keep only the inputs of the image encoder's blocks for the way back (Chen et al. 2016).

    arXiv 1604.06174. Gradients are the same; names of weights too. Blocks keep their types and
    are called as before, so hooks on them (FSDP) and compilation work.

    Raises:
        ConfigError: the model has no such blocks.
    """
    blocks = encoder_blocks(model)
    if not blocks:
        raise ConfigError(
            f"SOLVER.ACTIVATION_CHECKPOINTING: {type(model).__name__} has no image encoder made of "
            "blocks; leave it off"
        )
    for block in blocks.values():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
