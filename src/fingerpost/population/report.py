"""How far a decoder is from the optimal one: information lost, error, calibration; with intervals over trials."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.population._checks import number
from fingerpost.population.posterior import Posterior


class Estimate(NamedTuple):
    """A figure with a two-sided confidence interval over trials."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OptimalityReport:
    """Figures of a decoder beside the true posterior; each an `Estimate`.

    Args:
      kl: Mean KL(true ‖ decoded) in nats; 0 is optimal.
      ratio: Mean square error of the decoded mean over the true posterior mean's; 1 is optimal.
      calibration: Mean claimed variance over the decoded mean's mean square error: below 1 it is overconfident.
      claimed: Mean claimed variance over the true posterior's, trial by trial the same if optimal.
    """

    kl: Estimate
    ratio: Estimate
    calibration: Estimate
    claimed: Estimate

    def items(self) -> Iterator[tuple[str, Estimate]]:
        """Names and estimates."""
        for field in fields(self):
            yield field.name, getattr(self, field.name)

    def __str__(self) -> str:
        return "\n".join(f"{name:12} {x.value:.4g} [{x.low:.4g}, {x.high:.4g}]" for name, x in self.items())


def optimality_report(
    true: Posterior, decoded: Posterior, stimuli: Any, *, level: float = 0.95
) -> OptimalityReport:
    r"""Compares decoded posteriors with the true ones, and both with the stimuli that were shown.

    Over stimuli from the prior and counts given them, the true posterior's mean has the least mean square error, its mean
    variance is that error, and KL(true ‖ decoded) is the mean log score that the decoder gives away. Intervals are normal
    ones for means, and by the delta method on the logarithm for ratios of means of paired trials; trials are taken to be
    independent.

    Args:
      true: p(s | r) of each trial, from the law that the counts came from. One axis of trials, (T,).
      decoded: What is put to test, on the same grid.
      stimuli: What was shown, (T,) or (T, D). In D dimensions errors and variances are summed over the axes.
      level: Of the intervals.

    Returns:
      An `OptimalityReport`. With fewer than two trials its intervals are NaN.

    Raises:
      ShapeError: If grids or numbers of trials differ.

    >>> from fingerpost.population import GaussianTuning, PoissonCode
    >>> draw, grid = torch.Generator().manual_seed(0), torch.linspace(-10, 10, 201, dtype=torch.float64)
    >>> code = PoissonCode(GaussianTuning(torch.arange(-30, 31, dtype=torch.float64), 3.0))
    >>> shown = 20 * torch.rand(2000, generator=draw, dtype=torch.float64) - 10
    >>> counts = code.encode(shown, 2.0, draw)
    >>> report = optimality_report(code.decode(counts, grid, 2.0), code.decode(counts, grid, 2.0), shown)
    >>> report.kl.value, report.ratio.value, report.calibration.low < 1 < report.calibration.high
    (0.0, 1.0, True)
    """
    if not 0 < (level := number(level, "level")) < 1:
        raise InvalidValueError(f"level is {level:g}; expected a number between 0 and 1")
    if true.batch_shape != decoded.batch_shape or len(true.batch_shape) != 1:
        raise ShapeError(
            f"posteriors are of trials {true.batch_shape} and {decoded.batch_shape}; expected (T,) for both"
        )
    best, own = (_squared(one.error(stimuli), one) for one in (true, decoded))
    ours, theirs = (_summed(one.variance, one) for one in (decoded, true))
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
    return OptimalityReport(
        kl=_mean(true.kl(decoded), z),
        ratio=_ratio(own, best, z),
        calibration=_ratio(ours, own, z),
        claimed=_ratio(ours, theirs, z),
    )


def _summed(value: Tensor, like: Posterior) -> Tensor:
    return (value if like.grid.ndim == 1 else value.sum(-1)).double()


def _squared(error: Tensor, like: Posterior) -> Tensor:
    return _summed(error.square(), like)


def _mean(values: Tensor, z: float) -> Estimate:
    values = values.double()
    mean = float(values.mean())
    half = z * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(mean, mean - half, mean + half)


def _ratio(top: Tensor, bottom: Tensor, z: float) -> Estimate:
    a, b = float(top.mean()), float(bottom.mean())
    if not (a > 0 and b > 0 and math.isfinite(a) and math.isfinite(b)):
        return Estimate(a / b if b else math.nan, math.nan, math.nan)
    # The logarithm of a ratio of means varies like the mean of top/a − bottom/b over trials.
    spread = float((top / a - bottom / b).std()) / math.sqrt(len(top)) if len(top) > 1 else math.nan
    return Estimate(a / b, a / b * math.exp(-z * spread), a / b * math.exp(z * spread))
