"""Inputs of the references: quantile levels, and numbers that float32 holds exactly where it can."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

LEVELS = (1e-12, 1e-6, 1e-3, 0.05, 0.25, 0.5, 0.75, 0.95)
UPPER = (1e-3, 1e-6, 1e-12)  # levels of the survival function
REMOTE = (1e-100,)  # no sample comes from there, but a velocity is defined, and must not be NaN
FEW = (1e-6, 0.05, 0.5, 0.95)


def single(x: float) -> float:
    """Rounds x to float32, but for numbers that float32 has no normal neighbour of."""
    with np.errstate(over="ignore"):
        rounded = float(np.float32(x))
    tiny, huge = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    return rounded if tiny <= abs(rounded) <= huge or x == 0 or np.isinf(x) else float(x)


def quantiles(frozen: Any, levels: Iterable[float] = LEVELS, upper: Iterable[float] = UPPER) -> list[float]:
    """Roughly the quantiles of a frozen scipy.stats distribution, rounded to float32.

    Args:
      frozen: What has `ppf` and `isf`.
      levels: Of the cdf.
      upper: Of the survival function.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a root that scipy gives up on is near enough
        found = [float(frozen.ppf(u)) for u in levels] + [float(frozen.isf(u)) for u in upper]
    return distinct(single(z) for z in found if np.isfinite(z))


def distinct(values: Iterable[float]) -> list[float]:
    """The values in order, without repetition."""
    return list(dict.fromkeys(values))
