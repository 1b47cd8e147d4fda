"""What each break should cost for many spikes and a stimulus far from the edges, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

WIDTH, REACH = 3.0, 10.0
SPIKES = WIDTH * math.sqrt(2 * math.pi)  # Σ f: spikes of a cue of gain 1, one neuron at each whole number

# (error over the optimal, claimed over real variance)
Cost = tuple[float, float]


def _variance(spikes: float) -> float:
    """E[W²/R] for Poisson R, to second order in 1/E[R]."""
    return WIDTH**2 / spikes * (1 + 1 / spikes)


def _biased(bias: float, variance: float) -> Cost:
    ratio = 1 + bias**2 / variance
    return ratio, 1 / ratio


def widths(ratio: float, gains: tuple[float, float]) -> Cost:
    """Each spike is a measurement of variance W² or (ρW)², and the sum weighs all spikes alike."""
    first, second = gains[0], gains[1] * ratio
    total, spread = first + second, first + second * ratio**2
    return spread * (first + second / ratio**2) / total**2, total / spread


def shifted(shift: float, gains: tuple[float, float]) -> Cost:
    """A bias of the second cue's share of the shift."""
    total = sum(gains)
    return _biased(shift * gains[1] / total, _variance(SPIKES * total))


def wrong_tuning(ratio: float, gains: tuple[float, float]) -> Cost:
    """The same mean, and the variance off by the square of the width."""
    return 1.0, ratio**2


def fano(factor: float, gains: tuple[float, float]) -> Cost:
    """The same mean, and a variance too small by the factor."""
    return 1.0, 1 / factor


def gaussian(ratio: float, gains: tuple[float, float]) -> Cost:
    """Information ((g₁ + g₂)/2)² · 2 where g₁² + g₂² is to be had."""
    return 2 * (1 + ratio**2) / (1 + ratio) ** 2, 1.0


def prior(spread: float, gains: tuple[float, float]) -> Cost:
    """With a = 1/σ² of the likelihood and b = 1/τ² of the prior: variance claimed 1/(a + 2b), real (a + 4b)/(a + 2b)²."""
    a, b = 1 / _variance(SPIKES * sum(gains)), 1 / spread**2
    return (a + 4 * b) * (a + b) / (a + 2 * b) ** 2, (a + 2 * b) / (a + 4 * b)


def tiling(slope: float, gains: tuple[float, float]) -> Cost:
    """A spike comes from W² · slope / 10 further right than its stimulus, on average."""
    bias = WIDTH**2 * slope / REACH
    spikes = SPIKES * sum(gains) * math.exp(0.5 * (WIDTH * slope / REACH) ** 2)
    return _biased(bias, _variance(spikes) * (math.sinh(slope) / slope if slope else 1.0))


def common_noise(noise: float, gains: tuple[float, float]) -> Cost:
    """The same mean, and noise² missing from the variance."""
    own = _variance(SPIKES * sum(gains))
    return 1.0, own / (own + noise**2)


def none(strength: float, gains: tuple[float, float]) -> Cost:
    """Nothing."""
    return 1.0, 1.0


THEORY: dict[str, Callable[[float, tuple[float, float]], Cost]] = {
    "widths": widths,
    "shifted": shifted,
    "wrong-tuning": wrong_tuning,
    "fano": fano,
    "gaussian": gaussian,
    "prior": prior,
    "tiling": tiling,
    "common-noise": common_noise,
    "shared-gain": none,
}
