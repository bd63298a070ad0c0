"""Optimizers and learning-rate schedules."""

from unsam.solver.build import Schedule, build_optimizer, parameter_groups

__all__ = ["Schedule", "build_optimizer", "parameter_groups"]
