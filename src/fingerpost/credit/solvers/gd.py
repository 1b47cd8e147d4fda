"""Gradient descent on the energy: the source's solver, one local step for all blocks at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.credit._fused import FusedDescent
from fingerpost.credit.solvers.base import AbstractIterativeSolver, Relaxation, judge


@dataclass(frozen=True)
class GradientDescent(AbstractIterativeSolver):
    """h_l ← h_l − α (e_l − J_{l+1}ᵀ e_{l+1}), all blocks from the same old states.

    The nudge climbs one block a step, and then diffuses: reaching equilibrium takes a number of steps that
    grows like depth². Stable for α < ½ where J ≈ I (the Hessian's spectrum lies in (0, 4)).

    Args:
      step_size: α.
      fused: Use the hand-fused kernel for chains of `ResidualBlock` of one activation and scale when every step is to be taken
        (``tolerance=0``). False always uses automatic differentiation; both agree to rounding.
    """

    step_size: float = 0.1
    fused: bool = True

    def iterate(self, problem: NudgedProblem) -> Iterator[tuple[list[Tensor], EnergyGradient]]:
        """Yields the states and their gradient; blocks that the nudge has not reached are not computed."""
        states, step = list(problem.free), 0
        while True:
            step += 1
            first = problem.first_reached(step)
            gradient = problem.gradient(states, first)
            yield states, gradient
            moved = zip(states[first:], gradient.errors[first - 1 :], gradient.pulls[first - 1 :])
            states = [*states[:first], *(h - self.step_size * (e - p) for h, e, p in moved)]

    def relax(self, problem: NudgedProblem, steps: int, tolerance: float) -> Relaxation:
        """Takes the fused way where there is one; where that fails, the slow way finds the step."""
        kernel = FusedDescent.of(problem) if self.fused and tolerance == 0 else None
        if kernel is None:
            return super().relax(problem, steps, tolerance)
        end = kernel.run(steps, self.step_size)
        if end.scale > 0 and judge(end.norm / end.scale, 0.0) is not None:
            return super().relax(problem, steps, tolerance)
        return Relaxation(end.states, steps, end.scale, tolerance, end.gradient)
