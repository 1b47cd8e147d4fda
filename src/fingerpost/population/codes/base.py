"""What all codes share: activities' law given the stimulus, and decoding on a grid."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.errors import ShapeError
from fingerpost.population._checks import activities, grid_of, not_negative, real
from fingerpost.population.posterior import Posterior
from fingerpost.population.streaming import Moments, stream_moments


class Linear(NamedTuple):
    """log p(r | s) on a grid as r · h(s) + c(s) up to what doesn't depend on s.

    Args:
      kernel: h, (S, N).
      offset: c for each trial or for all, broadcast against (..., S): or None for 0.
    """

    kernel: Tensor
    offset: Tensor | None


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
        grid = grid_of(grid, self.dimensions)
        counts, (kernel, offset) = self._read(counts, grid, gain)
        level = counts @ kernel.T
        return level if offset is None else level + offset

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
        chunk: int | None = None,
    ) -> Moments:
        """Mean and variance of each trial's posterior, a chunk of trials at a time: no posterior is kept.

        Args:
          counts: Activities, (T, N), of any real dtype; float32 is decoded in float32, the rest in float64.
          grid: Equidistant stimuli, (S,).
          gain: As in `log_likelihood`.
          prior: As in `decode`.
          period: Length of the circle, or None.
          chunk: Trials at a time; as many as fit a processor's cache unless given.

        Returns:
          `Moments` of all trials, each (T,).
        """
        grid = grid_of(grid, 0)
        like = Posterior(grid, torch.zeros_like(grid), period=period)
        extra = None if prior is None else as_prior(prior, like).log_mass
        return stream_moments(self, counts, like, gain, extra, chunk)

    def _read(self, counts: Any, grid: Tensor, gain: Any) -> tuple[Tensor, Linear]:
        """Checked counts in the kernel's dtype, and how they are read."""
        raise NotImplementedError


class AbstractFamily(AbstractCode):
    r"""p(r | s, g) = φ(r, g) exp(h(s) · r + g b(s)): a kernel h that doesn't depend on the gain.

    (Ma et al. 2006, equation 8, https://www.nature.com/articles/nn1790, without the factor e^{g b(s)}, which for Poisson counts
    is e^{−g Σ f(s)}: they take tuning curves that tile, for which it is constant. Here it is kept.)
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

    def _read(self, counts: Any, grid: Tensor, gain: Any) -> tuple[Tensor, Linear]:
        kernel = self.kernel(grid)
        counts = self._checked(counts, kernel.shape[1])
        dtype = torch.promote_types(counts.dtype, kernel.dtype)
        counts = counts.to(dtype)
        offset = None if gain is None else self._offset(counts, grid, gain)
        return counts, Linear(kernel.to(dtype), None if offset is None else offset.to(dtype))

    def _offset(self, counts: Tensor, grid: Tensor, gain: Any) -> Tensor | None:
        offset = self.offset(grid)
        return None if offset is None else per_trial(gain, counts.shape[:-1], counts) * offset

    def _checked(self, counts: Any, neurons: int) -> Tensor:
        return activities(counts, neurons)


def per_trial(gain: Any, trials: torch.Size | tuple[int, ...], like: Tensor) -> Tensor:
    """A gain, or gains (...) of the trials, as () or (..., 1)."""
    found = not_negative(gain, "gain").to(like)
    if not found.ndim:
        return found
    if found.shape == (*trials, 1):
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
