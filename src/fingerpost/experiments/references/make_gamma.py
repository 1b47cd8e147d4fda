"""References of the gamma distribution, concentration a ∈ [1e-3, 1e5]."""

from __future__ import annotations

from mpmath import mp
from scipy import stats

from fingerpost.experiments.references._inputs import FEW, LEVELS, REMOTE, UPPER, distinct, quantiles, single
from fingerpost.experiments.references._quadrature import Number, Values, half_line

PARAMETERS = ("concentration", "rate")
INPUTS = (*PARAMETERS, "value")
CONCENTRATIONS = (1e-3, 1e-2, 0.1, 0.3, 0.5, 1.0, 1.5, 3.0, 10.0, 30.0, 100.0, 1e3, 1e4, 1e5)
SMALLEST = 1e-300  # below it doubles lose digits


def inputs() -> list[tuple[float, ...]]:
    """Rows of (concentration, rate, value)."""
    rows = []
    for a in map(single, CONCENTRATIONS):
        values = quantiles(stats.gamma(a), levels=(*REMOTE, *LEVELS), upper=(*UPPER, *REMOTE))
        if a < 0.02:  # most quantiles are below what doubles hold: powers of ten in their place
            values = distinct([1e-290, 1e-200, 1e-100, single(1e-30), single(1e-10), single(1e-4), *values])
        rows += [(a, 1.0, z) for z in values if z > SMALLEST]
        if a in (single(0.1), 0.5, 3.0, 100.0, 1e4):
            for rate in (single(0.01), 7.0):
                values = quantiles(stats.gamma(a, scale=1 / rate), levels=FEW, upper=(1e-6,))
                rows += [(a, rate, z) for z in values if z > SMALLEST]
    return rows


def evaluate(a: Number, rate: Number, value: Number) -> Values:
    """The row at one input.

    With x = rate·z, S(x; a) and its derivatives are integrals of p and of its score log u − ψ(a) over the side of x
    on which u p(u) falls; on the left the variable is log u.
    """
    x, score = value * rate, mp.log(value * rate) - mp.psi(0, a)
    curvature = mp.psi(1, a)
    right = x > a
    mass, first, second = _integrals(a, x, right, score, curvature)
    sign = 1 if right else -1
    d = sign * first
    slope = (a - 1) / x - 1
    dd = sign * second - 2 * score * d - slope * d**2
    log_prob = (a - 1) * mp.log(x) - x - mp.loggamma(a)
    tail = mass * mp.exp(log_prob)
    return {
        "d_concentration": d / rate,
        "d_rate": -value / rate,
        "dd_concentration_concentration": dd / rate,
        "dd_concentration_rate": -d / rate**2,
        "dd_rate_rate": 2 * value / rate**2,
        "log_prob": log_prob + mp.log(rate),
        "cdf": 1 - tail if right else tail,
        "sf": tail if right else 1 - tail,
    }


def _integrals(a: Number, x: Number, right: bool, score: Number, curvature: Number) -> list[Number]:
    """∫ p, ∫ p ℓ_a and ∫ p (ℓ_aa + ℓ_a²) over one side of x, each over p(x)."""

    def parts(weight: Number, ratio: Number) -> tuple[Number, Number, Number]:
        s = score + ratio
        return weight, weight * s, weight * (s**2 - curvature)

    if right:
        length = 1 / max(abs(a - 1 - x) / x, 1 / mp.sqrt(x + 1))

        def kernel(y: Number) -> tuple[Number, Number, Number]:
            ratio = mp.log1p(y / x)
            return parts(mp.exp((a - 1) * ratio - y), ratio)
    else:
        length = 1 / max(a - x, mp.sqrt(a))

        def kernel(y: Number) -> tuple[Number, Number, Number]:
            return parts(x * mp.exp(-a * y - x * mp.expm1(-y)), -y)

    return half_line(kernel, length)
