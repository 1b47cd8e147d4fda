"""Kernels learned from recorded counts, by regression of the stimulus on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fingerpost._lazy import lazy_import
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.population._checks import activities, finite, number, real
from fingerpost.population.codes.exponential import ExponentialFamilyCode

optimize = lazy_import("scipy.optimize")

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FOLDS = 3
ROUGHLY = (
    0.1  # largest slope, in coordinates of curvature 1, at which a fit may end that only chooses the penalty
)
CELLS = 6  # of each bin, at whose centres the stimulus's probability is normalised
RIDGE = 1e-3  # of the penalty, on the weights themselves: what the trials and smoothness leave open


class FittedKernel(ExponentialFamilyCode):
    """A kernel that `fit_kernel` learned: an `ExponentialFamilyCode` with what it took.

    Args:
      kernel, offset, grid, period: As there.
      penalty: The penalty that was used.
      scores: Held-out mean log p(s | r) in nats, of each penalty that was tried; empty if it was given.
      share: Share of training trials at each knot; those between two are dealt to both.
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
    r"""Learns h and b from trials, by the likelihood of the stimuli given the counts.

    If counts are of the family φ(r) exp(h(s) · r + b(s)), Bayes' rule gives p(s | r) = π(s) exp(h(s) · r + b(s)) / Z(r), with π
    the stimuli's share in the recording: its likelihood asks nothing of φ. (Ma et al. 2006, “Poisson-like” variability,
    https://www.nature.com/articles/nn1790.) π is held apart, so that the recording's prior isn't counted when a prior is given.
    h and b are linear between knots. What is maximised is concave:

    .. math:: \sum_t \log p(s_t \mid r_t) - \tfrac{λ}{2} \sum_{ki} (h_{k-1,i} - 2 h_{ki} + h_{k+1,i})^2 σ_i^2,

    with σ_i the standard deviation of a neuron's counts: curved kernels are penalised, and not steep ones, which a penalty on
    weights would flatten into a posterior far too wide. b is that of the recording's mean gain: gain 1 in `decode`.

    Args:
      counts: (T, N).
      stimuli: (T,).
      bins: Into how many equal parts the knots divide the range; or ``"values"``: then h and b are those of each value that
        was shown, in no order, and λ penalises Σ h² σ².
      span: The range of the stimulus on a line; that of the trials unless given.
      period: Length of the circle, or None.
      penalty: λ, or numbers to choose from by held-out log likelihood; ``"auto"`` chooses from 0.3 … 300.
      seed: Deals trials to the parts that are held out.

    Returns:
      A `FittedKernel`.

    Raises:
      ShapeError, InvalidValueError: If shapes differ, numbers aren't finite, or all stimuli are the same.

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
    axis = _knots(stimuli, bins, span, period)
    spread = counts.std(0)
    varies = spread > 0  # what never varies says nothing
    x = torch.where(varies, counts / torch.where(varies, spread, 1.0), 0.0).numpy()
    x = np.concatenate([x, np.ones((len(x), 1))], 1)
    tried = _penalties(penalty)
    scores = _scores(x, axis, tried, seed) if len(tried) > 1 else {}
    chosen = max(scores, key=lambda one: scores[one]) if scores else tried[0]
    found = torch.from_numpy(_fitted(x, axis.place, axis, chosen))
    return FittedKernel(
        torch.where(varies, found[:, :-1] / torch.where(varies, spread, 1.0), 0.0),
        found[:, -1].contiguous(),
        grid=torch.from_numpy(axis.knots),
        period=period,
        penalty=chosen,
        scores=scores,
        share=torch.from_numpy(axis.basis.T @ axis.share),
    )


class _Axis(NamedTuple):
    """Where h and b are held, and where the stimulus's probability is normalised.

    Args:
      knots: (K,).
      basis: Weights of the knots at the G cells that have trials, (G, K).
      share: Share of trials in each of these cells, (G,).
      place: Cell of each trial, (T,).
      rough: The penalty's quadratic form, (K, K).
    """

    knots: np.ndarray
    basis: np.ndarray
    share: np.ndarray
    place: np.ndarray
    rough: np.ndarray


def _trials(counts: Any, stimuli: Any) -> tuple[Tensor, Tensor]:
    counts = activities(counts, None).double().cpu()
    stimuli = finite(real(stimuli, "stimuli", "(T,)"), "stimuli").double().cpu()
    if counts.ndim != 2 or stimuli.ndim != 1 or len(stimuli) != len(counts):
        raise ShapeError(
            f"counts and stimuli have shapes {tuple(counts.shape)} and {tuple(stimuli.shape)}; expected (T, N) and (T,)"
        )
    return counts, stimuli


def _knots(stimuli: Tensor, bins: int | str, span: tuple[float, float] | None, period: float | None) -> _Axis:
    shown = stimuli.numpy()
    if period is not None:
        period = number(period, "period", 0)
        shown = shown % period % period  # just below 0 the first rounds up to the period
    if not len(shown) or shown.min() == shown.max():
        raise InvalidValueError("all stimuli are the same; at least two are needed to tell any apart")
    if bins == "values":
        knots, place = np.unique(shown, return_inverse=True)
        return _Axis(knots, np.eye(len(knots)), np.bincount(place) / len(place), place, np.eye(len(knots)))
    if not isinstance(bins, int) or isinstance(bins, bool) or bins < 2:
        raise InvalidValueError(f"bins is {bins!r}; expected a whole number from 2 on, or 'values'")
    low, high = (0.0, period) if period is not None else span or (float(shown.min()), float(shown.max()))
    if not low <= shown.min() <= shown.max() <= high:
        raise InvalidValueError(f"stimuli reach beyond the span from {low:g} to {high:g}")
    ends = np.linspace(low, high, bins + 1)
    size = bins * CELLS
    cell = np.clip(((shown - low) * (size / (high - low))).astype(int), 0, size - 1)
    used, place = np.unique(cell, return_inverse=True)
    unit, bent = np.eye(bins + 1), np.diff(np.eye(bins + 1), n=2, axis=0)
    if period is not None:  # the last end is the first knot
        unit = np.concatenate([np.eye(bins), np.eye(bins)[:1]])
        bent = np.roll(np.eye(bins), -1, 0) - 2 * np.eye(bins) + np.roll(np.eye(bins), 1, 0)
    centre = low + (used + 0.5) * ((high - low) / size)
    basis = np.stack([np.interp(centre, ends, column) for column in unit.T], 1)
    rough = bent.T @ bent + RIDGE * np.eye(len(unit.T))
    return _Axis(ends[: unit.shape[1]], basis, np.bincount(place) / len(place), place, rough)


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


def _levels(x: np.ndarray, weights: np.ndarray, axis: _Axis) -> np.ndarray:
    """Log p(cell | r) of each trial, (T, G)."""
    level = (x @ weights.T) @ axis.basis.T + np.log(axis.share)
    level -= level.max(1, keepdims=True)
    return level - np.log(np.exp(level).sum(1, keepdims=True))


def _fitted(
    x: np.ndarray,
    place: np.ndarray,
    axis: _Axis,
    penalty: float,
    start: np.ndarray | None = None,
    tolerance: float = 1e-3,
) -> np.ndarray:
    """Weights of the neurons and, last, of the constant, at each knot, (K, N + 1)."""
    begin = np.zeros((len(axis.knots), x.shape[1])) if start is None else start
    left, right, scale = _scaling(x, begin, axis, penalty)
    seen = axis.basis[place].T @ x

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = begin + left @ (flat.reshape(begin.shape) * scale) @ right.T
        log_mass = _levels(x, weights, axis)
        bend = penalty * (axis.rough @ weights)
        value = 0.5 * (bend * weights).sum() - log_mass[np.arange(len(x)), place].sum()
        slope = (np.exp(log_mass) @ axis.basis).T @ x - seen + bend
        return value, ((left.T @ slope @ right) * scale).ravel()

    options = {"maxiter": 500, "maxcor": 20, "gtol": tolerance, "ftol": 1e-12}
    flat = optimize.minimize(loss, np.zeros(begin.size), jac=True, method="L-BFGS-B", options=options).x
    return begin + left @ (flat.reshape(begin.shape) * scale) @ right.T


def _scaling(
    x: np.ndarray, weights: np.ndarray, axis: _Axis, penalty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates in which the second derivative is about 1: weights = left (scale ∘ z) rightᵀ.

    At the start it is about λ Q ⊗ 1 + C ⊗ XᵀX, with C the trials' mean covariance of the basis: both terms are diagonal in the
    eigenvectors of XᵀX and in those of C relative to Q.
    """
    mass = np.exp(_levels(x, weights, axis))
    means = mass @ axis.basis
    cov = axis.basis.T @ (mass.mean(0)[:, None] * axis.basis) - means.T @ means / len(x)
    size, right = np.linalg.eigh(x.T @ x)
    root = np.linalg.inv(np.linalg.cholesky(axis.rough))
    level, turned = np.linalg.eigh(root @ cov @ root.T)
    scale = (penalty + level.clip(0)[:, None] * size.clip(0)) ** -0.5
    return root.T @ turned, right, scale


def _scores(x: np.ndarray, axis: _Axis, penalties: Sequence[float], seed: int) -> dict[float, float]:
    """Held-out mean log probability of each penalty."""
    fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    found = dict.fromkeys(penalties, 0.0)
    for part in range(FOLDS):
        train, test = fold != part, fold == part
        if not test.any():  # of two trials
            continue
        weights = None
        for one in sorted(penalties, reverse=True):
            weights = _fitted(x[train], axis.place[train], axis, one, weights, ROUGHLY)
            own = _levels(x[test], weights, axis)[np.arange(int(test.sum())), axis.place[test]]
            found[one] += float(own.mean()) / FOLDS
    return found
