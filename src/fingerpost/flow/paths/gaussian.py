"""A Gaussian path with the user's own mean and width."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.flow._checks import check_same_batch
from fingerpost.flow.paths.base import AbstractPath

Schedule = Callable[[Tensor, Tensor], Tensor]


class GaussianPath(AbstractPath):
    r"""p_t(x | x₁) = N(μ_t(x₁), σ_t(x₁)² I) for any differentiable μ and σ.

    ψ_t(x₀) = μ_t(x₁) + σ_t(x₁) x₀, so ψ̇_t = μ̇_t + σ̇_t x₀ and u_t(x | x₁) = (σ̇_t/σ_t)(x − μ_t) + μ̇_t
    (Lipman et al. 2022, https://arxiv.org/abs/2210.02747, eq. 10–15). For noise at t = 0 and data at t = 1 the
    boundary conditions are μ₀ = 0, σ₀ = 1 and μ₁ = x₁, σ₁ = σ_min. Derivatives by t are taken in forward mode.

    Args:
      mean: (t, x1) → μ, of x1's shape; t is float64, and broadcasts against x1: (B, 1, …).
      std: (t, x1) → σ, which broadcasts against x1; positive inside `time_range`.
      time_range: Where the path is defined.

    >>> path = GaussianPath(lambda t, x1: t**2 * x1, lambda t, x1: 1 - t)
    >>> path.target(torch.zeros(1, 2), torch.ones(1, 2), 0.5)
    tensor([[1., 1.]])
    """

    def __init__(self, mean: Schedule, std: Schedule, time_range: tuple[float, float] = (0.0, 1.0)) -> None:
        low, high = time_range
        if not 0 <= low < high <= 1:
            raise InvalidValueError(f"time_range is {time_range}; expected 0 ≤ low < high ≤ 1")
        self.mean, self.std, self.time_range = mean, std, (low, high)

    def _schedule(self, t: Tensor, x1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(μ, σ, μ̇, σ̇) in float64."""
        time = t.double().expand(len(x1), *(1 for _ in x1.shape[1:])).contiguous()
        data = x1.double()
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(time, torch.ones_like(time))
            parts = [forward_ad.unpack_dual(function(dual, data)) for function in (self.mean, self.std)]
        (mu, mu_dot), (sigma, sigma_dot) = parts
        if mu.shape != x1.shape:
            raise ShapeError(f"mean returned shape {tuple(mu.shape)}; expected x1's {tuple(x1.shape)}")
        mu_dot = torch.zeros_like(mu) if mu_dot is None else mu_dot
        return mu, sigma, mu_dot, torch.zeros_like(sigma) if sigma_dot is None else sigma_dot

    def pair(
        self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        mu, sigma, mu_dot, sigma_dot = self._schedule(t, x1)
        return (mu + sigma * x0).to(x1.dtype), (mu_dot + sigma_dot * x0).to(x1.dtype)

    def velocity(self, x: Tensor, x1: Tensor, t: Tensor | float) -> Tensor:
        check_same_batch(x, x1)
        mu, sigma, mu_dot, sigma_dot = self._schedule(self._times(t, x1), x1)
        return (sigma_dot / sigma * (x.double() - mu) + mu_dot).to(x.dtype)
