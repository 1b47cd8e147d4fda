"""Decoders of spike counts without a model of the noise: population vector and linear regression, with one spread for all."""

from __future__ import annotations

from typing import Any

import numpy as np

from fingerpost.experiments._ppc_recordings import Array, Axis

BANDWIDTHS = (0.004, 0.006, 0.01, 0.016, 0.025, 0.04, 0.06, 0.1, 0.16)  # of the axis's length
RIDGES = tuple(10.0**k for k in range(-3, 5))


def smooth_tuning(counts: Array, cells: Array, axis: Axis) -> tuple[Array, Array, float]:
    """Mean counts by stimulus, smoothed by a Gaussian whose width is chosen by leave-one-out Poisson likelihood.

    On a list of conditions nothing is smoothed, but half a spike of the overall mean is added to each condition.

    Args:
      counts: (trials, neurons).
      cells: Cell of each trial's stimulus, (trials,).
      axis: The stimulus's axis, of S cells.

    Returns:
      Rates (S, neurons), the share of stimuli in each cell (S,), and the width in the stimulus's unit.
    """
    size, overall = len(axis.grid), counts.mean(0)
    shown = np.bincount(cells, minlength=size).astype(float)
    total = np.zeros((size, counts.shape[1]))
    np.add.at(total, cells, counts)
    if axis.listed:
        rates = (total + 0.5 * overall) / (shown + 0.5)[:, None]
        return rates, (shown + 0.5) / (shown + 0.5).sum(), 0.0
    length = axis.period or float(axis.grid[-1] - axis.grid[0])
    gaps = axis.difference(axis.grid[:, None], axis.grid[None])
    best = (-np.inf, np.empty(0), np.empty(0), 0.0)
    for share in BANDWIDTHS:
        kernel = np.exp(-0.5 * (gaps / (share * length)) ** 2)
        mass, summed = kernel @ shown, kernel @ total
        weight = (mass - 1)[cells, None] + 0.5  # half a trial of the overall mean keeps rates above 0
        left_out = (summed[cells] - counts + 0.5 * overall) / weight
        score = float((counts * np.log(left_out) - left_out).sum()) if (weight > 0).all() else -np.inf
        if score > best[0]:
            rates = (summed + 0.5 * overall) / (mass + 0.5)[:, None]
            best = (score, rates, mass / mass.sum(), share * length)
    return best[1], best[2], best[3]


class Simple:
    """A point estimate with one spread for all trials, found on the training trials.

    Args:
      axis: The stimulus's axis.
    """

    name = ""

    def __init__(self, axis: Axis) -> None:
        self.axis = axis
        self.spread = 1.0

    def fit(self, counts: Array, stimuli: Array) -> Any:
        """Learns from training trials."""
        raise NotImplementedError

    def points(self, counts: Array) -> Array:
        """Estimates, (trials,)."""
        raise NotImplementedError

    def mass(self, counts: Array) -> Array:
        """Probabilities of the cells, (trials, cells): a Gaussian round each estimate, a von Mises on a circle."""
        gaps = self.axis.difference(self.axis.grid, self.points(counts)[:, None])
        if self.axis.period:
            unit = self.axis.period / (2 * np.pi)
            level = (np.cos(gaps / unit) - 1) * (unit / self.spread) ** 2
        else:
            level = -0.5 * (gaps / self.spread) ** 2
        density = np.exp(level - level.max(1, keepdims=True))
        return density / density.sum(1, keepdims=True)

    def _learn_spread(self, points: Array, stimuli: Array) -> None:
        self.spread = max(float(np.sqrt((self.axis.difference(points, stimuli) ** 2).mean())), 1e-12)


class PopulationVector(Simple):
    """Σ r_i times preferred stimulus, over Σ r_i; on a circle the direction of Σ r_i e^{iθ_i}; then rescaled on a line.

    The preferred stimulus is where the smoothed tuning curve peaks.
    """

    name = "population vector"

    def fit(self, counts: Array, stimuli: Array) -> PopulationVector:
        """Learns preferred stimuli, the scale and the spread."""
        rates, _, _ = smooth_tuning(counts, self.axis.cells(stimuli), self.axis)
        self.preferred = self.axis.grid[rates.argmax(0)]
        self.scale = (0.0, 1.0)
        if not self.axis.period:
            raw = self.points(counts)
            slope = float(np.cov(raw, stimuli)[0, 1] / max(raw.var(ddof=1), 1e-300))
            self.scale = (float(stimuli.mean() - slope * raw.mean()), slope)
        self._learn_spread(self.points(counts), stimuli)
        return self

    def points(self, counts: Array) -> Array:
        """Estimates; the middle of the range, or 0 on a circle, where no neuron fired."""
        if self.axis.period:
            angle = 2 * np.pi * self.preferred / self.axis.period
            found = np.arctan2(counts @ np.sin(angle), counts @ np.cos(angle))
            return found * self.axis.period / (2 * np.pi) % self.axis.period
        total = counts.sum(1)
        middle = float(self.preferred.mean())
        raw = np.where(total > 0, counts @ self.preferred / np.maximum(total, 1), middle)
        return self.scale[0] + self.scale[1] * raw


class LinearRegression(Simple):
    """Ridge regression of the stimulus, or of its cosine and sine, on counts; the penalty by leave-one-out error."""

    name = "linear regression"

    def fit(self, counts: Array, stimuli: Array) -> LinearRegression:
        """Learns weights, and the spread from leave-one-out estimates."""
        self.center = counts.mean(0)
        target = self._target(stimuli)
        self.offset = target.mean(0)
        u, s, v = np.linalg.svd(counts - self.center, full_matrices=False)
        best = np.inf
        for ridge in RIDGES:
            gain = s**2 / (s**2 + ridge * len(counts))
            fitted = (u * gain) @ (u.T @ (target - self.offset))
            leverage = (u**2 @ gain + 1 / len(counts))[:, None]
            left_out = target - (target - self.offset - fitted) / np.maximum(1 - leverage, 1e-9)
            error = float(((target - left_out) ** 2).mean())
            if error < best:
                best, kept = error, left_out
                self.weights = (v.T * (gain / np.maximum(s, 1e-300))) @ (u.T @ (target - self.offset))
        self._learn_spread(self._stimulus(kept), stimuli)
        return self

    def points(self, counts: Array) -> Array:
        """Estimates, (trials,)."""
        return self._stimulus(self.offset + (counts - self.center) @ self.weights)

    def _target(self, stimuli: Array) -> Array:
        if not self.axis.period:
            return stimuli[:, None]
        angle = 2 * np.pi * stimuli / self.axis.period
        return np.stack([np.cos(angle), np.sin(angle)], 1)

    def _stimulus(self, fitted: Array) -> Array:
        if not self.axis.period:
            return fitted[:, 0]
        return np.arctan2(fitted[:, 1], fitted[:, 0]) * self.axis.period / (2 * np.pi) % self.axis.period
