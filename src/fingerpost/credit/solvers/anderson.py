"""Anderson acceleration of gradient descent on the energy (Anderson 1965; Walker and Ni 2011)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.credit.solvers._mixing import MixingHistory
from fingerpost.credit.solvers.base import AbstractIterativeSolver
from fingerpost.errors import InvalidValueError


@dataclass(frozen=True)
class Anderson(AbstractIterativeSolver):
    r"""h ← Σ_i w_i (h^i − α ∂E/∂h^i), Σ w_i = 1 minimising ‖Σ_i w_i ∂E/∂h^i‖ over the last iterates.

    Each sample has its own energy and gets its own weights. The weights see every block, so the solver is not
    local.

    Args:
      step_size: α, the step before mixing.
      memory: How many iterates are mixed.
      ridge: Tikhonov term of the least squares, relative to the largest diagonal entry of its Gram matrix.
    """

    step_size: float = 0.25
    memory: int = 5
    ridge: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory < 1:
            raise InvalidValueError(f"memory is {self.memory}; expected at least 1")

    def iterate(self, problem: NudgedProblem) -> Iterator[tuple[list[Tensor], EnergyGradient]]:
        """Yields the states and their gradient."""
        states = list(problem.free)
        history = MixingHistory(states[1:], self.memory, self.ridge)
        while True:
            gradient = problem.gradient(states)
            yield states, gradient
            for e, p, descent in zip(gradient.errors, gradient.pulls, history.vacant()):
                torch.sub(p, e, out=descent)
            history.add(states[1:], self.step_size)
            states = [states[0], *history.mixed()]
