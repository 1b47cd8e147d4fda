"""References of the von Mises distribution, concentration κ ∈ [1e-3, 1e6]."""

from __future__ import annotations

import math

from mpmath import mp, mpf
from scipy import special

from fingerpost.experiments.references._inputs import LEVELS, UPPER, distinct, single
from fingerpost.experiments.references._quadrature import Number, Values, half_line

PARAMETERS = ("loc", "concentration")
INPUTS = (*PARAMETERS, "value")
CONCENTRATIONS = (1e-3, 1e-2, 0.1, 0.5, 1.0, 3.0, 10.0, 10.5, 30.0, 60.0, 100.0, 1e3, 1e4, 1e5, 1e6)
SHIFTED = (0.1, 1.0, 10.0, 1e3, 1e6)
LARGEST = 3.1415925  # float32 rounds it down, and π up
ANTIPODE = (3.0, 3.125, LARGEST)  # near π, whatever their probability


def inputs() -> list[tuple[float, ...]]:
    """Rows of (loc, concentration, value): about 0, and about 0.5 with angles on both sides of −π."""
    rows = []
    for kappa in map(single, CONCENTRATIONS):
        angles = distinct([*_quantiles(kappa), *ANTIPODE])
        rows += [(0.0, kappa, single(x)) for x in angles]
    for kappa in map(single, SHIFTED):
        angles = [0.5 + x for x in _quantiles(kappa)[::2] if abs(x) < 3.14159]
        wrapped = [x - 2 * math.pi if x > math.pi else x for x in angles]
        rows += [(0.5, kappa, z) for z in distinct(map(single, wrapped)) if z != 0.5]
    return rows


def _quantiles(kappa: float) -> list[float]:
    """Rough quantiles: of a uniform angle, or of the normal that the distribution tends to."""
    if kappa < 3:
        levels = [u for u in LEVELS if u != 0.5]
        angles = [2 * math.pi * (u - 0.5) for u in levels] + [2 * math.pi * (0.5 - u) for u in UPPER]
        return [max(-LARGEST, min(x, LARGEST)) for x in angles]
    normal = [special.ndtri(u) for u in LEVELS if u != 0.5] + [-special.ndtri(u) for u in UPPER]
    angles = (x / math.sqrt(kappa) * (1 + x * x / (8 * kappa)) for x in normal)
    return [x for x in angles if abs(x) < 3.14]


def evaluate(loc: Number, kappa: Number, value: Number) -> Values:
    """The row at one input.

    By symmetry at x = |z − loc| (wrapped). S(x; κ) and its derivatives are integrals of p and of its score
    cos u − A(κ) from x to π, in the variable y where sin(u/2) = tanh y, so that du = 2 dy/cosh y.
    """
    turn = 2 * mp.pi
    angle = value - loc - turn * mp.nint((value - loc) / turn)
    x, side = abs(angle), mp.sign(angle)
    mean = mp.besseli(1, kappa) / mp.besseli(0, kappa)
    curvature = 1 - mean / kappa - mean**2
    mass, first, second = _integrals(kappa, x, mean, curvature)
    score, slope = mp.cos(x) - mean, -kappa * mp.sin(x)
    dd = second - 2 * score * first - slope * first**2
    log_prob = kappa * mp.cos(x) - mp.log(turn * mp.besseli(0, kappa))
    tail = mass * mp.exp(log_prob)
    return {
        "d_loc": mpf(1),
        "d_concentration": side * first,
        "dd_loc_loc": mpf(0),
        "dd_loc_concentration": mpf(0),
        "dd_concentration_concentration": side * dd,
        "log_prob": log_prob,
        "cdf": 1 - tail if side > 0 else tail,
        "sf": tail if side > 0 else 1 - tail,
    }


def _integrals(kappa: Number, x: Number, mean: Number, curvature: Number) -> list[Number]:
    """∫ p, ∫ p ℓ_κ and ∫ p (ℓ_κκ + ℓ_κ²) from x to π, each over p(x)."""
    start, sine = mp.atanh(mp.sin(x / 2)), mp.sin(x / 2)

    def kernel(y: Number) -> tuple[Number, Number, Number]:
        squared = mp.tanh(start + y) ** 2
        weight = 2 * mp.sech(start + y) * mp.exp(-2 * kappa * (squared - sine**2))
        s = 1 - mean - 2 * squared
        return weight, weight * s, weight * (s**2 - curvature)

    steepness = 4 * kappa * sine * (1 - sine**2)
    return half_line(kernel, 1 / max(mpf(1), mp.sqrt(kappa) * (1 - sine**2), steepness))
