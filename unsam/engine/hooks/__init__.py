"""What happens around the steps: metrics, checkpoints, evaluation, pictures."""

from unsam.engine.hooks.checkpoint import CheckpointHook
from unsam.engine.hooks.evaluation import EvaluationHook
from unsam.engine.hooks.metrics import MetricsHook
from unsam.engine.hooks.metrics_log import MetricsLog
from unsam.engine.hooks.samples import SamplesHook, spread

__all__ = [
    "CheckpointHook",
    "EvaluationHook",
    "MetricsHook",
    "MetricsLog",
    "SamplesHook",
    "spread",
]
