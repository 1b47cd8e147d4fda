"""Pairs by entropic optimal transport within the batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, NumericalError
from fingerpost.flow.couplings.base import AbstractCoupling, squared_distances


class Sinkhorn(AbstractCoupling):
    r"""Pairs drawn from the plan that minimises Σ P_ij ‖x0_j − x1_i‖² − ε H(P), with uniform marginals.

    Iterations in the log domain (Cuturi 2013, https://arxiv.org/abs/1306.0895; Peyré and Cuturi 2019, section 4.4).
    As ε → 0 the plan tends to that of `ExactOT`, as ε → ∞ to independent pairs. With ε = 2σ² and `Bridge(sigma)` the
    pairs belong to the Schrödinger bridge.

    Each row of x1 is used once, and its partner is drawn from its row of the plan; so x0 is drawn with replacement, with
    each of its rows expected once.

    Args:
      epsilon: Strength ε of the entropy, above 0, in units of squared distance.
      tolerance: The plan is accepted when its worst row sum is off by this fraction.
      max_iterations: Iterations after which it is given up.
    """

    def __init__(self, epsilon: float, tolerance: float = 1e-3, max_iterations: int = 5000) -> None:
        if not epsilon > 0:
            raise InvalidValueError(f"epsilon is {epsilon}; expected above 0 (ExactOT() is the limit at 0)")
        if not (tolerance > 0 and max_iterations > 0):
            raise InvalidValueError(
                f"tolerance={tolerance}, max_iterations={max_iterations}; expected above 0"
            )
        self.epsilon, self.tolerance, self.max_iterations = epsilon, tolerance, max_iterations

    def pairs(
        self, x0: Tensor, x1: Tensor, generator: torch.Generator | None, condition: Tensor | None
    ) -> Tensor:
        plan = self.log_plan(x0, x1).exp()
        return torch.multinomial(plan, 1, generator=generator).flatten()

    def log_plan(self, x0: Tensor, x1: Tensor) -> Tensor:
        """Log P, shape (B, B), float64: rows are x1's, columns x0's; each sums to 1/B.

        Raises:
          NumericalError: If the iterations did not converge; the message says how far they came.
        """
        n = len(x1)
        scaled = squared_distances(x1, x0) / -self.epsilon
        rows = torch.zeros(n, dtype=scaled.dtype, device=scaled.device)
        columns = torch.zeros_like(rows)
        for step in range(self.max_iterations):
            sums = torch.logsumexp(scaled + columns, 1)
            if step and float(((rows + sums).exp() - 1).abs().max()) < self.tolerance:
                return scaled + rows[:, None] + columns - math.log(n)
            rows = -sums
            columns = -torch.logsumexp(scaled + rows[:, None], 0)
        error = float(((rows + torch.logsumexp(scaled + columns, 1)).exp() - 1).abs().max())
        raise NumericalError(
            f"Sinkhorn(epsilon={self.epsilon}): after {self.max_iterations} iterations the worst row sum is off by "
            f"{error:.2g}, more than tolerance={self.tolerance}; raise epsilon (the mean squared distance is "
            f"{-float(scaled.mean()) * self.epsilon:.3g}) or max_iterations, or use ExactOT()"
        )
