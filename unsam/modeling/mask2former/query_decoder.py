"""The decoder of Mask2Former: learned queries look at a photo, each for at most one mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from unsam.modeling.layers import Mlp
from unsam.modeling.mask2former.attention import PredictedMasks, QueryAttention
from unsam.modeling.mask2former.granularity_film import GranularityFilm
from unsam.modeling.pixel_decoder.position import sine_position

if TYPE_CHECKING:
    from unsam.modeling.pixel_decoder import PixelFeatures


@dataclass(frozen=True)
class QueryPredictions:
    """What N queries say about each of B photos.

    Attributes:
        class_logits: ``[B, N, 2]``: a mask, nothing.
        mask_embeddings: ``[B, N, C]``; the mask logits at a position are the product with the mask
            features there. They are left to whoever needs them, for whichever queries and
            positions: all of them would take a gibibyte for 2,000 queries and a large photo.
    """

    class_logits: Tensor
    mask_embeddings: Tensor


@dataclass(frozen=True)
class _Level:
    """A scale as the layers see it: ``keys`` and ``values [B, S, C]``, ``masks [B, C, S]``."""

    keys: Tensor
    values: Tensor
    masks: Tensor


class DecoderLayer(nn.Module):
    """Masked attention to the photo, attention among the queries, perceptron; norms after each.

    Args:
        dim: channels C.
        num_heads: heads of both attentions.
        ffn_dim: hidden width of the perceptron.
    """

    def __init__(self, *, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.cross_attention = QueryAttention(dim=dim, num_heads=num_heads)
        self.cross_norm = nn.LayerNorm(dim)
        self.self_attention = QueryAttention(dim=dim, num_heads=num_heads)
        self.self_norm = nn.LayerNorm(dim)
        self.mlp = Mlp((dim, ffn_dim, dim))
        self.mlp_norm = nn.LayerNorm(dim)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, queries: Tensor, position: Tensor, level: _Level, mask_embeddings: Tensor
    ) -> Tensor:
        """Return the queries after the layer, ``[B, G, Q, C]``.

        Args:
            queries: ``[B, G, Q, C]``, G sets for each photo that do not know of each other.
            position: ``[Q, C]``, added where queries are compared.
            level: the photo.
            mask_embeddings: ``[B, G * Q, C]``, of the masks that the queries look into.
        """
        shape = queries.shape
        masks = PredictedMasks(mask_embeddings, level.masks)
        # The sets of a photo look at the same keys, so there they are one long set.
        looking = (queries + position).flatten(1, 2)
        seen = self.cross_attention(looking, level.keys, level.values, masks)
        queries = self.cross_norm(queries + seen.reshape(shape)).flatten(0, 1)
        talking = queries + position
        queries = self.self_norm(queries + self.self_attention(talking, talking, queries))
        return self.mlp_norm(queries + self.mlp(queries)).reshape(shape)


class MaskedAttentionDecoder(nn.Module):
    """Masked-attention transformer decoder (Mask2Former, Cheng et al. 2022, section 3.2).

    The published code computes all masks at a quarter of the photo's input after every layer and
    reduces them to the next layer's scale. Masks are linear in the mask features and so is the
    reduction; reducing the features once instead gives the same masks for a 4th to a 64th of the
    work.

    Args:
        num_queries: learned queries Q.
        dim: channels of queries and photo.
        mask_dim: channels of the mask features.
        num_layers: layers, which take the scales in turn, the coarsest first.
        num_levels: scales.
        num_heads: heads of all attentions.
        ffn_dim: hidden width of the perceptrons.
        film: asks the queries for a granularity; None for the published decoder.
    """

    def __init__(
        self,
        *,
        num_queries: int,
        dim: int = 256,
        mask_dim: int = 256,
        num_layers: int = 9,
        num_levels: int = 3,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        film: GranularityFilm | None = None,
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.query_features = nn.Embedding(num_queries, dim)
        self.query_positions = nn.Embedding(num_queries, dim)
        self.level_embedding = nn.Embedding(num_levels, dim)
        self.layers = nn.ModuleList(
            DecoderLayer(dim=dim, num_heads=num_heads, ffn_dim=ffn_dim) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.class_head = nn.Linear(dim, 2)
        self.mask_head = Mlp((dim, dim, dim, mask_dim))
        self.film = film

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``MODEL.QUERY_DECODER`` into the constructor's arguments.

        Raises:
            ValueError: an unknown ``GRANULARITY``.
        """
        node, pixel = cfg.MODEL.QUERY_DECODER, cfg.MODEL.PIXEL_DECODER
        if node.GRANULARITY not in ("none", "film"):
            raise ValueError(
                f"MODEL.QUERY_DECODER.GRANULARITY is 'none' or 'film', got {node.GRANULARITY!r}"
            )
        film = None
        if node.GRANULARITY == "film":
            film = GranularityFilm(
                dim=pixel.DIM,
                num_layers=node.NUM_LAYERS,
                fourier_dim=cfg.MODEL.GRANULARITY.FOURIER_DIM,
                temperature=cfg.MODEL.GRANULARITY.TEMPERATURE,
            )
        return {
            "num_queries": node.NUM_QUERIES,
            "dim": pixel.DIM,
            "mask_dim": pixel.MASK_DIM,
            "num_layers": node.NUM_LAYERS,
            "num_levels": pixel.NUM_LEVELS,
            "num_heads": node.NUM_HEADS,
            "ffn_dim": node.FFN_DIM,
            "film": film,
        }

    def forward(
        self,
        features: PixelFeatures,
        granularity: Tensor | None = None,
        every_layer: bool = False,
    ) -> list[QueryPredictions]:
        """Return the predictions of the queries.

        Args:
            features: of B photos.
            granularity: ``[B, G]`` in [0.1, 1]; the queries are asked G times. None (G = 1) for a
                decoder without granularity.
            every_layer: also return the predictions before each layer, as training needs them.

        Returns:
            The last predictions, of ``N = G * Q`` queries in the order of the granularities; before
            them those before each layer if asked for.

        Raises:
            ValueError: a granularity without `film`, or `film` without a granularity.
        """
        if (granularity is None) != (self.film is None):
            need = "takes no" if self.film is None else "needs a"
            raise ValueError(
                f"this decoder {need} granularity; see MODEL.QUERY_DECODER.GRANULARITY"
            )
        levels = self._levels(features)
        B, G = (len(features.mask_features), 1) if granularity is None else granularity.shape
        queries = self.query_features.weight.expand(B, G, -1, -1)
        position = self.query_positions.weight
        modulations = None if self.film is None else self.film(granularity)
        predictions = []
        for index, layer in enumerate(self.layers):
            if modulations is not None:
                scale, shift = modulations[index]
                queries = queries * scale + shift
            normed = self.norm(queries).flatten(1, 2)
            embeddings = self.mask_head(normed)
            if every_layer:
                predictions.append(QueryPredictions(self.class_head(normed), embeddings))
            queries = layer(queries, position, levels[index % len(levels)], embeddings)
        normed = self.norm(queries).flatten(1, 2)
        predictions.append(QueryPredictions(self.class_head(normed), self.mask_head(normed)))
        return predictions

    def _levels(self, features: PixelFeatures) -> list[_Level]:
        levels = []
        for index, level_map in enumerate(features.levels):
            dim, height, width = level_map.shape[1:]
            values = level_map.flatten(2).transpose(1, 2) + self.level_embedding.weight[index]
            position = sine_position(height, width, dim, device=values.device, dtype=values.dtype)
            masks = F.interpolate(
                features.mask_features, (height, width), mode="bilinear", align_corners=False
            )
            levels.append(_Level(values + position, values, masks.flatten(2)))
        return levels
