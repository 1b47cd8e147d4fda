"""Modified Bessel functions I₀ and I₁, scaled so that nothing overflows, with derivatives of every order that do not cancel.

All follow from the ratio r = I₁/I₀ and its distance to one, c = 1 − r. They are rational functions of t² below t = 20 and
of 1/t beyond, so that neither is formed by a difference that cancels; derivatives come from the Riccati equation
r′ = 1 − r² − r/t (https://dlmf.nist.gov/10.29).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fingerpost.distributions._elementwise import Elementwise

FAR = 20.0
"""Where functions of t² hand over to functions of 1/t."""

# Coefficients of rational approximations, lowest power first, fitted to 60-digit values by least squares weighted
# until the errors were even (Lawson): r/t in t² with a relative error of 2.5e-18, c t in 1/t with 4.5e-17, and
# t log(√(2πt) e⁻ᵗ I₀) in 1/t with 1.2e-15.
NEAR_TOP = (
    0.49999999999999999901, 0.055665661007803441456, 0.0017995883199628975225, 0.000024614285944111339568,
    1.6436234710842983965e-7, 5.6383029383940928526e-10, 9.8387231858429921832e-13, 8.1160401769888335734e-16,
    2.6543418291284352165e-19, 2.2050641623362920438e-23,
)  # fmt: skip
NEAR_BOTTOM = (
    1.0, 0.23633132201560686302, 0.012307258558543351502, 0.00024479584971431149882, 2.2758603437023601927e-6,
    1.0746972699016235655e-8, 2.6207227962180145572e-11, 3.16852814113053301e-14, 1.6903012076801712629e-17,
    3.0340809743623206676e-21, 7.7342658584567344212e-26,
)  # fmt: skip
FAR_TOP = (0.5, -7.3952104314933814896, 33.63828202867315682, -52.725353832299488554, 21.359729236827501342)
FAR_BOTTOM = (
    1.0, -15.040420862986907418, 70.786669273170638509, -119.77789478331311496, 60.029930939389573196,
    -2.5895111476980061817,
)  # fmt: skip

LOG_TOP = (
    0.12500000000000014536,
    -1.4344202829397011475,
    4.6810944893672801187,
    -4.388411279911509913,
    0.47938398570119237163,
)
LOG_BOTTOM = (
    1.0,
    -11.975362263514487058,
    42.915603711968247163,
    -51.140424010795339391,
    15.106806147259483112,
)


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Σ coefficients_n xⁿ by Horner's rule, in place where no derivative is recorded."""
    total = torch.full_like(x, coefficients[-1])
    out = None if torch.is_grad_enabled() else total
    for coefficient in reversed(coefficients[:-1]):
        total = torch.addcmul(x.new_full((), coefficient), total, x, out=out)
    return total


def _near(t: Tensor) -> Tensor:
    """Returns r/t for t ≤ FAR."""
    y = t * t
    return polynomial(NEAR_TOP, y) / polynomial(NEAR_BOTTOM, y)


def _far(t: Tensor) -> Tensor:
    """Returns c for t ≥ FAR."""
    w = 1 / t
    return w * polynomial(FAR_TOP, w) / polynomial(FAR_BOTTOM, w)


class _Ratio(torch.autograd.Function):
    """(r, c) from t, with derivatives by the Riccati equation near, and of the rational function far."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> tuple[Tensor, Tensor]:
        far = t > FAR
        if far.all():
            c = _far(t)
            r = 1 - c
        else:
            r = t * _near(t.clamp(max=FAR))
            c = 1 - r
            if far.any():
                where = far.nonzero(as_tuple=True)
                c[where] = rest = _far(t[where])
                r[where] = 1 - rest
        ctx.save_for_backward(t, r, c)
        return r, c

    @staticmethod
    def backward(ctx: Any, grad_r: Tensor, grad_c: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (grad_r - grad_c) * ratio_slope(*ctx.saved_tensors)


def ratio_slope(t: Tensor, r: Tensor, c: Tensor) -> Tensor:
    """Returns dr/dt from t, r and c, as `ratio_kernel` gives them."""
    near, w = t.clamp(max=FAR), 1 / t.clamp(min=FAR)
    top, bottom = polynomial(FAR_TOP, w), polynomial(FAR_BOTTOM, w)
    slope = polynomial(_slopes(FAR_TOP), w) * bottom - top * polynomial(_slopes(FAR_BOTTOM), w)
    return torch.where(t > FAR, w * w * (top * bottom + w * slope) / bottom**2, c * (1 + r) - _near(near))


def _slopes(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(n * coefficient for n, coefficient in enumerate(coefficients))[1:]


def ratio_kernel(t: Tensor) -> tuple[Tensor, Tensor]:
    """Ratios r = I₁(t)/I₀(t) and c = 1 − r of plain float64 t ≥ 0, with a small relative error each."""
    return _Ratio.apply(t)  # pyright: ignore[reportReturnType]


def _far_log(t: Tensor) -> Tensor:
    """Returns log(e⁻ᵗ I₀(t)) for t ≥ FAR."""
    w = 1 / t
    return w * polynomial(LOG_TOP, w) / polynomial(LOG_BOTTOM, w) - 0.5 * (2 * math.pi * t).log()


class _LogI0e(torch.autograd.Function):
    """Computes log(e⁻ᵗ I₀(t)), with the derivative −c."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        ctx.save_for_backward(t)
        far = t > FAR
        if far.all():
            return _far_log(t)
        value = torch.special.i0e(t.clamp(max=FAR)).log_()
        small = t < 1e-3  # where the logarithm of a number next to 1 would lose digits
        if small.any():
            value = torch.where(small, t * (t / 4 * (1 - t * t / 16) - 1), value)
        if far.any():
            where = far.nonzero(as_tuple=True)
            value[where] = _far_log(t[where])
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return -grad * ratio_kernel(ctx.saved_tensors[0])[1]


def log_i0e_kernel(t: Tensor) -> Tensor:
    """Computes log(e⁻ᵗ I₀(t)) of plain float64 t ≥ 0."""
    return _LogI0e.apply(t)  # pyright: ignore[reportReturnType]


_log_i0e = Elementwise(lambda t: (log_i0e_kernel(t),), orders=3, what="log I₀")
_one_minus_ratio = Elementwise(lambda t: (ratio_kernel(t)[1],), orders=3, what="1 − I₁/I₀")


def log_i0e(t: Tensor) -> Tensor:
    """Returns log(e⁻ᵗ I₀(t)) of t ≥ 0, with its derivative −(1 − I₁/I₀)."""
    return _log_i0e(t)[0]


def one_minus_ratio(t: Tensor) -> Tensor:
    """Returns 1 − I₁(t)/I₀(t) of t ≥ 0, accurate where it is small: 1/2t + 1/8t² + … for large t."""
    return _one_minus_ratio(t)[0]
