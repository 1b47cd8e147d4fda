"""References of mixtures of three normal distributions, weights softmax(logits)."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from mpmath import mp, mpf
from scipy import optimize, special

from fingerpost.experiments.references._inputs import LEVELS, UPPER, distinct, single
from fingerpost.experiments.references._quadrature import Number, Values

COMPONENTS = range(3)
PARAMETERS = tuple(f"{kind}_{k}" for kind in ("logits", "loc", "scale") for k in COMPONENTS)
INPUTS = (*PARAMETERS, "value")
MIXTURES = (  # logits, locs, scales
    ((0.0, 0.5, -0.25), (-1.0, 0.5, 2.0), (0.5, 1.0, 0.75)),
    ((0.0, 0.0, 0.0), (-6.0, 0.0, 7.0), (1.0, 1.0, 1.0)),
    ((2.0, -1.0, -3.0), (0.0, 0.25, -0.5), (1.0, 10.0, 0.125)),
    ((0.0, -20.0, 1.0), (0.0, 30.0, 1.0), (1.0, 2.0, 0.5)),
    ((1.0, 0.0, 0.5), (100.0, 101.0, 103.0), (0.0625, 0.5, 0.25)),
    ((-0.5, 0.25, 0.0), (-2.0, -2.0, 3.0), (0.75, 1.5, 2.0)),
)
FARTHEST = 30.0  # a value this many of the largest scales right of all


def inputs() -> list[tuple[float, ...]]:
    """Rows of (logits, locs, scales, value)."""
    rows = []
    for logits, loc, scale in MIXTURES:
        frozen = _Approximate(np.array(logits), np.array(loc), np.array(scale))
        values = [frozen.quantile(u, 1.0) for u in LEVELS] + [frozen.quantile(u, -1.0) for u in UPPER]
        values += [max(loc) + FARTHEST * max(scale)]
        rows += [(*logits, *loc, *scale, z) for z in distinct(map(single, values))]
    return rows


class _Approximate:
    """A mixture in doubles, for its rough quantiles."""

    def __init__(self, logits: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> None:
        self.log_weights, self.loc, self.scale = special.log_softmax(logits), loc, scale

    def quantile(self, level: float, sign: float) -> float:
        """Where F (sign 1) or 1 − F (sign −1) is `level`."""

        def excess(z: float) -> float:
            logs = self.log_weights + special.log_ndtr(sign * (z - self.loc) / self.scale)
            return float(special.logsumexp(logs)) - float(np.log(level))

        low, high = (self.loc - 20 * self.scale).min(), (self.loc + 20 * self.scale).max()
        return float(optimize.root_scalar(excess, bracket=(low, high), method="brentq").root)


def evaluate(*inputs: Number) -> Values:
    """The row at one input, by z_ij = −(F_ij + p_i z_j + p_j z_i + p_z z_i z_j)/p on the smaller side of the value."""
    logits, loc, scale, value = inputs[:3], inputs[3:6], inputs[6:9], inputs[9]
    total = mp.fsum(mp.exp(x) for x in logits)
    weights = [mp.exp(x) / total for x in logits]
    xi = [(value - m) / s for m, s in zip(loc, scale, strict=True)]
    density = [mp.exp(-(x**2) / 2) / (s * mp.sqrt(2 * mp.pi)) for x, s in zip(xi, scale, strict=True)]
    below = [mp.erfc(-x / mp.sqrt(2)) / 2 for x in xi]
    above = [mp.erfc(x / mp.sqrt(2)) / 2 for x in xi]
    cdf, sf, p = (_mean(weights, parts) for parts in (below, above, density))
    sign, side, tail = (1, below, cdf) if cdf < sf else (-1, above, sf)

    first_f = [sign * w * (s - tail) for w, s in zip(weights, side, strict=True)]
    first_f += [-w * f for w, f in zip(weights, density, strict=True)]
    first_f += [-w * f * x for w, f, x in zip(weights, density, xi, strict=True)]
    first_p = [w * (f - p) for w, f in zip(weights, density, strict=True)]
    first_p += [w * f * x / s for w, f, x, s in zip(weights, density, xi, scale, strict=True)]
    first_p += [w * f * (x**2 - 1) / s for w, f, x, s in zip(weights, density, xi, scale, strict=True)]
    slope = -mp.fsum(first_p[3:6])
    d = [-f / p for f in first_f]
    values = {f"d_{name}": x for name, x in zip(PARAMETERS, d, strict=True)}
    for i, j in combinations_with_replacement(range(9), 2):
        second = _second(i, j, weights, first_f, first_p, xi, scale)
        path = first_p[i] * d[j] + first_p[j] * d[i] + slope * d[i] * d[j]
        values[f"dd_{PARAMETERS[i]}_{PARAMETERS[j]}"] = -(second + path) / p
    return values | {"log_prob": mp.log(p), "cdf": cdf, "sf": sf}


def _mean(weights: list[Number], parts: list[Number]) -> Number:
    return mp.fsum(w * part for w, part in zip(weights, parts, strict=True))


def _second(
    i: int,
    j: int,
    w: list[Number],
    f: list[Number],
    p: list[Number],
    xi: list[Number],
    scale: tuple[Number, ...],
) -> Number:
    """∂²F/∂θᵢ∂θⱼ, from the first derivatives f of F and p of the density: logits 0 to 2, locs 3 to 5, scales 6 to 8."""
    if j < 3:
        return (f[j] if i == j else mpf(0)) - w[i] * f[j] - w[j] * f[i]
    k = j % 3
    if i < 3:  # a logit moves the weight of component k by w (δ − w)
        return f[j] * (mpf(i == k) - w[i])
    if i % 3 != k:
        return mpf(0)
    if i < 6:
        return -p[j]
    return -xi[k] * p[j] - f[j] / scale[k]
