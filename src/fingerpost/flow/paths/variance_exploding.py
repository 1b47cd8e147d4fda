"""The variance-exploding diffusion path."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError
from fingerpost.flow.paths.base import AbstractSchedule


class VarianceExploding(AbstractSchedule):
    r"""The probability path of the variance-exploding diffusion, run from noise to data.

    α_t = 1 and σ_t = σ_min (σ_max/σ_min)^(1 − t), hence σ̇_t = −log(σ_max/σ_min) σ_t and
    u_t(x | x₁) = −log(σ_max/σ_min)(x − x₁) (Lipman et al. 2022, https://arxiv.org/abs/2210.02747, eq. 16–17).

    It starts at N(x₁, σ_max² I), which is not N(0, I) and depends on the data: σ_max should be large against the
    data's spread, and a sampler should start at N(0, σ_max² I). In `sample` and `target`, x0 ~ N(0, I) all the same.

    Args:
      sigma_min: Width at the data, above 0.
      sigma_max: Width at the noise, above sigma_min.
    """

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0) -> None:
        if not 0 < sigma_min < sigma_max:
            raise InvalidValueError(
                f"sigma_min={sigma_min}, sigma_max={sigma_max}; expected 0 < sigma_min < sigma_max"
            )
        self.sigma_min, self.sigma_max = sigma_min, sigma_max

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rate = math.log(self.sigma_max / self.sigma_min)
        sigma = self.sigma_min * torch.exp(rate * (1 - t))
        return torch.ones_like(t), sigma, torch.zeros_like(t), -rate * sigma
