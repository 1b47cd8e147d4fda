"""Counts of any Fano factor that are of the family: bursts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError
from fingerpost.population._checks import number
from fingerpost.population.codes.base import AbstractFamily
from fingerpost.population.codes.poisson import Factor, PoissonCode, poisson_offset


class FanoCode(AbstractFamily):
    r"""r_i = F n_i with n_i ~ Poisson(g f_i duration / F): mean g f, and variance F times the mean.

    h = log f / F and b = −Σ f duration / F. Read as Poisson, such counts claim F times the precision that they have.
    Activities are multiples of F: spikes that come in bursts of F if it is a whole number.

    Args:
      tuning: Rates, or a function of stimuli that gives them.
      fano: F > 0: variance over mean.
      duration: Of the window.

    >>> from fingerpost.population import GaussianTuning
    >>> code = FanoCode(GaussianTuning([0.0], 1.0), fano=2.0)
    >>> counts = code.encode(torch.zeros(20000), 10.0, torch.Generator().manual_seed(0))
    >>> round(float(counts.mean()), 1), round(float(counts.var() / counts.mean()), 1)
    (10.0, 2.0)
    """

    def __init__(self, tuning: Any, fano: float, duration: float = 1.0) -> None:
        self.fano = number(fano, "fano", 0)
        if not self.fano:
            raise InvalidValueError("fano is 0; expected a number above 0")
        self.poisson = PoissonCode(tuning, duration)
        self.tuning, self.dimensions = self.poisson.tuning, self.poisson.dimensions

    def encode(self, stimuli: Any, gain: Any = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draws activities, (..., N); as in `AbstractCode`."""
        return self.fano * torch.poisson(
            self.poisson.expected(stimuli, gain) / self.fano, generator=generator
        )

    def kernel(self, grid: Any) -> Tensor:
        """Log f / F, (S, N)."""
        return self.poisson.kernel(grid) / self.fano

    def offset(self, grid: Any) -> Tensor:
        """−Σ f duration / F, (S,)."""
        return self.poisson.offset(grid) / self.fano

    def _offset(self, grid: Tensor, gain: Any) -> tuple[Tensor | None, Factor]:
        return poisson_offset(self.offset(grid), gain, self.fano)
