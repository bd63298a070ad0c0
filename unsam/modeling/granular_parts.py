"""What UnSAMv2 adds to SAM and SAM 2 to ask for a granularity (arXiv 2511.13714, §3.2)."""

from __future__ import annotations

from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from unsam.modeling.granularity_encoding import GranularityEncoding
from unsam.modeling.layers import Mlp
from unsam.modeling.lora import LoraLinear


class GranularityParts(nn.Module):
    """A prompt token for the granularity, and a mask token with its own hypernetwork.

    Args:
        dim: channels of the decoder's tokens.
        fourier_dim: number of Fourier features of the granularity, even.
        temperature: the ratio of their extreme frequencies.
        quality_head: predict the IoU of the granularity mask by a head of its own. The published
            weights have none and read the head of SAM's single mask.

    Attributes:
        encoding: granularity ``[P]`` to prompt tokens ``[P, 1, dim]``.
        mask_token: ``[1, dim]``, joins the decoder's own tokens.
        hypernetwork: the mask token after the decoder to the weights of the mask, ``dim / 8``.
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        fourier_dim: int = 128,
        temperature: float = 100.0,
        quality_head: bool = False,
    ) -> None:
        super().__init__()
        self.encoding = GranularityEncoding(
            embed_dim=dim, fourier_dim=fourier_dim, temperature=temperature, dropout=0.1
        )
        self.mask_token = nn.Parameter(torch.randn(1, dim))
        self.hypernetwork = Mlp((dim, dim, dim, dim // 8))
        self.quality_head = Mlp((2 * dim, dim, 1)) if quality_head else None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``MODEL.GRANULARITY`` into the constructor's arguments."""
        node = cfg.MODEL.GRANULARITY
        return {
            "fourier_dim": node.FOURIER_DIM,
            "temperature": node.TEMPERATURE,
            "quality_head": node.QUALITY_HEAD,
        }

    def quality(self, quality_token: Tensor, mask_token: Tensor) -> Tensor | None:
        """Predict the IoU of the granularity masks.

        Args:
            quality_token: the decoder's IoU token after the transformer, ``[P, dim]``.
            mask_token: the granularity mask token after the transformer, ``[P, dim]``.

        Returns:
            ``[P]`` in [0, 1]; None without a head of its own.
        """
        if self.quality_head is None:
            return None
        tokens = torch.cat((quality_token, mask_token), dim=-1)
        return self.quality_head(tokens)[:, 0].sigmoid()


def freeze_all_but_granularity(model: nn.Module) -> None:
    """Leave only `GranularityParts` and low-rank updates to train, as UnSAMv2 does.

    Raises:
        ValueError: the model has neither.
    """
    model.requires_grad_(False)
    added = [m for m in model.modules() if isinstance(m, (GranularityParts, LoraLinear))]
    if not added:
        raise ValueError(
            f"{type(model).__name__} has no parts for a granularity to train; MODEL.GRANULARITY is "
            "for Sam and Sam2, others learn with MODEL.GRANULARITY.ENABLED False"
        )
    for part in added:
        if isinstance(part, LoraLinear):
            part.lora_a.requires_grad_(True)
            part.lora_b.requires_grad_(True)
        else:
            part.requires_grad_(True)
