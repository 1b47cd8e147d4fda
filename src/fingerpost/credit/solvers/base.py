"""What every solver of the nudged phase shares: the loop, when to stop, and how a relaxation is judged."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from torch import Tensor

from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.errors import InvalidValueError

DIVERGED = 1e4
"""A relaxation has diverged when the norm of its energy gradient is this many times what it began with."""


class Status(Enum):
    """How a relaxation ended."""

    CONVERGED = "converged"
    EXHAUSTED = "steps exhausted"
    DIVERGED = "diverged"
    NON_FINITE = "became non-finite"

    @property
    def failed(self) -> bool:
        """Whether the states are of no use."""
        return self in (Status.DIVERGED, Status.NON_FINITE)


def judge(residual: float, tolerance: float) -> Status | None:
    """What a residual (relative to its first value) says about a relaxation; None: go on."""
    if not math.isfinite(residual):
        return Status.NON_FINITE
    if residual > DIVERGED:
        return Status.DIVERGED
    return Status.CONVERGED if residual <= tolerance else None


class Relaxation(NamedTuple):
    """What a solver hands back.

    Args:
      states: h_0 … h_L.
      steps: Steps taken.
      scale: ‖∂E/∂h‖ at the free states, which is β‖∂loss/∂h_L‖.
      tolerance: The residual at which it was to stop.
      gradient: ∂E/∂h at `states` where the solver has it; None: to be computed.
    """

    states: list[Tensor]
    steps: int
    scale: float
    tolerance: float
    gradient: EnergyGradient | None = None


@dataclass(frozen=True)
class AbstractSolver(ABC):
    """A way to relax the nudged energy from the free states; joins `SOLVERS` under its name."""

    def __post_init__(self) -> None:
        step_size = getattr(self, "step_size", None)
        if step_size is not None and not (math.isfinite(step_size) and step_size > 0):
            raise InvalidValueError(f"step_size is {step_size}; expected a finite number > 0")

    @abstractmethod
    def relax(self, problem: NudgedProblem, steps: int, tolerance: float) -> Relaxation:
        """Takes at most `steps` steps; stops at `tolerance`, or when the relaxation has failed."""


class AbstractIterativeSolver(AbstractSolver):
    """A solver that knows ∂E/∂h at each of its iterates, which `iterate` yields; the residual stops it."""

    @abstractmethod
    def iterate(self, problem: NudgedProblem) -> Iterator[tuple[list[Tensor], EnergyGradient]]:
        """Yields (states, ∂E/∂h at these states), from the free states on, one step apart, without end."""

    def relax(self, problem: NudgedProblem, steps: int, tolerance: float) -> Relaxation:
        """Takes at most `steps` steps; stops at `tolerance`, or when the relaxation has failed."""
        iterates = self.iterate(problem)
        states, gradient = next(iterates)
        scale = gradient.norm()
        step, residual = 0, float(scale > 0) if math.isfinite(scale) else scale
        while step < steps and judge(residual, tolerance) is None:
            states, gradient = next(iterates)
            step, residual = step + 1, gradient.norm() / scale
        return Relaxation(states, step, scale, tolerance, gradient)
