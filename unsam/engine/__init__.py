"""Training: the loop, its hooks, several processes, starting and resuming."""

from unsam.engine.build import build_trainer
from unsam.engine.train import launch_training
from unsam.engine.trainer import Hook, Trainer

__all__ = ["Hook", "Trainer", "build_trainer", "launch_training"]
