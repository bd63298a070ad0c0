"""Mask2Former: all masks of a photo at once, by learned queries (whole-image UnSAM)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from unsam.modeling.backbone import Backbone
from unsam.modeling.build import META_ARCHITECTURES, build_backbone
from unsam.modeling.granularity_encoding import MAX_GRANULARITY, MIN_GRANULARITY
from unsam.modeling.mask2former.best_queries import BestQueries
from unsam.modeling.mask2former.query_criterion import QueryCriterion
from unsam.modeling.mask2former.query_decoder import MaskedAttentionDecoder
from unsam.modeling.pixel_decoder import DeformablePixelDecoder, PixelFeatures
from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.segmentation_model import (
    InputFrame,
    SegmentationModel,
    common_size,
    padded_pixels,
)
from unsam.modeling.training_context import TaskSampler, TrainingContext
from unsam.structures import MaskSet

_DIVISOR = 32
# Masks within this of the granularity that the queries are asked for in training are targets.
_GRANULARITY_WINDOW = 0.1


@META_ARCHITECTURES.register()
class Mask2Former(SegmentationModel):
    """Backbone, pixel decoder and learned queries (Cheng et al. 2022; UnSAM, Wang et al. 2024).

    Args:
        backbone: photo to maps at strides 4 to 32.
        pixel_decoder: those to mask features and maps that have seen each other.
        query_decoder: asks the queries.
        criterion: the losses.
        best_queries: how whole photos are segmented in evaluation.
        shorter_side: pixels that the shorter side of a photo is resized to ...
        max_longer_side: ... unless the longer side would be over this.
        pixel_mean: RGB mean, 0 to 255.
        pixel_std: RGB standard deviation, 0 to 255.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_decoder: DeformablePixelDecoder,
        query_decoder: MaskedAttentionDecoder,
        criterion: QueryCriterion,
        best_queries: BestQueries,
        shorter_side: int,
        max_longer_side: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__(pixel_mean=pixel_mean, pixel_std=pixel_std)
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.query_decoder = query_decoder
        self.is_granular = query_decoder.film is not None
        self.criterion = criterion
        self.best_queries = best_queries
        self.shorter_side = shorter_side
        self.max_longer_side = max_longer_side

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate the config into the constructor's arguments."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "pixel_decoder": DeformablePixelDecoder(
                in_channels=backbone.channels, **DeformablePixelDecoder.from_config(cfg)
            ),
            "query_decoder": MaskedAttentionDecoder(**MaskedAttentionDecoder.from_config(cfg)),
            "criterion": QueryCriterion(**QueryCriterion.from_config(cfg)),
            "best_queries": BestQueries(**BestQueries.from_config(cfg)),
            "shorter_side": cfg.INPUT.SHORTER_SIDE,
            "max_longer_side": cfg.INPUT.MAX_LONGER_SIDE,
            "pixel_mean": cfg.INPUT.PIXEL_MEAN,
            "pixel_std": cfg.INPUT.PIXEL_STD,
        }

    def resized_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Scale the shorter side to `shorter_side`, the longer to at most `max_longer_side`."""
        scale = self.shorter_side / min(photo_size)
        # The two steps and the rounding of half pixels upwards are detectron2's.
        height, width = (side * scale for side in photo_size)
        shrink = min(1.0, self.max_longer_side / max(height, width))
        return max(1, int(height * shrink + 0.5)), max(1, int(width * shrink + 0.5))

    def padded_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the least height and width, multiples of 32, that hold all sizes."""
        return common_size(sizes, _DIVISOR)

    def encode(self, images: Sequence[Tensor]) -> PixelFeatures:
        """Encode photos once, whatever granularities are asked for later.

        Args:
            images: uint8 ``[3, h, w]`` each, RGB; they are padded at the right and the bottom to
                one size. The network sees padding as mean colour.

        Returns:
            Features of ``[B, ...]``, on the model's device.
        """
        size = self.padded_size([(image.shape[-2], image.shape[-1]) for image in images])
        pixels = padded_pixels(images, size, self.pixel_mean, self.pixel_std)
        return self.pixel_decoder(self.backbone(pixels))

    def segment(
        self,
        features: PixelFeatures,
        frame: InputFrame,
        granularities: Sequence[float] | None = None,
    ) -> MaskSet:
        """Segment one encoded photo, best masks first, see `BestQueries`.

        Raises:
            ValueError: granularities are given and the model was built without.
        """
        if granularities is not None and not self.is_granular:
            raise ValueError(
                "this Mask2Former knows no granularity; leave it out, or train one with "
                "MODEL.QUERY_DECODER.GRANULARITY film"
            )
        return self.best_queries(self.query_decoder, features, frame, granularities)

    def count_targets(
        self,
        batch: Sequence[dict[str, Any]],
        random: SampleRandom,
        tasks: TaskSampler | None = None,
    ) -> int:
        """Return how many masks are to be found."""
        chosen, _ = self._choose_targets(batch, random.fork("queries"))
        return sum(int(some.sum()) for some in chosen)

    @property
    def patch_dim(self) -> int:
        """Channels of the mask features."""
        return self.pixel_decoder.mask_projection.out_channels

    def patch_embeddings(self, features: PixelFeatures) -> Tensor:
        """Return the mask features, ``[B, C, h, w]`` at a quarter of the input."""
        return features.mask_features

    def losses(self, context: TrainingContext) -> dict[str, Tensor]:
        """Return the losses of `QueryCriterion` for a batch of samples, see `forward`.

        A decoder with granularity is asked, for each photo, for that of one of its masks, drawn
        evenly over the masks; the masks within 0.1 of it are then to be found, and no others.
        """
        batch, features = context.batch, context.features
        size = tuple(4 * side for side in features.mask_features.shape[-2:])
        chosen, granularity = self._choose_targets(batch, context.random.fork("queries"))
        targets = [
            _padded_masks(sample["masks"][some], size).to(self.device)
            for sample, some in zip(batch, chosen, strict=True)
        ]
        outputs = self.query_decoder(features, granularity, every_layer=True)
        return self.criterion(outputs, features.mask_features, targets, context.num_masks)

    def _choose_targets(
        self, batch: Sequence[dict[str, Any]], random: SampleRandom
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return which masks of each sample are to be found, and the granularities ``[B, 1]``."""
        chosen = [sample["masks"].flatten(1).any(1) for sample in batch]
        if not self.is_granular:
            return chosen, None
        drawn = [
            _draw_granularity(sample["granularity"][real], random.generator(index))
            for index, (sample, real) in enumerate(zip(batch, chosen, strict=True))
        ]
        chosen = [
            real & ((sample["granularity"] - value).abs() <= _GRANULARITY_WINDOW)
            for sample, real, value in zip(batch, chosen, drawn, strict=True)
        ]
        return chosen, torch.tensor(drawn, device=self.device)[:, None]


def _draw_granularity(of_masks: Tensor, generator: torch.Generator) -> float:
    """Return the granularity of one of the masks, or any in [0.1, 1] where there is none."""
    if len(of_masks) == 0:
        share = float(torch.rand((), generator=generator))
        return share * (MAX_GRANULARITY - MIN_GRANULARITY) + MIN_GRANULARITY
    return float(of_masks[torch.randint(len(of_masks), (), generator=generator)])


def _padded_masks(masks: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return bool ``[M, h, w]`` with nothing at the right and the bottom, ``[M, H, W]``."""
    padded = masks.new_zeros((len(masks), *size))
    padded[:, : masks.shape[-2], : masks.shape[-1]] = masks
    return padded
