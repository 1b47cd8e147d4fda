"""Intervals of the experiments on the random graph, and the sources that their claims quote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fingerpost.lab import mean_interval

SOURCE = "“Stability of Memory Allocation with Neuroidal Model” (2021-04-11)"
VALIANT = "Valiant 2005 (doi.org/10.1162/0899766053019890)"
BEAL = "Beal & Knight 2008 (doi.org/10.1109/DEVLRN.2008.4640826)"
SPECIFICATION = "specification of the neuroidal experiments"


class Share(NamedTuple):
    """A share of trials, with its interval."""

    share: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """The interval alone, as `Claim` takes it."""
        return self.low, self.high


def share(hits: int, trials: int, level: float = 0.95) -> Share:
    """The share of hits with the interval of Clopper & Pearson (1934), which covers at least as often as it says.

    >>> [round(end, 3) for end in share(0, 20).interval]
    [0.0, 0.168]
    """
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return Share(hits / trials, low, high)


def summary(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The mean over graphs with its t interval, if there is more than one graph."""
    if len(values) < 2:
        return float(values[0]), None
    found = mean_interval(values)
    return found.mean, found.interval


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))


def percent(value: float) -> str:
    """A share as captions say it."""
    return f"{100 * value:.3g} %"
