"""From the predictions of all queries to the masks of a photo."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from unsam.modeling.automatic_masks import crop_to_input, suppress
from unsam.modeling.granularity_encoding import check_listed_granularities
from unsam.modeling.mask2former.query_decoder import MaskedAttentionDecoder, QueryPredictions
from unsam.modeling.mask2former.upsampling import MaskGrower
from unsam.modeling.precision import autocast_dtype
from unsam.modeling.segmentation_model import InputFrame
from unsam.structures import MaskSet

if TYPE_CHECKING:
    from unsam.modeling.pixel_decoder import PixelFeatures

_STRIDE = 4
# Mask logits that exist at a time.
_CELLS_AT_ONCE = 2**23


@dataclass(frozen=True)
class _Candidates:
    """Queries that may become masks.

    Attributes:
        embeddings: ``[N, C]``, see `QueryPredictions`.
        probability: ``[N]``, that the query has a mask.
        granularity: ``[N]``, that it was asked for.
    """

    embeddings: Tensor
    probability: Tensor
    granularity: Tensor

    def take(self, index: Tensor) -> _Candidates:
        """Return the candidates of an index array."""
        return _Candidates(self.embeddings[index], self.probability[index], self.granularity[index])


@dataclass(frozen=True)
class BestQueries:
    """Segments whole photos by their best queries: ``best(decoder, features, frame) -> MaskSet``.

    The queries are chosen before their masks are made (the published code makes all masks at the
    photo's size first, and then chooses the same).

    Attributes:
        max_masks: the most masks of a photo.
        granularities: what a decoder with granularity is asked for when the caller names none.
        quality_threshold: least score; 0 keeps all, as published.
        nms_threshold: where several granularities are asked for, of two masks with a larger IoU
            the less probable one goes. Without granularity nothing is suppressed, as published.
        precision: of the decoding, as in `unsam.modeling.precision`.
    """

    max_masks: int = 1000
    granularities: tuple[float, ...] = ()
    quality_threshold: float = 0.0
    nms_threshold: float = 0.8
    precision: str = "auto"

    def __post_init__(self) -> None:
        # What cannot be is refused here and not at the first photo.
        autocast_dtype(self.precision, torch.device("cpu"))
        check_listed_granularities(self.granularities)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate ``INFERENCE`` into the constructor's arguments."""
        node = cfg.INFERENCE
        return {
            "max_masks": node.MAX_MASKS,
            "granularities": tuple(node.GRANULARITIES),
            "quality_threshold": node.QUALITY_THRESHOLD,
            "nms_threshold": node.NMS_THRESHOLD,
            "precision": node.PRECISION,
        }

    @torch.inference_mode()
    def __call__(
        self,
        decoder: MaskedAttentionDecoder,
        features: PixelFeatures,
        frame: InputFrame,
        granularities: Sequence[float] | None = None,
    ) -> MaskSet:
        """Segment one encoded photo.

        Args:
            decoder: asks the queries.
            features: of one photo.
            frame: where the photo lies in the input.
            granularities: in [0.1, 1]; None takes `self.granularities` if the decoder knows
                granularity, and none otherwise.

        Returns:
            Masks of the photo's size, best first (ties by the query's number), without empty ones:
            score is the probability of a mask times the mean probability of its pixels,
            granularity the one asked for (1 if none was), parent the smallest mask that contains
            the mask.

        Raises:
            ValueError: the decoder knows granularity and there is none to ask for.
        """
        device = features.mask_features.device
        asked = None
        if decoder.film is not None:
            wanted = self.granularities if granularities is None else granularities
            if not len(wanted):
                raise ValueError(
                    "no granularity to ask for; name one or set INFERENCE.GRANULARITIES"
                )
            asked = torch.tensor([list(wanted)], dtype=torch.float32, device=device)
        dtype = autocast_dtype(self.precision, device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            predictions = decoder(features, asked)[-1]
        candidates = self._best(predictions, asked)
        if asked is not None and asked.shape[1] > 1:
            candidates = candidates.take(self._distinct(candidates, features, frame))
        return self._masks(candidates, features, frame)

    def _best(self, predictions: QueryPredictions, asked: Tensor | None) -> _Candidates:
        """Return the `max_masks` most probable queries of each granularity, best first."""
        precise = torch.promote_types(predictions.class_logits.dtype, torch.float32)
        probability = predictions.class_logits[0].to(precise).softmax(-1)[:, 0]
        if asked is None:
            asked = torch.ones(1, 1, device=probability.device)
        by_granularity = probability.reshape(asked.shape[1], -1)
        Q = by_granularity.shape[1]
        best = by_granularity.argsort(dim=1, descending=True, stable=True)[:, : self.max_masks]
        chosen = (best + Q * torch.arange(len(best), device=best.device)[:, None]).flatten()
        # No mask scores higher than its probability.
        chosen = chosen[probability[chosen] >= self.quality_threshold]
        chosen = chosen[probability[chosen].argsort(descending=True, stable=True)]
        return _Candidates(
            predictions.mask_embeddings[0, chosen], probability[chosen], asked[0, chosen // Q]
        )

    def _distinct(
        self, candidates: _Candidates, features: PixelFeatures, frame: InputFrame
    ) -> Tensor:
        """Return the candidates that exact suppression at the logits' resolution keeps."""
        cells = [
            crop_to_input(logits.transpose(1, 2), _STRIDE, frame.input_size) > 0
            for logits in _logits_by_column(candidates.embeddings, features.mask_features[0])
        ]
        if not cells:
            return torch.zeros(0, dtype=torch.int64, device=candidates.probability.device)
        return suppress(torch.cat(cells), self.nms_threshold, self.max_masks)

    def _masks(
        self, candidates: _Candidates, features: PixelFeatures, frame: InputFrame
    ) -> MaskSet:
        grower = MaskGrower(frame, _STRIDE)
        grown = [
            grower.grow(logits)
            for logits in _logits_by_column(candidates.embeddings, features.mask_features[0])
        ]
        if not grown:
            return MaskSet.empty(frame.photo_size)
        sureness = np.concatenate([part.sureness for part in grown])
        score = candidates.probability.cpu().numpy() * sureness
        masks = MaskSet.cat([part.masks for part in grown]).replace(
            score=score, granularity=candidates.granularity.cpu().numpy()
        )
        order = np.argsort(-score, kind="stable")
        kept = (masks.areas > 0) & (score >= self.quality_threshold)
        return masks.filter(order[kept[order]]).with_parents()


def _logits_by_column(embeddings: Tensor, mask_features: Tensor) -> Iterator[Tensor]:
    """Yield the mask logits of embeddings ``[N, C]`` in parts, ``[n, w, h]`` each.

    Args:
        embeddings: ``[N, C]``.
        mask_features: ``[C, h, w]``.
    """
    dim, height, width = mask_features.shape
    dtype = torch.promote_types(mask_features.dtype, torch.float32)
    columns = mask_features.transpose(1, 2).reshape(dim, -1).to(dtype)
    step = max(1, _CELLS_AT_ONCE // (height * width))
    for some in embeddings.to(dtype).split(step):
        if len(some):
            yield (some @ columns).reshape(-1, width, height)
