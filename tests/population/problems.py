"""Populations that several tests share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fingerpost.population import (
    AbstractCode,
    ExponentialFamilyCode,
    FanoCode,
    GaussianNoiseCode,
    GaussianTuning,
    NegativeBinomialCode,
    PoissonCode,
    SigmoidTuning,
    Tuning,
    VonMisesTuning,
)

F64 = torch.float64


def line(low: float, high: float, points: int) -> Tensor:
    return torch.linspace(low, high, points, dtype=F64)


GRID = line(-10, 10, 401)
CIRCLE = torch.arange(360, dtype=F64) / 2
TILING = GaussianTuning(line(-40, 40, 81), 3.0)
TUNINGS = {
    "Gaussian": TILING,
    "Gaussian with a baseline": GaussianTuning(line(-12, 12, 13), 2.0, peak=3.0, baseline=0.2),
    "Gaussian, all different": GaussianTuning(line(-9, 9, 7), line(1, 3, 7), line(1, 2, 7), line(0, 0.3, 7)),
    "von Mises": VonMisesTuning(torch.arange(12, dtype=F64) * 15, 3.0, period=180.0),
    "sigmoid": SigmoidTuning(line(-8, 8, 9), torch.tensor([1.0, -1.0] * 4 + [0.5], dtype=F64), 2.0, 0.1),
    "any function": Tuning(lambda s: torch.stack([0.3 + s.sin().square(), (s / 5).exp()], -1)),
}
CODES: dict[str, AbstractCode] = {
    "Poisson": PoissonCode(TUNINGS["Gaussian with a baseline"], duration=2.0),
    "Fano": FanoCode(TUNINGS["Gaussian with a baseline"], 2.0),
    "negative binomial": NegativeBinomialCode(TUNINGS["Gaussian with a baseline"], 0.4),
    "Gaussian noise": GaussianNoiseCode(TUNINGS["Gaussian with a baseline"], 0.5),
    "Gaussian noise, correlated": GaussianNoiseCode(
        TUNINGS["Gaussian with a baseline"], 0.3 + 0.7 * torch.eye(13, dtype=F64)
    ),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rough(points: int = 200, neurons: int = 30) -> ExponentialFamilyCode:
    """A kernel that no smooth curve has, of full rank."""
    steps = torch.randn(points, neurons, generator=generator(9), dtype=F64)
    kernel = 0.2 * steps.cumsum(0)
    return ExponentialFamilyCode(kernel, -0.1 * kernel.exp().sum(1))


def log_probability(name: str, counts: Tensor, grid: Tensor, gain: float) -> Tensor:
    """log p(r | s, g) with every constant, from torch.distributions, (T, S)."""
    code = CODES[name]
    r = counts[:, None]
    mean = gain * code.tuning(grid)  # pyright: ignore[reportAttributeAccessIssue]
    if name == "Poisson":
        return torch.distributions.Poisson(2.0 * mean).log_prob(r).sum(-1)
    if name == "Fano":
        return torch.distributions.Poisson(mean / 2).log_prob(r / 2).sum(-1)
    if name == "negative binomial":
        return torch.distributions.NegativeBinomial(2.5, probs=mean / (mean + 2.5)).log_prob(r).sum(-1)
    if name == "Gaussian noise":
        return torch.distributions.Normal(mean, math.sqrt(0.5)).log_prob(r).sum(-1)
    covariance = 0.3 + 0.7 * torch.eye(13, dtype=F64)
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(r)
