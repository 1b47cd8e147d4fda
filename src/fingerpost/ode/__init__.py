"""Learning signals through continuous time: ODE solvers and their gradients."""

from __future__ import annotations

from fingerpost.ode._march import Stats
from fingerpost.ode._solution import Solution
from fingerpost.ode._solve import solve
from fingerpost.ode.controllers import ConstantStepSize, PIDController
from fingerpost.ode.methods import METHODS, AbstractMethod, ExplicitRungeKutta

__all__ = [
    "METHODS",
    "AbstractMethod",
    "ConstantStepSize",
    "ExplicitRungeKutta",
    "PIDController",
    "Solution",
    "Stats",
    "solve",
]
