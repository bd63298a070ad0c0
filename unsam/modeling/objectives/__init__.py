"""Objectives of training beside a model's own losses, each in a file of its own."""

from unsam.modeling.objectives.objective import OBJECTIVES, Objective, build_objectives
from unsam.modeling.objectives.weight_schedule import WeightSchedule

__all__ = ["OBJECTIVES", "Objective", "WeightSchedule", "build_objectives"]
