"""References of Student's t distribution, df ν ∈ [0.1, 1e6]."""

from __future__ import annotations

from mpmath import mp, mpf
from scipy import stats

from fingerpost.experiments.references._inputs import LEVELS, REMOTE, UPPER, quantiles, single
from fingerpost.experiments.references._quadrature import Number, Values, half_line

PARAMETERS = ("df", "loc", "scale")
INPUTS = (*PARAMETERS, "value")
DFS = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1e3, 1e4, 1e5, 1e6)
ABOUT_MEDIAN = 0.5001  # at the median itself df does not move the sample
LEVELS_OF_T = tuple(ABOUT_MEDIAN if u == 0.5 else u for u in LEVELS)
LEVELS_FEW = (1e-6, 0.05, ABOUT_MEDIAN, 0.75)


def inputs() -> list[tuple[float, ...]]:
    """Rows of (df, loc, scale, value)."""
    rows = []
    for df in map(single, DFS):
        rows += [
            (df, 0.0, 1.0, z) for z in quantiles(stats.t(df), levels=LEVELS_OF_T, upper=(*UPPER, *REMOTE))
        ]
        if df in (0.5, 2.0, 5.0, 100.0, 1e6):
            frozen = stats.t(df, loc=1.5, scale=0.25)
            rows += [(df, 1.5, 0.25, z) for z in quantiles(frozen, levels=LEVELS_FEW, upper=(1e-6,))]
    return rows


def evaluate(df: Number, loc: Number, scale: Number, value: Number) -> Values:
    """The row at one input.

    By symmetry at x = |z − loc|/scale. S(x; ν) and its derivatives are integrals of p and of its score from x to ∞, in
    the variable y where u = √ν sinh y and p(u) du is proportional to dy/(cosh y)^ν.
    """
    x, side = abs(value - loc) / scale, mp.sign(value - loc)
    start = mp.asinh(x / mp.sqrt(df))
    mass, first, second = _integrals(df, start)
    score, _ = _score(df, start)
    slope = -(df + 1) * x / (df + x**2)
    dd = second - 2 * score * first - slope * first**2
    half = mpf(1) / 2
    constant = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - half * mp.log(df * mp.pi)
    log_prob = constant - (df + 1) * mp.log(mp.cosh(start))
    tail, zero = mass * mp.exp(log_prob), mpf(0)
    return {
        "d_df": side * scale * first,
        "d_loc": mpf(1),
        "d_scale": side * x,
        "dd_df_df": side * scale * dd,
        "dd_df_loc": zero,
        "dd_df_scale": side * first,
        "dd_loc_loc": zero,
        "dd_loc_scale": zero,
        "dd_scale_scale": zero,
        "log_prob": log_prob - mp.log(scale),
        "cdf": 1 - tail if side > 0 else tail,
        "sf": tail if side > 0 else 1 - tail,
    }


def _score(df: Number, y: Number) -> tuple[Number, Number]:
    """∂ log p/∂ν and ∂² log p/∂ν² at u = √ν sinh y."""
    above, below = (df + 1) / 2, df / 2
    squared = mp.tanh(y) ** 2
    first = mp.psi(0, above) - mp.psi(0, below) - 1 / df - 2 * mp.log(mp.cosh(y)) + (df + 1) / df * squared
    second = (mp.psi(1, above) - mp.psi(1, below)) / 2 + 1 / df**2
    second += squared * (1 / df - 1 / df**2 - (df + 1) / df**2 * (1 - squared))
    return first / 2, second / 2


def _integrals(df: Number, start: Number) -> list[Number]:
    """∫ p, ∫ p ℓ_ν and ∫ p (ℓ_νν + ℓ_ν²) from x to ∞, each over p(x)."""
    above, below = (df + 1) / 2, df / 2
    constant = (mp.psi(0, above) - mp.psi(0, below) - 1 / df) / 2
    curvature = (mp.psi(1, above) - mp.psi(1, below)) / 4 + 1 / (2 * df**2)
    height = mp.log(mp.cosh(start))
    factor = mp.sqrt(df) * mp.exp(height)

    def kernel(y: Number) -> tuple[Number, Number, Number]:
        logarithm, squared = mp.log(mp.cosh(start + y)), mp.tanh(start + y) ** 2
        weight = factor * mp.exp(-df * (logarithm - height))
        s = constant - logarithm + (df + 1) / (2 * df) * squared
        moved = curvature + squared * (1 / df - 1 / df**2 - (df + 1) / df**2 * (1 - squared)) / 2
        return weight, weight * s, weight * (moved + s**2)

    return half_line(kernel, 1 / max(df * mp.tanh(start), mp.sqrt(df) * mp.sech(start)))
