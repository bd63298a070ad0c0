"""What every model that segments photos promises, and where a photo lies in its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unsam.modeling.sample_random import SampleRandom
from unsam.modeling.training_context import TaskSampler, TrainingContext
from unsam.structures import MaskSet


@dataclass(frozen=True)
class InputFrame:
    """Where a photo lies in the input of a model: resized, at the top left, padding after it.

    Attributes:
        photo_size: ``(H, W)`` of the photo.
        input_size: ``(h, w)`` of the resized photo.
        padded_size: ``(h, w)`` of the whole input.
    """

    photo_size: tuple[int, int]
    input_size: tuple[int, int]
    padded_size: tuple[int, int]

    @property
    def transposed(self) -> InputFrame:
        """The frame with rows and columns swapped."""
        return InputFrame(self.photo_size[::-1], self.input_size[::-1], self.padded_size[::-1])


class SegmentationModel(nn.Module):
    """Base of the meta-architectures: photos are prepared, encoded once, then segmented.

    Args:
        pixel_mean: RGB mean, 0 to 255.
        pixel_std: RGB standard deviation, 0 to 255.

    Attributes:
        is_granular: whether the model was made to be asked for a granularity.
        snap_iou: soft IoU from which an answer to a prompt takes the outline of the region of
            `segment_photo` that agrees with it best; 0 leaves answers as they are.
        resampling: Pillow's filter, by which `prepare` resizes photos.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    is_granular: bool = False
    snap_iou: float = 0.0
    resampling: ClassVar[Image.Resampling] = Image.Resampling.BILINEAR

    def __init__(self, *, pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean)[:, None, None], False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std)[:, None, None], False)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.pixel_mean.device

    def resized_size(self, photo_size: tuple[int, int]) -> tuple[int, int]:
        """Return ``(h, w)`` that a photo of ``(H, W)`` is resized to."""
        raise NotImplementedError

    def padded_size(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return ``(h, w)`` of the input that holds resized photos of these sizes."""
        raise NotImplementedError

    def frame(self, photo_size: tuple[int, int]) -> InputFrame:
        """Return where a photo of ``(H, W)`` comes to lie in the input."""
        resized = self.resized_size(photo_size)
        return InputFrame(photo_size, resized, self.padded_size([resized]))

    def prepare(self, photo: np.ndarray) -> Tensor:
        """Resize one photo for `encode`.

        Args:
            photo: ``uint8 [H, W, 3]``, RGB.

        Returns:
            ``[3, h, w]`` on the CPU, of `resized_size`, RGB from 0 to 255, not normalised; uint8
            unless a model says otherwise.
        """
        height, width = self.resized_size((photo.shape[0], photo.shape[1]))
        resized = Image.fromarray(photo).resize((width, height), self.resampling)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()

    def encode(self, images: Sequence[Tensor]) -> Any:
        """Encode prepared photos ``[3, h, w]`` once, whatever is asked about them later."""
        raise NotImplementedError

    def segment(
        self, features: Any, frame: InputFrame, granularities: Sequence[float] | None = None
    ) -> MaskSet:
        """Segment one encoded photo without prompts, best masks first.

        Args:
            features: what `encode` returned for this photo alone.
            frame: where the photo lies in the input.
            granularities: in [0.1, 1]; None leaves the choice to the model.

        Raises:
            ValueError: granularities are given and the model has no such choice.
        """
        raise NotImplementedError

    def segment_photo(
        self,
        photo: np.ndarray,
        granularities: Sequence[float] | None = None,
        features: Any = None,
    ) -> MaskSet:
        """Segment one photo without prompts, best masks first.

        Args:
            photo: ``uint8 [H, W, 3]``, RGB.
            granularities: see `segment`.
            features: what `encode` returned for this photo alone, where that is known.

        Raises:
            ValueError: see `segment`.
        """
        if features is None:
            features = self.encode([self.prepare(photo)])
        return self.segment(features, self.frame((photo.shape[0], photo.shape[1])), granularities)

    def losses(self, context: TrainingContext) -> dict[str, Tensor]:
        """Return the named losses of a micro-batch, see `forward`."""
        raise NotImplementedError

    def count_targets(
        self,
        batch: Sequence[dict[str, Any]],
        random: SampleRandom,
        tasks: TaskSampler | None = None,
    ) -> int:
        """Return how many masks `losses` will be taken over, before anything is encoded.

        Args:
            batch: the samples.
            random: the same streams that `losses` will find in its context.
            tasks: the same task sampler.
        """
        raise NotImplementedError

    @property
    def patch_dim(self) -> int:
        """Channels of `patch_embeddings`."""
        raise NotImplementedError

    def patch_embeddings(self, features: Any) -> Tensor:
        """Return one embedding per patch of the padded input, with gradient.

        Args:
            features: what `encode` returned for B photos.

        Returns:
            ``[B, patch_dim, h, w]``.
        """
        raise NotImplementedError

    def zero_loss(self) -> Tensor:
        """Return zero as a function of every parameter that learns.

        Added to the losses it gives all processes the same gradients to exchange, whatever their
        batches and prompts left out.
        """
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return 0.0 * torch.stack([parameter.sum() for parameter in learning]).sum()

    def forward(self, batch: Sequence[dict[str, Any]]) -> dict[str, Tensor] | list[MaskSet]:
        """Return the losses of a batch in training, its whole-image masks in evaluation.

        Args:
            batch: samples with ``image`` (uint8 ``[3, h, w]``) and, in training, ``masks`` (bool
                ``[M, h, w]``) and ``granularity`` (float32 ``[M]``); in evaluation
                ``original_size`` (H, W). A sample may have no mask.

        Returns:
            In training scalars by name: those that start with ``loss_`` are weighted and are to be
            added up, the others are metrics without gradient. In evaluation one `MaskSet` per
            sample, in the size of the original photo.
        """
        if self.training:
            random = SampleRandom.from_batch(batch)
            features = self.encode([sample["image"] for sample in batch])
            num_masks = max(1.0, float(self.count_targets(batch, random)))
            return self.losses(TrainingContext(batch, features, num_masks, random))
        results = []
        for sample in batch:
            # One photo at a time: what else is in the batch must not change a result.
            image = sample["image"]
            size = tuple(image.shape[-2:])
            frame = InputFrame(tuple(sample["original_size"]), size, self.padded_size([size]))
            results.append(self.segment(self.encode([image]), frame))
        return results


def common_size(sizes: Sequence[tuple[int, int]], divisor: int) -> tuple[int, int]:
    """Return the least height and width, multiples of `divisor`, that hold all ``(h, w)``."""
    height, width = (-(-max(sides) // divisor) * divisor for sides in zip(*sizes, strict=True))
    return height, width


def padded_pixels(
    images: Sequence[Tensor], size: tuple[int, int], mean: Tensor, std: Tensor
) -> Tensor:
    """Normalise prepared photos and pad them with zeros at the right and the bottom.

    Args:
        images: ``[3, h, w]`` each, RGB from 0 to 255.
        size: ``(H, W)`` of the result.
        mean: ``[3, 1, 1]``.
        std: ``[3, 1, 1]``.

    Returns:
        float ``[B, 3, H, W]`` on the device and of the type of `mean`.

    Raises:
        ValueError: an image is larger than `size`.
    """
    height, width = size
    pixels = mean.new_zeros((len(images), 3, height, width))
    for index, image in enumerate(images):
        h, w = image.shape[-2:]
        if image.ndim != 3 or h > height or w > width:
            raise ValueError(
                f"image is [3, h, w] of at most {height}x{width} (h x w), got "
                f"{tuple(image.shape)}; resize it with prepare()"
            )
        pixels[index, :, :h, :w] = (image.to(mean.device, mean.dtype) - mean) / std
    return pixels
