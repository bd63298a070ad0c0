"""Where the numbers of a run go: files, the screen, TensorBoard, Weights & Biases."""

from unsam.engine.writers.build import MakeWriter, writer_makers
from unsam.engine.writers.jsonl import JsonlWriter
from unsam.engine.writers.progress import ProgressWriter
from unsam.engine.writers.tensorboard import TensorboardWriter
from unsam.engine.writers.wandb import WandbWriter
from unsam.engine.writers.writer import MetricsWriter

__all__ = [
    "JsonlWriter",
    "MakeWriter",
    "MetricsWriter",
    "ProgressWriter",
    "TensorboardWriter",
    "WandbWriter",
    "writer_makers",
]
