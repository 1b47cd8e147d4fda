"""Relaxation in error coordinates: a reference solver, exact in a few steps at any depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fingerpost.credit._energy import NudgedProblem
from fingerpost.credit._sweeps import sweeps_of
from fingerpost.credit.solvers._mixing import MixingHistory
from fingerpost.credit.solvers.base import AbstractSolver, Relaxation, judge


@dataclass(frozen=True)
class ErrorCoordinates(AbstractSolver):
    r"""e_L ← −β ∂loss/∂h_L, e_l ← J_{l+1}(h_l)ᵀ e_{l+1}, then h_l ← F_l(h_{l−1}) + e_l upwards.

    Its fixed points are the equilibria. Only the curvature of loss and blocks makes one step differ from the
    next, so that it contracts by O(β) a step at any depth: 1 to 3 steps do when β is small. Where β times the
    curvature exceeds one, the plain iteration would cycle; from the second step on it is Anderson-mixed, each
    sample with its own weights.

    Its first step, taken at the free states, is backpropagation times −β: it is a reference for the other
    solvers, and no claim that the relaxation is local.

    Args:
      step_size: Fraction of the way to the new errors.
      memory: How many iterates are mixed; 1 for the plain iteration.
      ridge: Tikhonov term of the mixing, relative.
    """

    step_size: float = 1.0
    memory: int = 4
    ridge: float = 1e-12

    def relax(self, problem: NudgedProblem, steps: int, tolerance: float) -> Relaxation:
        """Takes at most `steps` steps; stops when ‖e_new − e‖ / ‖β ∂loss/∂h_L‖ is at most `tolerance`."""
        sweeps = sweeps_of(problem)
        errors = [torch.zeros_like(h) for h in problem.free[1:]]
        history = MixingHistory(errors, self.memory, self.ridge)
        scale, step = 0.0, 0
        while step < steps:
            targets = sweeps.down()
            scale = scale or float(targets[-1].norm())
            for e, target, change in zip(errors, targets, history.vacant()):
                torch.sub(target, e, out=change)
            history.add(errors, self.step_size)
            if judge(history.norm() / (scale or 1.0), tolerance) is not None:
                break
            errors = history.mixed()
            sweeps.up(errors)
            step += 1
        # a loop left early has already used up what the last sweep up left
        gradient = sweeps.gradient() if step == steps else None
        return Relaxation(sweeps.states(), step, scale, tolerance, gradient)

    def errors(self, problem: NudgedProblem, steps: int) -> list[Tensor]:
        """e_1 … e_L after `steps` plain steps, never formed as a difference; one step: −β × gradient."""
        sweeps = sweeps_of(problem)
        for _ in range(steps - 1):
            sweeps.up(sweeps.down())
        return sweeps.down()
