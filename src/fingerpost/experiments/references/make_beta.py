"""References of the beta distribution, a = concentration1 and b = concentration0 in [1e-2, 1e3]."""

from __future__ import annotations

from itertools import product

from mpmath import mp
from scipy import stats

from fingerpost.experiments.references._inputs import distinct, quantiles, single
from fingerpost.experiments.references._quadrature import Number, Values, half_line

PARAMETERS = ("concentration1", "concentration0")
INPUTS = (*PARAMETERS, "value")
CONCENTRATIONS = (1e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1e3)
SPREADS = (  # levels of the cdf and of the survival function, taken in turn
    ((1e-12, 0.05, 0.5), (1e-6,)),
    ((1e-6, 0.25, 0.75), (1e-3,)),
    ((1e-3, 0.5, 0.95), (1e-12,)),
    ((1e-100, 0.5, 0.95), (1e-100,)),
)
BESIDE_ONE = (1 - 1e-12, 1 - 2.0**-24, 1 - 2.0**-10)
SMALLEST = 1e-300  # below it doubles lose digits


def inputs() -> list[tuple[float, ...]]:
    """Rows of (concentration1, concentration0, value); near 1 the values that doubles and floats can hold."""
    rows = []
    for turn, (a, b) in enumerate(product(map(single, CONCENTRATIONS), repeat=2)):
        levels, upper = SPREADS[turn % len(SPREADS)]
        values = [z for z in quantiles(stats.beta(a, b), levels=levels, upper=upper) if z != 1]
        if b < 0.2:
            values = [*values, *BESIDE_ONE[: 4 - len(values)], BESIDE_ONE[turn % len(BESIDE_ONE)]]
        rows += [(a, b, z) for z in distinct(values) if SMALLEST < z < 1]
    return rows


def evaluate(a: Number, b: Number, value: Number) -> Values:
    """The row at one input.

    F or 1 − F and their derivatives are integrals of p and of its scores log u − ψ(a) + ψ(a+b) and
    log(1 − u) − ψ(b) + ψ(a+b), in the variable log(u/(1 − u)), over the side on which u^a (1 − u)^b falls.
    """
    right = b * value > a * (1 - value)
    log_z, log_rest = mp.log(value), mp.log(1 - value)
    both = mp.psi(0, a + b)
    at = (log_z - mp.psi(0, a) + both, log_rest - mp.psi(0, b) + both)
    mass, *integrals = _integrals(a, b, value, right)
    sign = 1 if right else -1
    d1, d0, dd11, dd10, dd00 = (sign * part for part in integrals)
    slope = (a - 1) / value - (b - 1) / (1 - value)
    log_prob = (a - 1) * log_z + (b - 1) * log_rest + mp.loggamma(a + b) - mp.loggamma(a) - mp.loggamma(b)
    tail = mass * mp.exp(log_prob)
    return {
        "d_concentration1": d1,
        "d_concentration0": d0,
        "dd_concentration1_concentration1": dd11 - 2 * at[0] * d1 - slope * d1**2,
        "dd_concentration1_concentration0": dd10 - at[0] * d0 - at[1] * d1 - slope * d1 * d0,
        "dd_concentration0_concentration0": dd00 - 2 * at[1] * d0 - slope * d0**2,
        "log_prob": log_prob,
        "cdf": 1 - tail if right else tail,
        "sf": tail if right else 1 - tail,
    }


def _integrals(a: Number, b: Number, value: Number, right: bool) -> list[Number]:
    """∫ p, ∫ p ℓ_i and ∫ p (ℓ_ij + ℓ_i ℓ_j) over one side of the value, each over p(value)."""
    both, curvature = mp.psi(0, a + b), mp.psi(1, a + b)
    mean1, mean0 = mp.psi(0, a) - both, mp.psi(0, b) - both
    curvature1, curvature0 = curvature - mp.psi(1, a), curvature - mp.psi(1, b)
    log_z, log_rest = mp.log(value), mp.log(1 - value)
    start, factor = log_z - log_rest, value * (1 - value)
    direction = 1 if right else -1

    def kernel(y: Number) -> tuple[Number, ...]:
        logit = start + direction * y
        log_1_u = -mp.log1p(mp.exp(logit))
        log_u = logit + log_1_u
        weight = factor * mp.exp(a * (log_u - log_z) + b * (log_1_u - log_rest))
        s1, s0 = log_u - mean1, log_1_u - mean0
        seconds = (curvature1 + s1**2, curvature + s1 * s0, curvature0 + s0**2)
        return weight, weight * s1, weight * s0, *(weight * part for part in seconds)

    steepness = max(abs(a * (1 - value) - b * value), mp.sqrt((a + b) * factor))
    return half_line(kernel, 1 / steepness)
