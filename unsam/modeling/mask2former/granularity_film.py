"""A granularity for all queries of a photo at once, by feature-wise modulation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unsam.modeling.granularity_encoding import GranularityEncoding


class GranularityFilm(nn.Module):
    """Scales and shifts the queries of every layer by a function of the granularity.

    FiLM (Perez et al. 2018) of UnSAMv2's granularity encoding. Why not a token, as in the
    promptable models: a prompt is asked for one granularity each, but here all queries of a photo
    are asked at once. One scalar for 2,000 queries is a global condition. A token among them could
    be ignored by the attention, would have to reach every query through it, and would change the
    lengths that published weights were trained with. The modulation reaches every query in every
    layer directly, and since its last layer starts at zero, the decoder starts as exactly the one
    without granularity, so that published weights are a start for training it.

    Args:
        dim: channels of the queries.
        num_layers: layers that are modulated.
        fourier_dim: as of `GranularityEncoding`.
        temperature: as of `GranularityEncoding`.
    """

    def __init__(
        self, *, dim: int, num_layers: int, fourier_dim: int = 128, temperature: float = 100.0
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        # Without dropout: it would shake all queries of a photo together.
        self.encoding = GranularityEncoding(
            embed_dim=dim, fourier_dim=fourier_dim, temperature=temperature, dropout=0.0
        )
        self.modulation = nn.Linear(dim, 2 * num_layers * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, granularity: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the scale and the shift of each layer.

        Args:
            granularity: ``[B, G]`` in [0.1, 1], G for each of B photos.

        Returns:
            For each layer two of ``[B, G, 1, C]``; queries ``[B, G, Q, C]`` become
            ``queries * scale + shift``.
        """
        B, G = granularity.shape
        # Neighbouring granularities would blur in bfloat16.
        with torch.autocast(granularity.device.type, enabled=False):
            token = self.encoding(granularity.flatten())[:, 0]
            modulation = self.modulation(token).reshape(B, G, self.num_layers, 2, 1, -1)
        return [
            (1 + modulation[:, :, layer, 0], modulation[:, :, layer, 1])
            for layer in range(self.num_layers)
        ]
