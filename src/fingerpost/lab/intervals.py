"""Intervals over seeds: Student's t for a mean and for the mean of paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fingerpost.errors import InvalidValueError, ShapeError


class MeanInterval(NamedTuple):
    """A mean and its two-sided confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """The interval alone, as `Claim` takes it."""
        return self.low, self.high


def mean_interval(values: Sequence[float], level: float = 0.95) -> MeanInterval:
    """Returns the mean with Student's t interval: mean ± t · s/√n, s² with n − 1 (Student 1908).

    Exact when the values are independent and normal; over seeds it is the usual approximation.

    Args:
      values: At least two numbers, one per independent repetition.
      level: The confidence level, in (0, 1).

    Returns:
      ``(mean, low, high)``; all NaN when a value is not finite.

    Raises:
      InvalidValueError: If there are fewer than two values, or `level` is out of range.

    Example:
      >>> mean, low, high = mean_interval([1.0, 2.0, 3.0])
      >>> mean, round(low, 3), round(high, 3)
      (2.0, -0.484, 4.484)
    """
    from scipy.stats import t

    numbers = [float(value) for value in values]
    count = len(numbers)
    if count < 2:
        raise InvalidValueError(f"an interval of a mean needs at least two values; got {count}")
    if not 0 < level < 1:
        raise InvalidValueError(f"level is {level}; it must be between 0 and 1")
    if not all(math.isfinite(number) for number in numbers):
        return MeanInterval(math.nan, math.nan, math.nan)
    mean = math.fsum(numbers) / count
    variance = math.fsum((number - mean) ** 2 for number in numbers) / (count - 1)
    half = float(t.ppf(0.5 + level / 2, count - 1)) * math.sqrt(variance / count)
    return MeanInterval(mean, mean - half, mean + half)


def paired_interval(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> MeanInterval:
    """Returns the mean of first − second with its t interval; entry i of both shares a seed.

    Args:
      first: One number per seed.
      second: One number per seed, in the same order.
      level: The confidence level, in (0, 1).

    Raises:
      ShapeError: If the lengths differ.
      InvalidValueError: As `mean_interval`.

    Example:
      >>> paired_interval([2.0, 3.0, 5.0], [1.0, 2.0, 3.0]).mean
      1.3333333333333333
    """
    if len(first) != len(second):
        raise ShapeError(f"paired values differ in number: {len(first)} and {len(second)}")
    return mean_interval([a - b for a, b in zip(first, second)], level)
