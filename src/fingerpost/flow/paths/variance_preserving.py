"""The variance-preserving diffusion path."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError
from fingerpost.flow.paths.base import AbstractSchedule, float32_range


class VariancePreserving(AbstractSchedule):
    r"""The probability path of the variance-preserving diffusion, run from noise to data.

    With s = 1 − t the diffusion's own time, T(s) = ∫₀ˢ β = β_min s + (β_max − β_min) s²/2:

        α_t = exp(−T(s)/2),  σ_t = √(1 − α_t²),  α̇_t = ½ β(s) α_t,  σ̇_t = −½ β(s) α_t²/σ_t

    (Lipman et al. 2022, https://arxiv.org/abs/2210.02747, eq. 18–19; Song et al. 2021). The printed field
    −½T′(1 − t)[…] is right if T′(1 − t) means the derivative of T *evaluated at* 1 − t, that is β(s); read as the
    derivative of t ↦ T(1 − t) it has the opposite sign. At t = 0 the path only approximates N(0, I): its mean there is
    exp(−T(1)/2) x₁, 0.0066 x₁ at the defaults.

    Near t = 1, 1 − α² loses its digits in float32 (5 % of its value at s = 1e-5, 20 % at 3e-6) and the velocity grows like
    (1 − t)^(−1/2). So 1 − α² is −expm1(−T), and the path ends at t = 1 − cutoff.

    Args:
      beta_min: Rate of the diffusion at the data, β(0) > 0.
      beta_max: Rate at the noise, β(1) ≥ β(0).
      cutoff: The path is defined on [0, 1 − cutoff].
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, cutoff: float = 1e-5) -> None:
        if not 0 < beta_min <= beta_max:
            raise InvalidValueError(
                f"beta_min={beta_min}, beta_max={beta_max}; expected 0 < beta_min ≤ beta_max"
            )
        if not 0 < cutoff < 1:
            raise InvalidValueError(
                f"cutoff is {cutoff}; expected it in (0, 1): the velocity is infinite at t = 1"
            )
        self.beta_min, self.beta_max, self.cutoff = beta_min, beta_max, cutoff
        self.time_range = float32_range(0.0, 1 - cutoff)

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        s = 1 - t
        slope = self.beta_max - self.beta_min
        total, beta = s * (self.beta_min + 0.5 * slope * s), self.beta_min + slope * s
        alpha, sigma = torch.exp(-0.5 * total), torch.sqrt(-torch.expm1(-total))
        return alpha, sigma, 0.5 * beta * alpha, -0.5 * beta * alpha * alpha / sigma
