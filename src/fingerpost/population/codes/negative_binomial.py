"""Counts whose variance grows with the square of their mean: outside the family, since their kernel depends on the gain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.population._checks import counts_of, grid_of, number, real
from fingerpost.population.codes.base import AbstractCode, Plan
from fingerpost.population.codes.poisson import PoissonCode


class NegativeBinomialCode(AbstractCode):
    r"""Independent negative binomial counts of mean μ_i = g f_i(s) duration and variance μ_i + excess μ_i².

    log p(r | s, g) = Σ r_i log(μ_i/(μ_i + k)) − k Σ log(1 + μ_i/k) + what doesn't depend on s, k = 1/excess. The kernel
    log(μ/(μ + k)) depends on the gain: counts of cues with unequal gains don't simply add up. Each neuron's rate is
    a Gamma variable of its own; a gain that all neurons share is `GammaGain`, and harmless.

    The gain is a number, or one for each trial: it has to be known.

    Args:
      tuning: Rates, or a function of stimuli that gives them.
      excess: 1/k > 0: relative variance of each neuron's rate.
      duration: Of the window.

    >>> from fingerpost.population import GaussianTuning
    >>> code = NegativeBinomialCode(GaussianTuning([0.0], 1.0), excess=0.5)
    >>> counts = code.encode(torch.zeros(50000), 4.0, torch.Generator().manual_seed(0))
    >>> round(float(counts.mean()), 1), round(float(counts.var()))
    (4.0, 12)
    """

    def __init__(self, tuning: Any, excess: float, duration: float = 1.0) -> None:
        self.excess = number(excess, "excess", 0)
        if not self.excess:
            raise InvalidValueError(
                "excess is 0; expected a number above 0: counts without excess are a PoissonCode's"
            )
        self.poisson = PoissonCode(tuning, duration)
        self.tuning, self.dimensions = self.poisson.tuning, self.poisson.dimensions

    def encode(self, stimuli: Any, gain: Any = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draws counts, (..., N); as in `AbstractCode`."""
        mean, size = self.poisson.expected(stimuli, gain), 1 / self.excess
        shape = torch.full_like(mean, size)
        unit = torch._standard_gamma(shape, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
        rate = unit * mean / size
        return torch.poisson(rate, generator=generator)

    def log_likelihood(self, counts: Any, grid: Any, gain: Any = 1.0) -> Tensor:
        """Log p(r | s, g) up to what doesn't depend on s, (..., S); as in `AbstractCode`."""
        gains = _known(gain)
        if not gains.ndim:
            return super().log_likelihood(counts, grid, gain)
        grid = grid_of(grid, self.dimensions)
        counts = counts_of(counts, None)
        gains = gains.expand(counts.shape[:-1])
        found = torch.empty(*counts.shape[:-1], len(grid), dtype=torch.float64, device=counts.device)
        for one in gains.unique():  # each gain has a kernel of its own
            chosen = gains == one
            found[chosen] = super().log_likelihood(counts[chosen], grid, one).double()
        return found

    def _plan(self, grid: Tensor, gain: Any) -> Plan:
        gain, size = number(_known(gain), "gain", 0), 1 / self.excess
        mean = gain * self.poisson.duration * self.tuning(grid)
        kernel = self.poisson.kernel(grid) - (mean + size).log()

        def weigh(counts: Any, gain: Any) -> tuple[Tensor, Tensor]:
            counts = counts_of(counts, kernel.shape[1])
            return counts, counts.new_tensor(size)

        return Plan(kernel, -(mean / size).log1p().sum(-1), weigh)


def _known(gain: Any) -> Tensor:
    if gain is None or isinstance(gain, str):
        raise InvalidTypeError(
            f"gain is {gain!r}; the kernel of negative binomial counts depends on it: give a number"
        )
    return real(gain, "gain")
