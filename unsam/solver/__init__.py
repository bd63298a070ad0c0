"""Optimizers and learning-rate schedules."""

from unsam.solver.build import build_optimizer
from unsam.solver.parameter_groups import freeze, parameter_groups
from unsam.solver.schedule import Schedule

__all__ = ["Schedule", "build_optimizer", "freeze", "parameter_groups"]
