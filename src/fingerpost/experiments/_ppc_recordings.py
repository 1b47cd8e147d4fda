"""A recording and the axis of its stimulus: a range of a line, a circle, or the few values that were shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerpost.errors import ConfigError
from fingerpost.lab import derive_seed

Array = NDArray[Any]

FEW = 24  # at most so many different stimuli are taken for a list of conditions, not for a range
FANO, SHARED, WIDTH = 1.5, 0.3, 18.0  # of the simulated neurons; WIDTH and the period are in degrees


@dataclass(frozen=True)
class Axis:
    """Where the posterior is held: cells of equal weight, each with a stimulus at its centre.

    Args:
      grid: Stimuli, (points,), ascending.
      period: The circle's length, or 0 on a line.
      listed: Whether the cells are the values that were shown, and not a range.
    """

    grid: Array
    period: float
    listed: bool

    @classmethod
    def of(cls, stimuli: Array, period: float, points: int) -> Axis:
        """The axis of these stimuli."""
        values = np.unique(stimuli % period if period else stimuli)
        if len(values) <= FEW and len(values) * 4 <= len(stimuli):
            return cls(values, period, True)
        if period:
            return cls(np.arange(points) * period / points, period, False)
        return cls(np.linspace(values[0], values[-1], points), period, False)

    def difference(self, first: Any, second: Any) -> Array:
        """The first minus the second, the short way round on a circle."""
        gap = np.asarray(first - second)
        return gap - self.period * np.round(gap / self.period) if self.period else gap

    def cells(self, stimuli: Array) -> Array:
        """Number of the cell of each stimulus."""
        if self.period and not self.listed:
            return np.round(stimuli * len(self.grid) / self.period).astype(int) % len(self.grid)
        edges = (self.grid[1:] + self.grid[:-1]) / 2
        return np.searchsorted(edges, stimuli % self.period if self.period else stimuli)

    def mean(self, mass: Array) -> Array:
        """The posterior's mean, round the circle if it is one, (trials,)."""
        if not self.period:
            return mass @ self.grid
        angles = 2 * np.pi * self.grid / self.period
        found = np.arctan2(mass @ np.sin(angles), mass @ np.cos(angles))
        return found * self.period / (2 * np.pi) % self.period

    def variance(self, mass: Array, mean: Array) -> Array:
        """The posterior's mean squared distance from its mean, (trials,)."""
        return (mass * self.difference(self.grid, mean[:, None]) ** 2).sum(1)


def simulated(trials: int, neurons: int, seed: int, jitter: float = 0.0) -> tuple[Array, Array]:
    """Counts of neurons tuned to orientation, with spikes more variable than Poisson's and a gain that all share.

    Each neuron has its own width and height. Spikes have `FANO` times the variance of Poisson's given the gain, a Gamma
    variable of mean 1 and standard deviation `SHARED`.

    Args:
      trials: Trials.
      neurons: Neurons.
      seed: Gives everything.
      jitter: Standard deviation of noise on what all neurons see, in degrees.

    Returns:
      Counts (trials, neurons) and stimuli (trials,) in degrees, of period 180.
    """
    generator = np.random.default_rng(derive_seed(seed, "simulated"))
    stimuli = generator.uniform(0, 180, trials)
    preferred = generator.uniform(0, 180, neurons)
    sharpness = (90 / (np.pi * WIDTH)) ** 2 * generator.uniform(0.6, 1.8, neurons)
    height = generator.gamma(4, 0.75, neurons)
    base = generator.uniform(0.02, 0.3, neurons) * height
    seen = stimuli + jitter * generator.normal(size=trials)
    angle = 2 * np.pi * (seen[:, None] - preferred) / 180
    gain = generator.gamma(SHARED**-2, SHARED**2, trials)[:, None]
    mean = gain * (base + height * np.exp(sharpness * (np.cos(angle) - 1)))
    rate = generator.gamma(mean / (FANO - 1), FANO - 1)
    return generator.poisson(rate).astype(np.float64), stimuli


def folds(trials: int, count: int, seed: int) -> Array:
    """The fold of each trial, (trials,): held out once."""
    order = np.random.default_rng(derive_seed(seed, "folds")).permutation(trials)
    found = np.empty(trials, dtype=int)
    found[order] = np.arange(trials) % count
    return found


def check_recording(counts: Array, stimuli: Array, period: float, count: int, least: int = 60) -> None:
    """Raises ConfigError for a recording from which nothing can be learnt."""
    if len(counts) < least:
        raise ConfigError(
            f"the recording has {len(counts)} trials; at least {least} are needed to fit, and to decode others"
        )
    values = np.unique(stimuli % period if period else stimuli)
    if len(values) < 2:
        raise ConfigError(
            f"the stimulus is {values[0]:g} in every trial; there is nothing to decode from a constant one"
        )
    if not (counts.sum(0) > 0).sum() >= 2:
        raise ConfigError("fewer than 2 neurons fired in this recording; there is no population to decode")
    if len(counts) // count < 2:
        raise ConfigError(f"folds is {count} with {len(counts)} trials; give fewer")
