r"""The covariance recursion of wide ReLU networks, in quantities that keep their digits where two points coincide.

For pre-activations z₁, z₂ of one layer, at two points, with variances q₁, q₂ and covariance S it carries besides these
D = q₁q₂ − S² and Δ = E(z₁ − z₂)². With θ = atan2(√D, S), Q = √(q₁q₂), c = σ_W²/2, b = σ_b² and
g = Q (sin θ − θ cos θ)/π, one ReLU and one dense layer give

    q′ = c q + b,   S′ = c (S + g) + b,   Δ′ = c (Δ − 2g),   D′ = c² (D − g (2S + g)) + b Δ′,

where nothing cancels as θ → 0, since g = O(θ³). The first two lines are Cho and Saul (2009), Kernel methods for deep
learning, https://papers.nips.cc/paper/3628, eqs. 5 and 6; the arccos of S/Q that they print loses half the digits there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_SERIES = [(-1) ** (k + 1) * 2 * k / math.factorial(2 * k + 1) for k in range(1, 10)]
"""Coefficients of sin θ − θ cos θ = θ³ (1/3 − θ²/30 + …)."""


class Covariance(NamedTuple):
    """Of a layer's pre-activations at two points: q₁, q₂, S, D = q₁q₂ − S² and Δ = q₁ + q₂ − 2S; shapes broadcast."""

    q1: Tensor
    q2: Tensor
    cross: Tensor
    determinant: Tensor
    gap: Tensor


class Gains(NamedTuple):
    """What a dense layer's own weights and biases add to the tangent kernel.

    Attributes:
      first: By how much the first layer's weights count, over those of the NTK parametrization.
      hidden: The same for all layers after it.
      bias: What the biases of each layer add.
    """

    first: float
    hidden: float
    bias: float


def gains(features: int, width: int | None, weight_std: float, bias_std: float) -> Gains:
    """Of the NTK parametrization, or of the standard one at a width: there ∂f/∂W lacks the factor σ_W/√n_in."""
    if width is None:
        return Gains(1.0, 1.0, bias_std**2)
    return Gains(features / weight_std**2, width / weight_std**2, 1.0)


def relu_kernels(
    first: Covariance, depth: int, weight_std: float, bias_std: float, gain: Gains
) -> tuple[Tensor, Tensor]:
    """The covariance and the tangent kernel of the output, from the covariance of the first pre-activations.

    The kernel: Θ₁ = G₁, Θ′ = G′ + σ_W² Θ (π − θ)/2π, with what the layer's own parameters add: G = S in the NTK
    parametrization (Jacot et al. 2018, theorem 1, https://arxiv.org/abs/1806.07572).
    """
    half, bias = weight_std**2 / 2, bias_std**2
    layer, ntk = first, gain.first * (first.cross - bias) + gain.bias
    for _ in range(depth):
        q1, q2, cross, determinant, gap = layer
        theta = torch.atan2(determinant.clamp(min=0).sqrt(), cross)
        g = (q1 * q2).sqrt() * sine_less_chord(theta) / math.pi
        gap_next = half * (gap - 2 * g)
        layer = Covariance(
            half * q1 + bias,
            half * q2 + bias,
            half * (cross + g) + bias,
            half**2 * (determinant - g * (2 * cross + g)) + bias * gap_next,
            gap_next,
        )
        own = gain.hidden * half * (cross + g) + gain.bias
        ntk = own + half * ntk * (1 - theta / math.pi)
    return layer.cross, ntk


def sine_less_chord(theta: Tensor) -> Tensor:
    """Sin θ − θ cos θ on [0, π], to the last digits of its own size: by series below 1."""
    square = theta.clamp(max=1.0).square()
    series = torch.full_like(square, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        series = coefficient + square * series
    return torch.where(theta < 1.0, theta * square * series, theta.sin() - theta * theta.cos())


def dense(x_square: Tensor, y_square: Tensor, determinant: Tensor, gap: Tensor, features: int, weight_std: float,
          bias_std: float) -> Covariance:  # fmt: skip
    """The first dense layer's pre-activations, from |x|², |y|², |x|²|y|² − (x·y)² and |x − y|² of its inputs."""
    scale, bias = weight_std**2 / features, bias_std**2
    q1, q2, gap = scale * x_square + bias, scale * y_square + bias, scale * gap
    return Covariance(q1, q2, (q1 + q2 - gap) / 2, scale**2 * determinant + bias * gap, gap)
