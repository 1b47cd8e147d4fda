"""The Brownian bridge between pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.flow._checks import check_same_batch
from fingerpost.flow.paths.base import AbstractPath, float32_range


class Bridge(AbstractPath):
    r"""A Brownian bridge from x₀ to x₁: N((1 − t) x₀ + t x₁, σ² t(1 − t) I).

    Its conditional velocity is u_t(x | x₀, x₁) = (1 − 2t)/(2t(1 − t)) (x − (1 − t) x₀ − t x₁) + x₁ − x₀
    (Tong et al. 2023, https://arxiv.org/abs/2302.00482, eq. 21). With pairs from entropic optimal transport at
    ε = 2σ² it is the Schrödinger bridge; with σ = 0 the straight path. x0 may be any data, not only noise.

    The velocity at a point grows like (t(1 − t))^(−1/2), so that the path is defined on [cutoff, 1 − cutoff].

    Args:
      sigma: Diffusivity σ of the bridge, at least 0.
      cutoff: How far the times stay from 0 and 1 (0 is allowed when sigma = 0).
    """

    def __init__(self, sigma: float = 0.5, cutoff: float = 1e-4) -> None:
        if sigma < 0:
            raise InvalidValueError(f"sigma is {sigma}; expected a diffusivity of at least 0")
        if not 0 < cutoff < 0.5 and sigma:
            raise InvalidValueError(
                f"cutoff is {cutoff}; expected it in (0, 0.5): velocities are infinite at both ends"
            )
        self.sigma, self.cutoff = sigma, cutoff if sigma else 0.0
        self.time_range = float32_range(self.cutoff, 1 - self.cutoff)

    def pair(
        self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        x, target = torch.lerp(x0, x1, t.to(x1.dtype)), x1 - x0
        if not self.sigma:
            return x, target
        time = t.double()
        noise = torch.randn(x1.shape, dtype=x1.dtype, device=x1.device, generator=generator)
        width = self.sigma * torch.sqrt(time * (1 - time))
        # (1 − 2t)/(2t(1 − t)) · σ √(t(1 − t)) ε, without the division of small by small
        rate = self.sigma**2 * (0.5 - time) / width
        return torch.addcmul(x, width.to(x.dtype), noise), torch.addcmul(target, rate.to(x.dtype), noise)

    def velocity(self, x: Tensor, x1: Tensor, t: Tensor | float, x0: Tensor | None = None) -> Tensor:
        """u_t(x | x₀, x₁): a bridge has two ends, so x0 must be given too."""
        if x0 is None:
            raise ShapeError("Bridge.velocity needs both ends of the bridge: velocity(x, x1, t, x0=x0)")
        check_same_batch(x, x1)
        check_same_batch(x0, x1)
        time = self._times(t, x1)
        straight = x1.double() - x0.double()
        if not self.sigma:
            return straight.to(x.dtype)
        rate = (0.5 - time) / (time * (1 - time))
        return (rate * (x - (1 - time) * x0 - time * x1) + straight).to(x.dtype)
