"""Relaxation in error coordinates: a reference solver, exact in a few steps at any depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fingerpost.credit._energy import EnergyGradient, NudgedProblem
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
        states, outputs = _rebuild(problem, None)
        errors = [torch.zeros_like(h) for h in states[1:]]
        history = MixingHistory(self.memory, self.ridge)
        scale, step = 0.0, 0
        while step < steps:
            targets = _pull(problem, states, outputs)
            scale = scale or float(targets[-1].norm())
            if judge(EnergyGradient(errors, targets).norm() / (scale or 1.0), tolerance) is not None:
                break
            change = [t - e for e, t in zip(errors, targets)]
            errors = history.mixed(errors, change, self.step_size)
            states, outputs = _rebuild(problem, errors)
            step += 1
        # a loop left early has already used up the graphs
        gradient = _energy_gradient(problem, states, outputs) if step == steps else None
        return Relaxation([h.detach() for h in states], step, scale, tolerance, gradient)

    def errors(self, problem: NudgedProblem, steps: int) -> list[Tensor]:
        """e_1 … e_L after `steps` plain steps, never formed as a difference; one step: −β × gradient."""
        states, outputs = _rebuild(problem, None)
        for _ in range(steps - 1):
            states, outputs = _rebuild(problem, _pull(problem, states, outputs))
        return _pull(problem, states, outputs)


def _rebuild(problem: NudgedProblem, errors: list[Tensor] | None) -> tuple[list[Tensor], list[Tensor]]:
    """States h_l = F_l(h_{l−1}) + e_l as leaves, and the outputs F_l(h_{l−1}) with their graphs."""
    states, outputs = [problem.free[0].detach()], []
    with torch.enable_grad():
        for l, block in enumerate(problem.chain.blocks):
            out = block(states[-1])
            outputs.append(out)
            moved = out.detach() if errors is None else out.detach() + errors[l]
            states.append(moved.requires_grad_())
    return states, outputs


def _pull(problem: NudgedProblem, states: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
    """The errors that a backward pass at `states` asks for."""
    with torch.enable_grad():
        loss = -problem.beta * problem.chain.losses(states[-1], problem.y).sum()
    pulls = list(torch.autograd.grad(loss, states[-1], materialize_grads=True))
    for l in range(len(outputs) - 1, 0, -1):
        pulls += torch.autograd.grad(outputs[l], states[l], pulls[-1], materialize_grads=True)
    return pulls[::-1]


def _energy_gradient(problem: NudgedProblem, states: list[Tensor], outputs: list[Tensor]) -> EnergyGradient:
    """∂E/∂h at `states`, from the graphs that `_rebuild` left."""
    with torch.enable_grad():
        losses = problem.chain.losses(states[-1], problem.y)
    errors = [h.detach() - out.detach() for h, out in zip(states[1:], outputs)]
    cotangents = [*errors[1:], torch.full_like(losses, -problem.beta)]
    pulls = torch.autograd.grad([*outputs[1:], losses], states[1:], cotangents, materialize_grads=True)
    return EnergyGradient(errors, list(pulls))
