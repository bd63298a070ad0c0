"""What evaluators that ask questions expect of a segmenter."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class PromptSegmenter(Protocol):
    """A segmenter that answers clicks.

    Attributes:
        takes_prompts: whether the model behind it does.
    """

    takes_prompts: bool

    def set_image(self, image: np.ndarray) -> Any:
        """Encode one photo, ``uint8 [H, W, 3]``, for the calls that follow."""

    def predict_batch(
        self, points: Any, labels: Any, mask_logits: Any, granularity: Any
    ) -> tuple[Any, Any, Any]:
        """Answer P independent prompts on the photo in one go.

        Args:
            points: ``float32 [P, K, 2]``, x and y in pixels of the photo.
            labels: ``int64 [P, K]``, 1 on the object, 0 off it, -1 padding.
            mask_logits: ``[P, h, w]`` as returned for the same objects one click ago, or None.
            granularity: ``float32 [P]`` in [0.1, 1]; None only of a segmenter that is not
                granular, which then gives its best answer.

        Returns:
            ``(masks bool [P, H, W], quality [P], logits [P, h, w])``.
        """


def is_granular(segmenter: Any) -> bool:
    """Return whether a segmenter can be asked for a granularity.

    What its model says; segmenters without a model can if they take prompts (`StoredMasks`), and
    cannot otherwise (the classical baselines).
    """
    model = getattr(segmenter, "model", None)
    if model is None:
        return bool(getattr(segmenter, "takes_prompts", False))
    return bool(model.is_granular)
