"""Using a model: `Segmenter`."""

from unsam.inference.segmenter import Prediction, Segmenter

__all__ = ["Prediction", "Segmenter"]
