"""References of the truncated normal distribution, bounds up to 300 standard deviations from loc."""

from __future__ import annotations

from itertools import combinations_with_replacement

from mpmath import mp, mpf
from scipy import stats

from fingerpost.experiments.references._inputs import LEVELS, UPPER, distinct, single
from fingerpost.experiments.references._quadrature import Number, Values

PARAMETERS = ("loc", "scale", "low", "high")
INPUTS = (*PARAMETERS, "value")
INF = float("inf")
FEW = (1e-3, 0.25, 0.5, 0.95)
BOUNDS = (  # (loc, scale, low, high)
    (0.0, 1.0, -1.0, 1.0),
    (0.25, 2.0, -0.5, 6.0),
    (0.0, 1.0, -3.0, 8.0),
    (1.5, 0.125, 1.0, 2.5),
    (0.0, 1.0, -40.0, 40.0),
    (0.0, 1.0, -INF, INF),
    (0.0, 1.0, 0.0, INF),
    (0.0, 1.0, -INF, 0.5),
    (-1.0, 3.0, 2.0, INF),
    (0.0, 1.0, -30.0, INF),
)
TAILS = (3.0, 6.0, 10.0, 20.0, 38.0, 100.0, 300.0)  # distance of the nearer bound from loc, in scales


def inputs() -> list[tuple[float, ...]]:
    """Rows of (loc, scale, low, high, value)."""
    rows = []
    for bounds in BOUNDS:
        rows += _values(*bounds, levels=LEVELS, upper=UPPER)
    for tail in TAILS:
        rows += _values(-2 * tail, 2.0, 0.0, INF, levels=LEVELS[2:], upper=UPPER[:2])
        rows += _values(0.0, 1.0, -INF, -tail, levels=FEW, upper=())
        rows += _values(-tail, 1.0, 0.0, 1 / 64, levels=FEW, upper=())
        rows += _values(0.0, 1.0, tail, tail + 2, levels=FEW, upper=(1e-3,))
        rows += _values(tail / 2, 0.5, -1.0, 0.0, levels=FEW, upper=(1e-3,))
    for centre in (0.0, 100.0, -100.0):  # windows of about a thousandth of a scale
        rows += _values(0.0 - centre, 1.0, -(2.0**-11), 2.0**-11, levels=FEW, upper=())
        rows += _values(0.0, 1.0, centre, centre + 2.0**-10, levels=FEW, upper=())
    rows += _values(0.0, 1.0, -300.0, 300.0, levels=FEW, upper=(1e-6,))
    rows += [(0.0, 1.0, -300.0, 300.0, z) for z in (-299.0, -30.0, 250.0)]  # far out inside wide bounds
    return rows


def _values(
    loc: float, scale: float, low: float, high: float, levels: tuple[float, ...], upper: tuple[float, ...]
) -> list[tuple[float, ...]]:
    """Rows at rough quantiles, strictly between the bounds, but for loc itself, where velocities may vanish."""
    frozen = stats.truncnorm((low - loc) / scale, (high - loc) / scale, loc=loc, scale=scale)
    found = [frozen.ppf(u) for u in levels] + [frozen.isf(u) for u in upper]
    values = distinct(single(float(z)) for z in found if abs(z - loc) > 1e-8 * scale)
    return [(loc, scale, low, high, z) for z in values if low < z < high]


def evaluate(loc: Number, scale: Number, low: Number, high: Number, value: Number) -> Values:
    """The row at one input.

    With ξ, α, β the standardised z, low, high: w_low = (1 − F) φ(α)/φ(ξ), w_high = F φ(β)/φ(ξ), dz/dlow = w_low,
    dz/dhigh = w_high, dz/dloc = 1 − w_low − w_high, dz/dscale = ξ − α w_low − β w_high. F is fixed along the path,
    so that ∂ log w_low = ξ ∂ξ − α ∂α gives the second derivatives.
    """
    xi, alpha, beta = (value - loc) / scale, (low - loc) / scale, (high - loc) / scale
    whole, below, above = mass(alpha, beta), mass(alpha, xi), mass(xi, beta)
    weights = {
        "low": mpf(0) if mp.isinf(low) else above / whole * mp.exp((xi**2 - alpha**2) / 2),
        "high": mpf(0) if mp.isinf(high) else below / whole * mp.exp((xi**2 - beta**2) / 2),
    }
    ends = {"low": mpf(0) if mp.isinf(low) else alpha, "high": mpf(0) if mp.isinf(high) else beta}
    d = {
        "loc": 1 - weights["low"] - weights["high"],
        "scale": xi - ends["low"] * weights["low"] - ends["high"] * weights["high"],
        **weights,
    }
    values = {f"d_{name}": x for name, x in d.items()}
    moves = {name: _moves(name, d[name], scale, xi, ends) for name in PARAMETERS}
    for first, second in combinations_with_replacement(PARAMETERS, 2):
        values[f"dd_{first}_{second}"] = _second(first, moves[second], weights, ends, xi)
    values["log_prob"] = -(xi**2 + mp.log(2 * mp.pi)) / 2 - mp.log(scale) - mp.log(whole)
    return values | {"cdf": below / whole, "sf": above / whole}


def mass(a: Number, b: Number) -> Number:
    """Φ(b) − Φ(a), by the tail that keeps the digits."""
    if a > 0:
        a, b = -b, -a
    root = mp.sqrt(2)
    if b <= 0:
        return (mp.erfc(-b / root) - (mpf(0) if mp.isinf(a) else mp.erfc(-a / root))) / 2
    return (
        1
        - (mpf(0) if mp.isinf(b) else mp.erfc(b / root) / 2)
        - (mpf(0) if mp.isinf(a) else mp.erfc(-a / root) / 2)
    )


def _moves(name: str, velocity: Number, scale: Number, xi: Number, ends: Values) -> Values:
    """How ξ, α and β move with one parameter, z on its path."""
    rest = {"loc": mpf(-1), "scale": None}.get(name, mpf(0))

    def standardised(moved: Number, at: Number) -> Number:
        return (moved + (-at if rest is None else rest)) / scale

    return {
        "value": standardised(velocity, xi),
        "low": standardised(mpf(name == "low"), ends["low"]),
        "high": standardised(mpf(name == "high"), ends["high"]),
    }


def _second(first: str, move: Values, weights: Values, ends: Values, xi: Number) -> Number:
    """The derivative of dz/d`first` along `move`."""
    dw = {end: weights[end] * (xi * move["value"] - ends[end] * move[end]) for end in ("low", "high")}
    if first == "loc":
        return -dw["low"] - dw["high"]
    if first == "scale":
        return move["value"] - sum(move[end] * weights[end] + ends[end] * dw[end] for end in ("low", "high"))
    return dw[first]
