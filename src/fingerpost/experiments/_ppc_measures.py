"""What a decoded posterior is worth on trials that it has not seen: error, bits, calibration; and what halves add up to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fingerpost.experiments._ppc_recordings import Array, Axis
from fingerpost.lab import mean_interval

LEVELS = tuple(round(0.05 * k, 2) for k in range(1, 20)) + (0.99,)


class Decoded(NamedTuple):
    """Held-out trials as one decoder reads them.

    Args:
      mass: Probabilities of the cells, (trials, cells).
      mean, deviation: Posterior mean and standard deviation, in the stimulus's unit.
      error: Mean minus the stimulus, the short way round on a circle.
      bits: log₂ of the stimulus's probability over its prior.
      rank: The share of the posterior that is denser than at the stimulus: uniform if calibrated.
    """

    mass: Array
    mean: Array
    deviation: Array
    error: Array
    bits: Array
    rank: Array


def measured(mass: Array, stimuli: Array, prior: Array, axis: Axis, seed: int) -> Decoded:
    """Everything about these posteriors.

    Args:
      mass: (trials, cells).
      stimuli: (trials,).
      prior: Probability of each cell before any spike, (cells,) or (trials, cells).
      axis: The stimulus's axis.
      seed: Breaks ties of ranks at random.
    """
    cells = axis.cells(stimuli)
    mean = axis.mean(mass)
    own = mass[np.arange(len(mass)), cells]
    before = np.broadcast_to(prior, mass.shape)[np.arange(len(mass)), cells]
    unit = np.random.default_rng(seed).uniform(size=len(mass))
    tied = np.abs(mass - own[:, None]) <= 1e-9 * own[:, None]
    rank = (mass * ((mass > own[:, None]) & ~tied)).sum(1) + unit * (mass * tied).sum(1)
    bits = np.log2(np.maximum(own, 1e-300) / before)
    deviation = np.sqrt(axis.variance(mass, mean))
    return Decoded(mass, mean, deviation, axis.difference(mean, stimuli), bits, rank)


def regions(decoded: Decoded, axis: Axis, level: float = 0.95) -> tuple[Array, Array]:
    """Ends of the central region of each posterior: (low, high), counted round the mean on a circle."""
    low, high = (1 - level) / 2, (1 + level) / 2
    if not axis.period:
        total = decoded.mass.cumsum(1)
        return tuple(
            axis.grid[np.minimum((total < q - 1e-12).sum(1), len(axis.grid) - 1)] for q in (low, high)
        )  # pyright: ignore[reportReturnType]
    gaps = axis.difference(axis.grid, decoded.mean[:, None])
    order = gaps.argsort(1)
    total = np.take_along_axis(decoded.mass, order, 1).cumsum(1)
    ends = []
    for q in (low, high):
        place = np.minimum((total < q - 1e-12).sum(1), len(axis.grid) - 1)
        ends.append(axis.grid[order[np.arange(len(order)), place]])
    return ends[0], ends[1]


def calibration(decoded: Decoded) -> list[float]:
    """Mean claimed variance over mean square error, with a 95 % interval: [value, low, high]."""
    return ratio_interval(decoded.deviation**2, decoded.error**2)


def ratio_interval(top: Array, bottom: Array) -> list[float]:
    """mean(top)/mean(bottom) of paired trials with the delta method's interval on its logarithm, [value, low, high]."""
    a, b = float(top.mean()), float(bottom.mean())
    if not (a > 0 and b > 0):
        return [float("nan")] * 3
    spread = float(np.std(top / a - bottom / b, ddof=1)) / np.sqrt(len(top))
    value = a / b
    return [value, value * float(np.exp(-1.96 * spread)), value * float(np.exp(1.96 * spread))]


def coverage(decoded: Decoded) -> list[list[float]]:
    """[level, share of stimuli inside the smallest region of that mass] for each level."""
    return [[level, float((decoded.rank <= level).mean())] for level in LEVELS]


def wilson(inside: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (Wilson 1927).

    >>> tuple(round(x, 3) for x in wilson(95, 100))
    (0.888, 0.978)
    """
    share, scale = inside / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z / scale * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    return middle - half, middle + half


def reliability(decoded: Decoded, parts: int = 5) -> list[list[float]]:
    """[claimed deviation, real error, low, high] of trials in equal parts by the deviation that is claimed on them."""
    rows = []
    for part in np.array_split(np.argsort(decoded.deviation, kind="stable"), parts):
        square = mean_interval((decoded.error[part] ** 2).tolist())
        claimed = float(np.sqrt((decoded.deviation[part] ** 2).mean()))
        rows.append([claimed, *(float(np.sqrt(max(x, 0.0))) for x in square)])
    return rows


def by_stimulus(values: Array, stimuli: Array, axis: Axis, bins: int = 12) -> list[list[float]]:
    """[stimulus, mean, low, high] of the values in bins of the stimulus, or for each listed stimulus."""
    if axis.listed:
        group, centers = axis.cells(stimuli), axis.grid
    else:
        low, high = (0.0, axis.period) if axis.period else (float(axis.grid[0]), float(axis.grid[-1]))
        width = (high - low) / bins
        moved = stimuli % axis.period if axis.period else stimuli
        group = np.clip(((moved - low) / width).astype(int), 0, bins - 1)
        centers = low + width * (np.arange(bins) + 0.5)
    rows = []
    for number, center in enumerate(centers):
        chosen = values[group == number]
        if len(chosen) >= 3:
            rows.append([float(center), *mean_interval(chosen.tolist())])
    return rows


def pairs(stimuli: Array, axis: Axis) -> tuple[Array, Array]:
    """Numbers of two trials of nearly the same stimulus each, every trial at most once: neighbours in sorted order."""
    order = np.argsort(stimuli % axis.period if axis.period else stimuli, kind="stable")
    usable = len(order) // 2 * 2
    return order[0:usable:2], order[1:usable:2]


def centred(error: Array, stimuli: Array, axis: Axis) -> Array:
    """Errors without what depends on the stimulus alone: their mean by bins of the stimulus is taken out."""
    cells = axis.cells(stimuli)
    group = cells if axis.listed else cells * 12 // len(axis.grid)
    total = np.bincount(group, weights=error)
    return error - (total / np.maximum(np.bincount(group), 1))[group]


def halves(first: Decoded, second: Decoded, both: Decoded, stimuli: Array, axis: Axis) -> dict[str, Any]:
    """Whether two posteriors add up as the formulas say.

    Returns:
      ``real``: real square error of the combination over 1/(1/σ₁² + 1/σ₂²) of the parts' real square errors;
      ``claimed``: claimed over real variance of the combination; ``gain``: its square error over the better part's; all
      [value, low, high]; ``correlation`` of the parts' errors given the stimulus, as well.
    """
    a, b, c = (one.error**2 for one in (first, second, both))
    p, q = a.mean(), b.mean()
    formula = 1 / (1 / p + 1 / q)
    # d log formula = formula (da/p² + db/q²): the delta method on paired trials.
    spread = np.std(c / c.mean() - formula * (a / p**2 + b / q**2), ddof=1) / np.sqrt(len(c))
    value = float(c.mean() / formula)
    x, y = (centred(one.error, stimuli, axis) for one in (first, second))
    rho = float(np.corrcoef(x, y)[0, 1])
    reach = 1.96 / np.sqrt(max(len(x) - 3, 1))
    return {
        "real": [value, value * float(np.exp(-1.96 * spread)), value * float(np.exp(1.96 * spread))],
        "claimed": calibration(both),
        "gain": ratio_interval(c, a if p <= q else b),
        "correlation": [
            rho,
            float(np.tanh(np.arctanh(rho) - reach)),
            float(np.tanh(np.arctanh(rho) + reach)),
        ],
        "errors": [float(np.sqrt(v)) for v in (p, q, c.mean(), formula)],
    }
