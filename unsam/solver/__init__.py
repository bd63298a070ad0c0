"""Optimizers and learning-rate schedules."""

from unsam.solver.bounds import check_bounds
from unsam.solver.build import build_optimizer
from unsam.solver.parameter_groups import freeze, parameter_groups
from unsam.solver.schedule import Schedule

__all__ = ["Schedule", "build_optimizer", "check_bounds", "freeze", "parameter_groups"]
