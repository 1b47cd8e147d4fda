"""References of the noncentral chi distribution with df k (1 folded normal, 2 Rice), loc/scale from 0 to 1e6."""

from __future__ import annotations

import math

from mpmath import mp, mpf
from scipy import special, stats

from fingerpost.experiments.references._inputs import LEVELS, UPPER, distinct, single
from fingerpost.experiments.references._quadrature import Number, Values, half_line

PARAMETERS = ("df", "loc", "scale")
INPUTS = (*PARAMETERS, "value")
DFS = (1.0, 2.0, 3.0, 5.0, 10.0, 41.0, 2.5)
RATIOS = (0.0, 1e-3, 0.1, 1.0, 3.0, 8.0, 30.0, 1e3, 1e6)
REMOTE = (-30.0, 1e-5, 30.0)  # in scales from loc; some beyond what is sampled
SCALES = (1.0, 0.0625, 37.5, 1e-3)  # taken in turn
LEVELS_MAIN = tuple(u for u in LEVELS if u not in (0.25, 0.75))
LEVELS_FEW = (1e-6, 0.05, 0.5, 0.95)


def inputs() -> list[tuple[float, ...]]:
    """Rows of (df, loc, scale, value); the folded normal and Rice have most levels."""
    rows, turn = [], 0
    for k in DFS:
        levels, upper = (LEVELS_MAIN, UPPER) if k <= 2 else (LEVELS_FEW, (1e-6,))
        for ratio in RATIOS if k <= 3 else RATIOS[::2]:
            scale = single(SCALES[turn % len(SCALES)])
            loc = single(ratio * scale)
            values = [single(scale * x) for x in _quantiles(k, loc / scale, levels, upper)]
            if k <= 2:
                values += [single(loc + x * scale) for x in REMOTE]
            rows += [(k, loc, scale, z) for z in distinct(values) if z > 0]
            turn += 1
    return rows


def _quantiles(k: float, ratio: float, levels: tuple[float, ...], upper: tuple[float, ...]) -> list[float]:
    """Rough quantiles at scale 1: of chi, of noncentral chi squared, or of the normal that it tends to."""
    normal = [special.ndtri(u) for u in levels] + [-special.ndtri(u) for u in upper]
    if ratio > 20:
        return [ratio + (k - 1) / (2 * ratio) + x for x in normal]
    squared = stats.ncx2(k, ratio**2) if ratio > 0.01 else stats.chi2(k)
    found = [squared.ppf(u) for u in levels] + [squared.isf(u) for u in upper]
    return [math.sqrt(q) for q in found if math.isfinite(q)]


def evaluate(k: Number, loc: Number, scale: Number, value: Number) -> Values:
    """The row at one input: with t = z ν/σ² and r = I_{k/2}(t)/I_{k/2−1}(t), dz/dν = r and dz/dσ = (z − ν r)/σ.

    The second derivatives follow from r' = 1 − (k − 1) r/t − r² and from t moving with z, ν and σ.
    """
    t = value * loc / scale**2
    r, rest, slope = _ratio(k, t)
    d_scale = (value - loc + loc * rest) / scale
    t_loc = (r * loc + value) / scale**2
    t_scale = d_scale * loc / scale**2 - 2 * t / scale
    log_prob = log_density(k, value / scale, loc / scale) - mp.log(scale)
    cdf, sf = _tails(k, value / scale, loc / scale)
    return {
        "d_loc": r,
        "d_scale": d_scale,
        "dd_loc_loc": slope * t_loc,
        "dd_loc_scale": slope * t_scale,
        "dd_scale_scale": -loc * slope * t_scale / scale,
        "log_prob": log_prob,
        "cdf": cdf,
        "sf": sf,
    }


def _ratio(k: Number, t: Number) -> tuple[Number, Number, Number]:
    """The ratio r = I_{k/2}(t)/I_{k/2−1}(t), 1 − r, and dr/dt."""
    if t == 0:
        return mpf(0), mpf(1), 1 / k
    if k == 1:  # 1 − tanh t, which no working precision could form
        rest = 2 / (mp.exp(2 * t) + 1)
        return mp.tanh(t), rest, rest * (2 - rest)
    r = mp.besseli(k / 2, t) / mp.besseli(k / 2 - 1, t)
    return r, 1 - r, 1 - (k - 1) * r / t - r**2


def log_density(k: Number, x: Number, ratio: Number) -> Number:
    """The log density at scale 1; I_{k/2−1}(t) = (t/2)^{k/2−1} ₀F₁(k/2; t²/4)/Γ(k/2) also holds at ratio 0."""
    log_series = mp.log(mp.hyp0f1(k / 2, (x * ratio) ** 2 / 4))
    constant = (1 - k / 2) * mp.log(2) - mp.loggamma(k / 2)
    return constant + (k - 1) * mp.log(x) - (x**2 + ratio**2) / 2 + log_series


def _tails(k: Number, x: Number, ratio: Number) -> tuple[Number, Number]:
    """F and 1 − F at scale 1: by error functions for k = 1, else the smaller one by an integral of the density."""
    if k == 1:
        far, near = (x + ratio) / mp.sqrt(2), (x - ratio) / mp.sqrt(2)
        sf = (mp.erfc(near) + mp.erfc(far)) / 2
        if near < 0:  # a difference of error functions, which are 1 − …, would be 0 far below loc
            return (mp.erfc(-near) - mp.erfc(far)) / 2, sf
        return (mp.erf(near) + mp.erf(far)) / 2, sf
    right = x**2 > ratio**2 + k - 1
    steepness = 1 + abs(x - ratio)

    def density(y: Number) -> tuple[Number]:
        return (mp.exp(log_density(k, x + y, ratio)),)

    def density_of_logarithm(y: Number) -> tuple[Number]:
        u = x * mp.exp(-y)
        return (u * mp.exp(log_density(k, u, ratio)),)

    if right:
        sf = half_line(density, 1 / steepness)[0]
        return 1 - sf, sf
    cdf = half_line(density_of_logarithm, 1 / (k + x * steepness))[0]
    return cdf, 1 - cdf
