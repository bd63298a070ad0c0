"""The granularity scalar as a prompt token (UnSAMv2, its granularity encoding)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unsam.errors import ConfigError
from unsam.modeling.layers import Mlp

MIN_GRANULARITY = 0.1
MAX_GRANULARITY = 1.0


def check_listed_granularities(granularities: Sequence[float]) -> None:
    """Refuse what ``INFERENCE.GRANULARITIES`` cannot be.

    Raises:
        ConfigError: one of them is no number in [0.1, 1].
    """
    for value in granularities:
        is_number = isinstance(value, (int, float))
        if not is_number or not MIN_GRANULARITY <= value <= MAX_GRANULARITY:
            raise ConfigError(f"INFERENCE.GRANULARITIES: numbers in [0.1, 1], got {value!r}")


class GranularityEncoding(nn.Module):
    """Granularity ``[P]`` in [0.1, 1] to one token each, ``[P, 1, embed_dim]``.

    Fourier features ``[sin(f_0 g), cos(f_0 g), sin(f_1 g), ...]`` with the ``K = fourier_dim / 2``
    frequencies ``f_k = temperature ** (k / K)``, then a perceptron with two hidden layers, then a
    learned type embedding is added. Float32 throughout: at bfloat16 the high frequencies would
    blur neighbouring granularities.

    Args:
        embed_dim: channels of the token.
        fourier_dim: number of Fourier features, even.
        temperature: the frequencies run from 1 to just below it.
        dropout: in the perceptron, in training alone.
    """

    frequencies: Tensor

    def __init__(
        self,
        *,
        embed_dim: int = 256,
        fourier_dim: int = 128,
        temperature: float = 100.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        assert fourier_dim % 2 == 0, "sine and cosine come in pairs"
        exponents = torch.arange(fourier_dim // 2, dtype=torch.float64) / (fourier_dim // 2)
        frequencies = (temperature**exponents).to(torch.float32)
        self.register_buffer("frequencies", frequencies, persistent=False)
        hidden = (fourier_dim + embed_dim) // 2
        self.mlp = Mlp((fourier_dim, hidden, hidden, embed_dim), dropout=dropout)
        self.type_embedding = nn.Parameter(torch.randn(1, embed_dim) * 0.02)

    def fourier(self, granularity: Tensor) -> Tensor:
        """Return the Fourier features of ``[P]`` granularities, ``[P, fourier_dim]`` float32."""
        angles = granularity.to(torch.float32)[:, None] * self.frequencies
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)

    def forward(self, granularity: Tensor) -> Tensor:
        """Return the tokens of ``[P]`` granularities, ``[P, 1, embed_dim]``."""
        return (self.mlp(self.fourier(granularity)) + self.type_embedding)[:, None]
