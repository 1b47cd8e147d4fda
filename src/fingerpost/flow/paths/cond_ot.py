"""The straight path."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError
from fingerpost.flow.paths.base import AbstractSchedule


class CondOT(AbstractSchedule):
    r"""The optimal-transport path between N(0, I) and N(x₁, σ_min² I): straight lines at constant speed.

    α_t = t, σ_t = 1 − (1 − σ_min) t, hence ψ̇_t = x₁ − (1 − σ_min) x₀
    (Lipman et al. 2022, https://arxiv.org/abs/2210.02747, eq. 20–23).

    Args:
      sigma_min: Width of the path at t = 1, in [0, 1). At 0 the velocity u_t(x | x₁) is singular at t = 1, which
        is then outside `velocity`'s range though not outside `target`'s.

    >>> path = CondOT()
    >>> path.target(torch.zeros(1, 2), torch.ones(1, 2), 0.5)
    tensor([[1., 1.]])
    """

    def __init__(self, sigma_min: float = 0.0) -> None:
        if not 0 <= sigma_min < 1:
            raise InvalidValueError(f"sigma_min is {sigma_min}; expected a width in [0, 1)")
        self.sigma_min = sigma_min

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        slope = 1 - self.sigma_min
        # 1 − t is exact near t = 1, and adding σ_min t to it loses nothing: both terms are positive
        return t, (1 - t) + self.sigma_min * t, torch.ones_like(t), torch.full_like(t, -slope)

    def pair(
        self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        time = t.to(x1.dtype)
        x, slope = torch.lerp(x0, x1, time), 1 - self.sigma_min
        if not self.sigma_min:
            return x, x1 - x0
        return torch.addcmul(x, time, x0, value=self.sigma_min), torch.sub(x1, x0, alpha=slope)
