"""Heavy-ball gradient descent (Polyak 1964): as local as gradient descent, with fewer steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.credit.solvers.base import AbstractIterativeSolver
from fingerpost.errors import InvalidValueError


@dataclass(frozen=True)
class HeavyBall(AbstractIterativeSolver):
    """v ← μ v − α ∂E/∂h, h ← h + v.

    With a spectrum in [m, M] the best rate is (√M − √m)/(√M + √m), so that the steps needed grow like depth
    and not like depth². Stable for α < 2 (1 + μ)/M, with M ≈ 4 where J ≈ I.

    Args:
      step_size: α.
      momentum: μ in [0, 1).
    """

    step_size: float = 0.4
    momentum: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise InvalidValueError(f"momentum is {self.momentum}; expected 0 <= momentum < 1")

    def iterate(self, problem: NudgedProblem) -> Iterator[tuple[list[Tensor], EnergyGradient]]:
        """Yields the states and their gradient."""
        states = list(problem.free)
        velocity = [torch.zeros_like(h) for h in states[1:]]
        while True:
            gradient = problem.gradient(states)
            yield states, gradient
            velocity = [
                self.momentum * v - self.step_size * (e - p)
                for v, e, p in zip(velocity, gradient.errors, gradient.pulls)
            ]
            states = [states[0], *(h + v for h, v in zip(states[1:], velocity))]
