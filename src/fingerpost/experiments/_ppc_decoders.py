"""Decoders of one fold: Poisson tuning, the same with any gain, and a learned kernel, with the simple ones beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fingerpost import population
from fingerpost.experiments._ppc_measures import pairs
from fingerpost.experiments._ppc_recordings import Array, Axis
from fingerpost.experiments._ppc_simple import LinearRegression, PopulationVector, smooth_tuning

POISSON, ANY_GAIN, SCALED, LEARNED = (
    "Poisson tuning",
    "any gain",
    "any gain and Fano factor",
    "learned kernel",
)
PROBABILISTIC = (POISSON, ANY_GAIN, SCALED, LEARNED)
FANOS = tuple(2.0 ** (k / 6) for k in range(-9, 22))
INNER = 4
SIMPLE = (PopulationVector.name, LinearRegression.name)
KINDS = {
    "two trials": "Counts of two trials of one stimulus add up: the sum's posterior claims the variance that its mean has.",
    "two halves of neurons": "Two halves of the neurons add up: the combined posterior claims the variance that its mean "
    "has.",
}
__all__ = ["ANY_GAIN", "KINDS", "LEARNED", "POISSON", "PROBABILISTIC", "SIMPLE", "Fold", "smooth_tuning"]


class PoissonTuning:
    """log p(r | s) = Σ r_i log f_i(s) − g Σ f_i(s), with smoothed mean counts for f."""

    def __init__(self, counts: Array, cells: Array, axis: Axis) -> None:
        self.rates, self.shares, _ = smooth_tuning(counts, cells, axis)
        table = torch.from_numpy(self.rates)
        self.cells = torch.arange(len(axis.grid), dtype=torch.float64)
        self.code = population.PoissonCode(population.Tuning(lambda s: table[s.long()]))

    def log_likelihood(self, counts: Array, gain: float = 1.0) -> Array:
        """Up to a constant of each trial, (trials, cells)."""
        return self.code.log_likelihood(torch.from_numpy(counts), self.cells, gain=gain).numpy()


class AnyGain:
    """The same curves with a flat prior on log g integrated out: h_i(s) = log(f_i(s) / Σ_j f_j(s)), and nothing besides."""

    def __init__(self, tuning: PoissonTuning) -> None:
        self.tuning = tuning

    def log_likelihood(self, counts: Array, gain: float = 1.0) -> Array:
        """Up to a constant of each trial, (trials, cells); the gain is not asked."""
        return self.tuning.code.log_likelihood(torch.from_numpy(counts), self.tuning.cells, "any").numpy()


class Scaled:
    """That kernel over a Fano factor F: h′ = Σ⁻¹ f′ for Σ = F diag(f); F by trials held out from the curves."""

    def __init__(self, counts: Array, cells: Array, axis: Axis, kernel: AnyGain) -> None:
        self.kernel = kernel
        scores = np.zeros(len(FANOS))
        for part in range(INNER):
            test = np.arange(len(counts)) % INNER == part
            inner = PoissonTuning(counts[~test], cells[~test], axis)
            level = AnyGain(inner).log_likelihood(counts[test])
            for k, factor in enumerate(FANOS):
                own = log_posterior(level / factor, inner.shares)
                scores[k] += own[np.arange(len(own)), cells[test]].sum()
        self.fano = FANOS[int(scores.argmax())]

    def log_likelihood(self, counts: Array, gain: float = 1.0) -> Array:
        """Up to a constant of each trial, (trials, cells)."""
        return self.kernel.log_likelihood(counts) / self.fano


def log_posterior(level: Array, prior: Array) -> Array:
    """Normalised logarithm of likelihood times prior, (trials, cells)."""
    level = level + np.log(prior)
    level = level - level.max(1, keepdims=True)
    return level - np.log(np.exp(level).sum(1, keepdims=True))


class LearnedKernel:
    """log p(s | r) = h(s) · r + b(s) by `population.fit_kernel`; beyond a list's outermost values they go on as they are."""

    def __init__(self, counts: Array, stimuli: Array, axis: Axis, bins: int) -> None:
        ends = None if axis.period or axis.listed else (float(axis.grid[0]), float(axis.grid[-1]))
        self.code = population.fit_kernel(
            counts, stimuli, bins="values" if axis.listed else bins, span=ends, period=axis.period or None
        )
        self.grid = torch.from_numpy(axis.grid)
        if axis.listed and not axis.period:  # a fold may lack the least value, or the largest
            known = self.code.grid
            assert known is not None
            self.grid = self.grid.clamp(float(known[0]), float(known[-1]))

    def log_likelihood(self, counts: Array, gain: float = 1.0) -> Array:
        """Up to a constant of each trial, (trials, cells)."""
        return self.code.log_likelihood(torch.from_numpy(counts), self.grid, gain).numpy()


class Fold:
    """What is learnt on the training trials of a fold.

    Args:
      counts: Training counts, (trials, neurons).
      stimuli: Training stimuli, (trials,).
      axis: The stimulus's axis.
      bins: Parts of the stimulus between whose ends the learned kernel is linear.
      side: Half of each neuron, 0 or 1, (neurons,).
    """

    def __init__(self, counts: Array, stimuli: Array, axis: Axis, bins: int, side: Array) -> None:
        self.axis, self.side = axis, side
        self.whole = self._probabilistic(counts, stimuli, bins)
        self.halves = [self._probabilistic(counts[:, side == k], stimuli, bins) for k in range(2)]
        self.simple = [kind(axis).fit(counts, stimuli) for kind in (PopulationVector, LinearRegression)]
        self.prior = self.whole[POISSON].shares  # probability of each cell before any spike

    def _probabilistic(self, counts: Array, stimuli: Array, bins: int) -> dict[str, Any]:
        cells = self.axis.cells(stimuli)
        tuning = PoissonTuning(counts, cells, self.axis)
        kernel = AnyGain(tuning)
        scaled = Scaled(counts, cells, self.axis, kernel)
        learned = LearnedKernel(counts, stimuli, self.axis, bins)
        return {POISSON: tuning, ANY_GAIN: kernel, SCALED: scaled, LEARNED: learned}

    def masses(self, counts: Array) -> dict[str, Array]:
        """Posteriors of every decoder, (trials, cells)."""
        found = {name: self._posterior(one.log_likelihood(counts)) for name, one in self.whole.items()}
        return found | {one.name: one.mass(counts) for one in self.simple}

    def sums(self, counts: Array, stimuli: Array) -> dict[str, Any]:
        """Posteriors of both parts and of their combination, for pairs of trials and for halves of the neurons."""
        i, j = pairs(stimuli, self.axis)
        gap = self.axis.difference(stimuli[j], stimuli[i])
        middle = stimuli[i] + gap / 2
        if self.axis.period:
            middle = middle % self.axis.period
        trials: dict[str, Any] = {"stimuli": (stimuli[i], stimuli[j], middle)}
        neurons: dict[str, Any] = {"stimuli": (stimuli,) * 3}
        for name, one in self.whole.items():
            parts = [(counts[i], 1.0), (counts[j], 1.0), (counts[i] + counts[j], 2.0)]
            trials[name] = [self._posterior(one.log_likelihood(r, gain=g)) for r, g in parts]
            levels = [
                half[name].log_likelihood(counts[:, self.side == k]) for k, half in enumerate(self.halves)
            ]
            neurons[name] = [self._posterior(level) for level in (*levels, levels[0] + levels[1])]
        for one, rows in ((trials, len(i)), (neurons, len(counts))):
            one["prior"] = np.broadcast_to(self.prior, (rows, len(self.prior)))
        return dict(zip(KINDS, (trials, neurons)))

    def _posterior(self, level: Array) -> Array:
        return np.exp(log_posterior(level, self.prior))
