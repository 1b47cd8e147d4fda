"""Learning signals through continuous time: ODE solvers and their gradients.

`fingerpost.ode.compat` has the functions of torchdiffeq under their own names.
"""

from __future__ import annotations

from fingerpost.ode import losses
from fingerpost.ode._march import Stats
from fingerpost.ode._solution import Solution
from fingerpost.ode._solve import solve
from fingerpost.ode.cnf import CNF
from fingerpost.ode.controllers import ConstantStepSize, PIDController
from fingerpost.ode.divergence import divergence, draw_probes
from fingerpost.ode.events import Event
from fingerpost.ode.methods import METHODS, AbstractMethod, ExplicitRungeKutta

__all__ = [
    "CNF",
    "METHODS",
    "AbstractMethod",
    "ConstantStepSize",
    "Event",
    "ExplicitRungeKutta",
    "PIDController",
    "Solution",
    "Stats",
    "divergence",
    "draw_probes",
    "losses",
    "solve",
]
