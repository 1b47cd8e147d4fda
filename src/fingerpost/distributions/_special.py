"""Special functions that kernels use, with derivatives as accurate as their values.

torch's own `digamma` is differentiated by a trigamma that is right to 5e-10 only, and differences of its `lgamma` lose the
digits that density functions at large parameters need. All functions here take plain float64 tensors inside a kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

# B_2k for k = 1, 2, …: the Bernoulli numbers of the asymptotic series in 1/x²
_BERNOULLI = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
)
_FAR = 12.0  # from here on ten terms of the series are exact to rounding


def polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Σ_k coefficients[k] x^k by Horner's rule."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


class _Digamma(torch.autograd.Function):
    """ψ with ψ' as the Hurwitz zeta function ζ(2, x), which torch differentiates as ζ(3, x), and so on."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        return torch.digamma(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return grad * torch.special.zeta(torch.full_like(x, 2.0), x)


class _LogGamma(torch.autograd.Function):
    """log Γ with ψ as derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        return torch.lgamma(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return grad * digamma(x)


def digamma(x: Tensor) -> Tensor:
    """ψ(x) for x > 0."""
    return _Digamma.apply(x)  # pyright: ignore[reportReturnType]


def log_gamma(x: Tensor) -> Tensor:
    """Returns log Γ(x) for x > 0."""
    return _LogGamma.apply(x)  # pyright: ignore[reportReturnType]


def stirling_remainder(x: Tensor) -> Tensor:
    """Returns log Γ(x) − (x − ½) log x + x − ½ log 2π, which is 1/12x for large x."""
    far = x >= _FAR
    safe = torch.where(far, x, _FAR)
    terms = [b / (2 * k * (2 * k - 1)) for k, b in enumerate(_BERNOULLI, start=1)]
    series = polynomial(1 / (safe * safe), terms) / safe
    near = torch.where(far, _FAR, x)
    direct = log_gamma(near) - (near - 0.5) * near.log() + near - HALF_LOG_TWO_PI
    return torch.where(far, series, direct)


def digamma_remainder(x: Tensor) -> Tensor:
    """ψ(x) − log x + 1/2x, the derivative of `stirling_remainder`: −1/12x² for large x."""
    far = x >= _FAR
    near = torch.where(far, _FAR, x)
    return torch.where(
        far, _digamma_series(torch.where(far, x, _FAR)), digamma(near) - near.log() + 0.5 / near
    )


def _digamma_series(x: Tensor) -> Tensor:
    square = 1 / (x * x)
    return -square * polynomial(square, [b / (2 * k) for k, b in enumerate(_BERNOULLI, start=1)])


def digamma_difference(a: Tensor, b: Tensor) -> Tensor:
    """ψ(a + b) − ψ(a) for a, b > 0, to rounding also where b is far smaller than a.

    Both arguments are raised by 8 through ψ(x + 1) = ψ(x) + 1/x; there the asymptotic series is subtracted term by term, with
    d_k = p^k − q^k for p = 1/a², q = 1/(a + b)² by d_(k+1) = p d_k + q^k d_1, in which nothing cancels.
    """
    total = torch.zeros_like(a + b)
    for j in range(8):
        total = total + b / ((a + j) * (a + b + j))
    low, high = a + 8, a + b + 8
    product = low * high
    total = total + torch.log1p(b / low) + b / (2 * product)
    p, q = 1 / (low * low), 1 / (high * high)
    first = b * (low + high) / (product * product)
    gap, power = first, q
    for k, bernoulli in enumerate(_BERNOULLI, start=1):
        total = total + bernoulli / (2 * k) * gap
        gap = p * gap + power * first
        power = power * q
    return total


def at_the_end(x: Tensor, a: Tensor) -> Tensor:
    """What x^(a−1) adds to a logarithm at x = 0 once x is replaced by the smallest number: ±∞ unless a = 1, and 0 inside."""
    infinite = torch.where(a < 1, torch.inf, -torch.inf)
    return torch.where((x == 0) & (a != 1), infinite, 0.0)


class _Log1pMinus(torch.autograd.Function):
    """log(1 + x) − x for |x| < ½, with −x/(1 + x) as derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(x)
        r = x / (2 + x)  # log(1 + x) = 2 artanh r and x = 2r/(1 − r)
        return r * (r * r * polynomial(r * r, [2 / (2 * k + 3) for k in range(15)]) - x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return -grad * x / (1 + x)


def log1p_minus(x: Tensor, log: Tensor | None = None) -> Tensor:
    """Returns log(1 + x) − x for x > −1, without cancellation near 0.

    Args:
      x: Where.
      log: log(1 + x), if it is known better than x gives it near −1.
    """
    near = x.abs() < 0.5
    inner: Tensor = _Log1pMinus.apply(torch.where(near, x, 0.0))  # pyright: ignore[reportAssignmentType]
    if log is None:
        log = torch.log1p(torch.where(near, 0.0, x))
    return torch.where(near, inner, log - x)
