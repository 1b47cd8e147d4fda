"""Activities with Gaussian noise that doesn't grow with the gain: outside the family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted
from fingerpost.population._checks import activities, finite, real
from fingerpost.population.codes.base import AbstractCode, Plan, per_trial
from fingerpost.population.tuning import AbstractTuning, as_tuning


class GaussianNoiseCode(AbstractCode):
    r"""r ~ N(g f(s), Σ) with a fixed covariance.

    log p(r | s, g) = g f(s)ᵀ Σ⁻¹ r − ½ g² f(s)ᵀ Σ⁻¹ f(s) + what doesn't depend on s. The kernel g Σ⁻¹ f grows with the gain:
    cues add up as Σ g_k r_k, not as Σ r_k.

    The gain is a number, or one for each trial: it has to be known. Activities may be negative.

    Args:
      tuning: Mean activities, or a function of stimuli that gives them.
      covariance: Σ: one variance for all, (N,) variances, or (N, N).

    >>> from fingerpost.population import GaussianTuning
    >>> code = GaussianNoiseCode(GaussianTuning(torch.arange(-9.0, 10.0, dtype=torch.float64), 2.0), 0.01)
    >>> grid = torch.linspace(-5, 5, 201, dtype=torch.float64)
    >>> activity = code.encode(torch.tensor([1.5]), 2.0, torch.Generator().manual_seed(0))
    >>> bool((code.decode(activity, grid, 2.0).mean - 1.5).abs() < 0.3)
    True
    """

    def __init__(self, tuning: Any, covariance: Any = 1.0) -> None:
        self.tuning: AbstractTuning = as_tuning(tuning)
        self.dimensions = self.tuning.dimensions
        self.covariance = finite(real(covariance, "covariance"), "covariance")
        if self.covariance.ndim < 2:
            if not bool((self.covariance > 0).all()):
                raise InvalidValueError(
                    f"a variance is {float(self.covariance.min()):g}; expected numbers above 0"
                )
            self._root = self.covariance.sqrt()
            return
        if self.covariance.ndim > 2 or self.covariance.shape[0] != self.covariance.shape[1]:
            raise ShapeError(
                f"covariance has shape {tuple(self.covariance.shape)}; expected a number, (N,) or (N, N)"
            )
        if not torch.allclose(self.covariance, self.covariance.T):
            raise InvalidValueError("covariance isn't symmetric")
        self._root, status = torch.linalg.cholesky_ex(self.covariance)
        if int(status):
            raise InvalidValueError("covariance isn't positive definite")

    def encode(self, stimuli: Any, gain: Any = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draws activities, (..., N); as in `AbstractCode`."""
        mean = self._fitting(self.tuning(stimuli))
        draws = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        root = self._root.to(mean)
        return per_trial(gain, mean) * mean + (root * draws if root.ndim < 2 else draws @ root.T)

    def _plan(self, grid: Tensor, gain: Any) -> Plan:
        if gain is None or isinstance(gain, str):
            raise InvalidTypeError(
                f"gain is {gain!r}; with noise of fixed variance the kernel depends on it: give a number"
            )
        mean = self._fitting(self.tuning(grid))
        whitened = self._solved(mean)

        def weigh(counts: Any, gain: Any) -> tuple[Tensor, Tensor]:
            counts = activities(counts, whitened.shape[1])
            gains = per_trial(gain, counts)
            return gains * counts, gains.square()

        return Plan(whitened, -(mean * whitened).sum(-1) / 2, weigh)

    def _solved(self, mean: Tensor) -> Tensor:
        root = self._root.to(mean)
        return mean / root.square() if root.ndim < 2 else torch.cholesky_solve(mean.T, root).T

    def _fitting(self, mean: Tensor) -> Tensor:
        if self.covariance.ndim and len(self.covariance) != mean.shape[-1]:
            raise ShapeError(
                f"covariance is of {counted(len(self.covariance), 'neuron')}; the tuning has {mean.shape[-1]}"
            )
        return mean
