"""Means, variances and entropies: noncentral chi (df 1, 2, 3), von Mises (circular variance) and truncated normal."""

from __future__ import annotations

from mpmath import mp, mpf

from fingerpost.experiments.references import make_truncated_normal
from fingerpost.experiments.references._inputs import single
from fingerpost.experiments.references._quadrature import Number, Values, half_line
from fingerpost.experiments.references.make_noncentral_chi import log_density

INPUTS = ("family", "df", "loc", "scale", "low", "high", "concentration")
DFS = (1.0, 2.0, 3.0)
RATIOS = (0.0, 1e-3, 0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 100.0, 1e3, 1e4, 1e5, 1e6)
SCALES = (1.0, 0.0625, 37.5)  # taken in turn
CONCENTRATIONS = (1e-3, 1e-2, 0.1, 0.3, 1.0, 2.0, 3.0, 10.0, 30.0, 60.0, 100.0, 1e3, 1e4, 1e5, 1e6)
NARROW = 2.0**-10
Row = tuple["str | float | None", ...]


def inputs() -> list[Row]:
    """Rows of (family, df, loc, scale, low, high, concentration), None where a family has no such parameter."""
    rows: list[Row] = []
    for i, ratio in enumerate(RATIOS):
        scale = SCALES[i % len(SCALES)]
        rows += [("noncentral_chi", k, single(ratio * scale), scale, None, None, None) for k in DFS]
    for kappa in map(single, CONCENTRATIONS):
        rows.append(("von_mises", None, 0.5, None, None, None, kappa))
    bounds = [*make_truncated_normal.BOUNDS, (0.0, 1.0, -300.0, 300.0)]
    for tail in make_truncated_normal.TAILS:
        bounds += [(-2 * tail, 2.0, 0.0, mp.inf), (0.0, 1.0, -mp.inf, -tail), (-tail, 1.0, 0.0, 1 / 64)]
        bounds += [(0.0, 1.0, tail, tail + 2), (tail / 2, 0.5, -1.0, 0.0)]
    bounds += [(0.0 - centre, 1.0, -NARROW, NARROW / 2) for centre in (0.0, 1.0, 100.0, -100.0)]
    rows += [("truncated_normal", None, *map(float, row), None) for row in bounds]
    return rows


def evaluate(family: str, *inputs: Number) -> Values:
    """The row at one input."""
    df, loc, scale, low, high, kappa = inputs
    if family == "noncentral_chi":
        return _noncentral_chi(df, loc, scale)
    if family == "von_mises":
        return _von_mises(loc, kappa)
    return _truncated_normal(loc, scale, low, high)


def _noncentral_chi(k: Number, loc: Number, scale: Number) -> Values:
    """Mean σ √2 Γ((k+1)/2)/Γ(k/2) ₁F₁(−½; k/2; −ν²/2σ²), second moment ν² + k σ²; the entropy by quadrature."""
    ratio, half = loc / scale, mpf(1) / 2
    gammas = mp.exp(mp.loggamma((k + 1) / 2) - mp.loggamma(k / 2))
    mean = mp.sqrt(2) * gammas * mp.hyp1f1(-half, k / 2, -(ratio**2) / 2)
    centre = mp.sqrt(ratio**2 + k)

    def parts(u: Number, slope: Number) -> tuple[Number, Number]:
        logarithm = log_density(k, u, ratio)
        weight = slope * mp.exp(logarithm)
        return weight, -weight * logarithm

    right = half_line(lambda y: parts(centre + y, mpf(1)), mpf(1))
    left = half_line(lambda y: parts(centre * mp.exp(-y), centre * mp.exp(-y)), 1 / (k + centre))
    return {
        "mean": scale * mean,
        "variance": scale**2 * (ratio**2 + k - mean**2),
        "entropy": mp.log(scale) + left[1] + right[1],
    }


def _von_mises(loc: Number, kappa: Number) -> Values:
    """Circular variance 1 − A(κ) and entropy log(2π I₀(κ)) − κ A(κ)."""
    zero, one = mp.besseli(0, kappa), mp.besseli(1, kappa)
    return {
        "mean": loc,
        "variance": 1 - one / zero,
        "entropy": mp.log(2 * mp.pi * zero) - kappa * one / zero,
    }


def _truncated_normal(loc: Number, scale: Number, low: Number, high: Number) -> Values:
    """With m = (φ(α) − φ(β))/Z and s = (α φ(α) − β φ(β))/Z: μ + σ m, σ² (1 + s − m²), log(σ Z √(2πe)) + s/2."""
    alpha, beta = (low - loc) / scale, (high - loc) / scale
    mass = make_truncated_normal.mass(alpha, beta)
    at_low, at_high = (mpf(0) if mp.isinf(x) else mp.npdf(x) / mass for x in (alpha, beta))
    m = at_low - at_high
    s = (mpf(0) if mp.isinf(alpha) else alpha * at_low) - (mpf(0) if mp.isinf(beta) else beta * at_high)
    return {
        "mean": loc + scale * m,
        "variance": scale**2 * (1 + s - m**2),
        "entropy": mp.log(scale * mass) + (mp.log(2 * mp.pi) + 1 + s) / 2,
    }
