"""What all codes share: activities' law given the stimulus, and decoding on a grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, ShapeError
from fingerpost.population._checks import activities, grid_of, not_negative, number, real
from fingerpost.population.posterior import Posterior
from fingerpost.population.streaming import Moments, stream_moments


class Plan(NamedTuple):
    """log p(r | s) on a grid, up to what doesn't depend on s, as w · h(s) + x b(s).

    Args:
      kernel: h, (S, N).
      offset: b, (S,), or None.
      weigh: Checked counts (..., N) and their gain → w (..., N) in the counts' dtype, and x, () or (..., 1).
    """

    kernel: Tensor
    offset: Tensor | None
    weigh: Callable[[Any, Any], tuple[Tensor, Tensor]]


class AbstractCode:
    """A law p(r | s, g) of the activities r of N neurons, given a stimulus s and a gain g.

    `dimensions` is 0 where stimuli are numbers, else D.
    """

    dimensions: int = 0

    def encode(self, stimuli: Any, gain: Any = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draws activities.

        Args:
          stimuli: (...) or (..., D).
          gain: A number, or one for each trial, (...).
          generator: Draws them; torch's own unless given.

        Returns:
          (..., N).
        """
        raise NotImplementedError

    def log_likelihood(self, counts: Any, grid: Any, gain: Any = 1.0) -> Tensor:
        """Log p(r | s, g) up to what doesn't depend on s.

        Args:
          counts: Activities, (..., N).
          grid: Stimuli, (S,) or (S, D).
          gain: A number, one for each trial (...), or what else the class takes.

        Returns:
          (..., S).

        Raises:
          ShapeError, InvalidValueError: If counts aren't such, the number of neurons differs, or the grid is empty.
        """
        plan = self._plan(grid_of(grid, self.dimensions), gain)
        counts, kernel = alike(real(counts, "counts", "(..., N)"), plan.kernel)
        weights, factor = plan.weigh(counts, gain)
        level = weights @ kernel.T
        return level if plan.offset is None else level + factor.to(level) * plan.offset.to(level)

    def decode(
        self, counts: Any, grid: Any, gain: Any = 1.0, *, prior: Any = None, period: Any = None
    ) -> Posterior:
        """The posterior p(s | r) of each trial on a grid.

        Args:
          counts: Activities, (..., N).
          grid: Stimuli, (S,) or (S, D).
          gain: As in `log_likelihood`.
          prior: log p(s) on the grid, (S,), or a `Posterior`; flat unless given.
          period: Of the stimulus, as in `Posterior`.
        """
        likelihood = Posterior(grid, self.log_likelihood(counts, grid, gain), period=period)
        return likelihood if prior is None else likelihood * as_prior(prior, likelihood)

    def decode_moments(
        self,
        counts: Any,
        grid: Any,
        gain: Any = 1.0,
        *,
        prior: Any = None,
        period: float | None = None,
        dtype: torch.dtype = torch.float32,
        chunk: int = 4096,
    ) -> Moments:
        """Mean and variance of each trial's posterior, a chunk of trials at a time, so that no posterior is kept.

        The same as those of `decode`, up to the rounding of `dtype`. The kernel is brought down to the rank that it has in this
        dtype; kernels of smooth tuning curves have a low one, and take less than the product of counts and kernel.

        Args:
          counts: Activities, (T, N): a tensor or an array, of any real dtype; also one that is mapped from a file.
          grid: Stimuli, ascending, (S,).
          gain: As in `log_likelihood`.
          prior: As in `decode`.
          period: Length of the circle, or None.
          dtype: What is computed in. Log likelihoods of size L have errors of about 1e-7 L in float32.
          chunk: Trials at a time: memory is about 8 (N + S/16) bytes for each, and a few megabytes.

        Returns:
          `Moments` of all trials, float64, (T,) each.

        >>> from fingerpost.population import GaussianTuning, PoissonCode
        >>> code = PoissonCode(GaussianTuning(torch.arange(-20.0, 21.0), 3.0))
        >>> counts = code.encode(torch.zeros(1000), 5.0, torch.Generator().manual_seed(0))
        >>> moments = code.decode_moments(counts, torch.linspace(-10, 10, 201), 5.0)
        >>> bool((moments.mean.var() / moments.variance.mean() - 1).abs() < 0.2)
        True
        """
        if self.dimensions:
            raise ShapeError(
                f"decode_moments takes stimuli that are numbers; the code's have {self.dimensions} dimensions"
            )
        if dtype not in (torch.float32, torch.float64):
            raise InvalidTypeError(f"dtype is {dtype}; expected torch.float32 or torch.float64")
        grid = grid_of(grid, 0).double()
        like = Posterior(grid, torch.zeros_like(grid), period=period)
        if prior is not None:
            like = like * as_prior(prior, like)
        return stream_moments(self._plan(grid, gain), counts, like, gain, dtype, chunk)

    def _plan(self, grid: Tensor, gain: Any) -> Plan:
        """How counts are read on this grid with this kind of gain."""
        raise NotImplementedError


class AbstractFamily(AbstractCode):
    r"""p(r | s, g) = φ(r, g) exp(h(s) · r + g b(s)): a kernel h that doesn't depend on the gain.

    (Ma et al. 2006, “Poisson-like” variability, https://www.nature.com/articles/nn1790, without the factor e^{g b(s)}, which
    for Poisson counts is e^{−g Σ f(s)}: they take tuning curves that tile, for which it is constant. Here it is kept.)
    Counts of independent cues that share h add up to counts of the same family, with the sum of gains.

    A gain of None leaves g b(s) out: that is right if b is flat, and else a prior that favours stimuli at which
    neurons fire much.
    """

    def kernel(self, grid: Any) -> Tensor:
        """H at stimuli (S,) or (S, D): (S, N)."""
        raise NotImplementedError

    def offset(self, grid: Any) -> Tensor | None:
        """B at stimuli, (S,); None if it is 0."""
        raise NotImplementedError

    def _plan(self, grid: Tensor, gain: Any) -> Plan:
        kernel = self.kernel(grid)
        offset, factor = self._offset(grid, gain)

        def weigh(counts: Any, gain: Any) -> tuple[Tensor, Tensor]:
            counts = self._checked(counts, kernel.shape[1])
            return counts, factor(counts, gain)

        return Plan(kernel, offset, weigh)

    def _offset(self, grid: Tensor, gain: Any) -> tuple[Tensor | None, Callable[[Tensor, Any], Tensor]]:
        """What stands beside h · r: a function on the grid, and its factor given counts and gains."""
        if gain is None or (offset := self.offset(grid)) is None:
            return None, lambda counts, gain: counts.new_zeros(())
        return offset, lambda counts, gain: per_trial(gain, counts)

    def _checked(self, counts: Any, neurons: int) -> Tensor:
        return activities(counts, neurons)


def alike(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider dtype."""
    dtype = torch.promote_types(first.dtype, second.dtype)
    return first.to(dtype), second.to(dtype)


def per_trial(gain: Any, counts: Tensor) -> Tensor:
    """A gain, or gains (...) of the trials of counts (..., N), as () or (..., 1)."""
    if isinstance(gain, (int, float)):  # the quick way, once for each chunk of a stream
        return torch.full((), number(gain, "gain", 0), dtype=counts.dtype, device=counts.device)
    found, trials = not_negative(gain, "gain").to(counts), counts.shape[:-1]
    if not found.ndim or found.shape == (*trials, 1):
        return found
    try:
        return found.expand(trials)[..., None]
    except RuntimeError:
        raise ShapeError(
            f"gain has shape {tuple(found.shape)}; expected a number, or one for each trial, {tuple(trials)}"
        ) from None


def as_prior(prior: Any, like: Posterior) -> Posterior:
    """A prior on the grid of a posterior."""
    if isinstance(prior, Posterior):
        return prior
    return Posterior(like.grid, real(prior, "prior", "(S,)"), period=like.period)
