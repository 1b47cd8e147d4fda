"""Kernels learned from recorded counts, by multinomial regression of the stimulus on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fingerpost._lazy import require_extra
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.population._checks import activities, finite, number, real
from fingerpost.population.codes.exponential import ExponentialFamilyCode

PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
FOLDS = 3


class FittedKernel(ExponentialFamilyCode):
    """A kernel that `fit_kernel` learned: an `ExponentialFamilyCode` with what it took.

    Args:
      kernel, offset, grid, period: As there.
      penalty: The penalty on squared weights that was used.
      scores: Held-out mean log p(bin | r) in nats of each penalty that was tried; empty if it was given.
      share: Share of training trials in each bin.
    """

    def __init__(
        self,
        kernel: Tensor,
        offset: Tensor,
        *,
        grid: Tensor,
        period: float | None,
        penalty: float,
        scores: dict[float, float],
        share: Tensor,
    ) -> None:
        super().__init__(kernel, offset, grid=grid, period=period)
        self.penalty, self.scores, self.share = penalty, scores, share


def fit_kernel(
    counts: Any,
    stimuli: Any,
    *,
    bins: int | str = 16,
    span: tuple[float, float] | None = None,
    period: float | None = None,
    penalty: float | str | Sequence[float] = "auto",
    seed: int = 0,
) -> FittedKernel:
    r"""Learns h and b from trials by multinomial regression: p(bin j | r) ∝ exp(w_j · r + c_j).

    If counts are of the family φ(r) exp(h(s) · r + b(s)), Bayes' rule gives w_j = h(s_j) and c_j = b(s_j) + log π_j up to
    constants, with π_j the share of trials in the bin: the regression asks nothing of φ. (Ma et al. 2006, “Poisson-like”
    variability,
    https://www.nature.com/articles/nn1790.) log π_j is taken off, so that the prior of the recording isn't counted when a
    prior is given. Between centres of bins h and b are interpolated, and beyond the outer ones extended to the range's ends.
    b is that of the recording's mean gain: gain 1 in `decode`.

    Args:
      counts: (T, N).
      stimuli: (T,).
      bins: How many of equal width; or ``"values"``, one for each value that was shown. Bins without trials are left out.
      span: The range of the stimulus on a line, which the bins divide; that of the trials unless given.
      period: Length of the circle, or None.
      penalty: On squared weights, with counts in units of their standard deviations: a number, or numbers to choose from
        by held-out log likelihood; ``"auto"`` chooses from 0.1 … 1000.
      seed: Deals trials to the parts that are held out.

    Returns:
      A `FittedKernel`.

    Raises:
      MissingExtraError: Without scikit-learn (the extra ``data``).
      ShapeError, InvalidValueError: If shapes differ, numbers aren't finite, or fewer than two bins have trials.

    >>> from fingerpost.population import GaussianTuning, PoissonCode
    >>> draw = torch.Generator().manual_seed(0)
    >>> truth = PoissonCode(GaussianTuning(torch.arange(-9.0, 10.0, dtype=torch.float64), 3.0))
    >>> shown = 10 * torch.rand(1500, generator=draw, dtype=torch.float64) - 5
    >>> code = fit_kernel(truth.encode(shown, 3.0, draw), shown, bins=8, span=(-5.0, 5.0), penalty=10.0)
    >>> new = truth.encode([2.0], 3.0, draw)
    >>> bool((code.decode(new, torch.linspace(-5, 5, 101, dtype=torch.float64)).mean - 2.0).abs() < 2.5)
    True
    """
    counts, stimuli = _trials(counts, stimuli)
    label, centre, ends = _binned(stimuli, bins, span, period)
    spread = counts.std(0)
    spread = torch.where(spread > 0, spread, 1.0)
    x, y = (counts / spread).numpy(), label.numpy()
    tried = _penalties(penalty)
    scores = _scores(x, y, tried, seed) if len(tried) > 1 else {}
    chosen = max(scores, key=lambda one: scores[one]) if scores else tried[0]
    weights, constants = _regression(x, y, chosen)
    share = torch.bincount(label, minlength=len(centre)).double() / len(label)
    kernel = torch.from_numpy(weights) / spread
    kernel = torch.where(counts.std(0) > 0, kernel, 0.0)  # what never varies says nothing
    offset = torch.from_numpy(constants) - share.log()
    grid, kernel, offset = _extended(centre, kernel, offset, ends)
    return FittedKernel(kernel, offset, grid=grid, period=period, penalty=chosen, scores=scores, share=share)


def _trials(counts: Any, stimuli: Any) -> tuple[Tensor, Tensor]:
    counts = activities(counts, None).double().cpu()
    stimuli = finite(real(stimuli, "stimuli", "(T,)"), "stimuli").double().cpu()
    if counts.ndim != 2 or stimuli.ndim != 1 or len(stimuli) != len(counts):
        raise ShapeError(
            f"counts and stimuli have shapes {tuple(counts.shape)} and {tuple(stimuli.shape)}; expected (T, N) and (T,)"
        )
    return counts, stimuli


def _binned(
    stimuli: Tensor, bins: int | str, span: tuple[float, float] | None, period: float | None
) -> tuple[Tensor, Tensor, tuple[float, float] | None]:
    """Bin of each trial, a centre for each bin, and the ends of the range on a line."""
    if period is not None:
        period = number(period, "period", 0)
        stimuli = stimuli % period % period  # just below 0 the first rounds up to the period
    if bins == "values":
        centre, label = stimuli.unique(return_inverse=True)
        ends = None
    else:
        if not isinstance(bins, int) or isinstance(bins, bool) or bins < 2:
            raise InvalidValueError(f"bins is {bins!r}; expected a whole number from 2 on, or 'values'")
        low, high = (
            (0.0, period) if period is not None else span or (float(stimuli.min()), float(stimuli.max()))
        )
        if not low <= float(stimuli.min()) <= float(stimuli.max()) <= high:
            raise InvalidValueError(f"stimuli reach beyond the span from {low:g} to {high:g}")
        width = (high - low) / bins or 1.0
        place = ((stimuli - low) / width).long().clamp(0, bins - 1)
        used, label = place.unique(return_inverse=True)
        centre = low + width * (used.double() + 0.5)
        ends = None if period is not None else (low, high)
    if len(centre) < 2:
        raise InvalidValueError(
            f"stimuli fall into {len(centre)} bin; at least two are needed to tell any apart"
        )
    return label, centre, ends


def _penalties(penalty: Any) -> list[float]:
    if isinstance(penalty, str):
        if penalty != "auto":
            raise InvalidValueError(f"penalty is {penalty!r}; expected numbers above 0, or 'auto'")
        return list(PENALTIES)
    listed = list(penalty) if isinstance(penalty, Sequence) else [penalty]
    if not listed:
        raise InvalidTypeError("penalty is empty; expected at least one number")
    for one in listed:
        if not number(one, "penalty", 0) > 0:
            raise InvalidValueError(f"penalty is {one}; expected a number above 0")
    return [float(one) for one in listed]


def _regression(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (J, N) and constants (J,)."""
    linear = require_extra("sklearn.linear_model", "data", "fitting a kernel to counts")
    model = linear.LogisticRegression(C=1 / penalty, max_iter=2000, tol=1e-5)
    model.fit(x, y)
    weights, constants = model.coef_, model.intercept_
    if len(weights) == 1:  # of two classes the second's is given, with the first's at 0
        weights = np.concatenate([-weights / 2, weights / 2])
        constants = np.concatenate([-constants / 2, constants / 2])
    return weights, constants


def _scores(x: np.ndarray, y: np.ndarray, penalties: Sequence[float], seed: int) -> dict[float, float]:
    """Held-out mean log probability of each penalty."""
    fold = np.random.default_rng(seed).permutation(len(y)) % FOLDS
    found = dict.fromkeys(penalties, 0.0)
    for part in range(FOLDS):
        train, test = fold != part, fold == part
        used, inner = np.unique(y[train], return_inverse=True)
        known = np.isin(y[test], used)  # a bin without a training trial can't be scored
        if len(used) < 2 or not known.any():
            continue
        rows, own = x[test][known], np.searchsorted(used, y[test][known])
        for one in penalties:
            weights, constants = _regression(x[train], inner, one)
            level = torch.log_softmax(torch.from_numpy(rows @ weights.T + constants), 1)
            found[one] += float(level[torch.arange(len(own)), torch.from_numpy(own)].mean()) / FOLDS
    return found


def _extended(
    centre: Tensor, kernel: Tensor, offset: Tensor, ends: tuple[float, float] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """With rows at the range's ends, which lie half a bin outside of the outer centres: on the line through the outer two."""
    if ends is None:
        return centre, kernel, offset
    both = torch.cat([kernel, offset[:, None]], 1)
    first = (ends[0] - centre[0]) / (centre[1] - centre[0])
    last = (ends[1] - centre[-1]) / (centre[-1] - centre[-2])
    both = torch.cat(
        [both[:1] + first * (both[1:2] - both[:1]), both, both[-1:] + last * (both[-1:] - both[-2:-1])]
    )
    grid = torch.cat([centre.new_tensor([ends[0]]), centre, centre.new_tensor([ends[1]])])
    return grid, both[:, :-1].contiguous(), both[:, -1].contiguous()
