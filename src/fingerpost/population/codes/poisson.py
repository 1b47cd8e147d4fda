"""Independent Poisson counts, with the gain known, unknown, or left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError
from fingerpost.population._checks import counts_of, number
from fingerpost.population.codes.base import AbstractFamily, per_trial
from fingerpost.population.codes.exponential import ExponentialFamilyCode
from fingerpost.population.tuning import AbstractTuning, as_tuning

Factor = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class GammaGain:
    """A prior on each trial's gain: a Gamma variable, integrated out.

    Args:
      mean: Its mean, above 0.
      spread: Its standard deviation over its mean, above 0.
    """

    mean: float = 1.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        for name in ("mean", "spread"):
            if not number(getattr(self, name), name) > 0:
                raise InvalidValueError(
                    f"{name} of the gain is {getattr(self, name)}; expected a number above 0"
                )


class PoissonCode(AbstractFamily):
    r"""Independent counts r_i ~ Poisson(g f_i(s) duration): h_i = log f_i and b = −Σ_i f_i duration.

    log p(r | s, g) = Σ_i r_i log f_i(s) − g Σ_i f_i(s) duration + what doesn't depend on s. How the gain enters:

    - a number, or one for each trial: known;
    - ``"any"``: unknown, with a flat prior on log g integrated out: −R log Σ f with R = Σ r, so that r is read as R draws from
      the shares f_i/Σ f. The largest value over g is the same function;
    - `GammaGain`: a Gamma prior of shape k and mean ḡ integrated out, −(R + k) log(k/ḡ + Σ f duration);
    - None: −g Σ f is left out, as Ma et al. do. All four agree if the curves tile.

    Args:
      tuning: Rates per unit of time, or a function of stimuli that gives them.
      duration: Of the window in which spikes are counted.

    >>> from fingerpost.population import GaussianTuning
    >>> code = PoissonCode(GaussianTuning(torch.arange(-20.0, 21.0, dtype=torch.float64), 3.0))
    >>> counts = code.encode([1.0], gain=20.0, generator=torch.Generator().manual_seed(0))
    >>> posterior = code.decode(counts, torch.linspace(-10, 10, 401, dtype=torch.float64), gain=20.0)
    >>> bool((posterior.mean - 1.0).abs() < 3 * posterior.standard_deviation)
    True
    """

    def __init__(self, tuning: Any, duration: float = 1.0) -> None:
        self.tuning: AbstractTuning = as_tuning(tuning)
        self.duration = number(duration, "duration", 0)
        if not self.duration:
            raise InvalidValueError("duration is 0; expected a time above 0")
        self.dimensions = self.tuning.dimensions

    def encode(self, stimuli: Any, gain: Any = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """Draws counts, (..., N); as in `AbstractCode`."""
        return torch.poisson(self.expected(stimuli, gain), generator=generator)

    def expected(self, stimuli: Any, gain: Any = 1.0) -> Tensor:
        """Mean counts g f duration, (..., N)."""
        rates = self.tuning(stimuli)
        return per_trial(gain, rates) * self.duration * rates

    def kernel(self, grid: Any) -> Tensor:
        """Log f, (S, N)."""
        return self.tuning.log_rates(grid)

    def offset(self, grid: Any) -> Tensor:
        """−Σ f duration, (S,)."""
        return -self.duration * self.tuning(grid).sum(-1)

    @property
    def family(self) -> ExponentialFamilyCode:
        """The same kernel and offset, for activities that are no counts: weighted sums, averages."""
        return ExponentialFamilyCode(self.kernel, self.offset, dimensions=self.dimensions)

    def _checked(self, counts: Any, neurons: int) -> Tensor:
        return counts_of(counts, neurons)

    def _offset(self, grid: Tensor, gain: Any) -> tuple[Tensor | None, Factor]:
        return poisson_offset(self.offset(grid), gain)


def poisson_offset(offset: Tensor, gain: Any, unit: float = 1.0) -> tuple[Tensor | None, Factor]:
    """What Poisson counts, in units of `unit`, have beside h · r, for a gain that is known, integrated out, or left out."""
    if gain is None:
        return None, lambda counts, gain: counts.new_zeros(())
    if isinstance(gain, GammaGain):
        shape = gain.spread**-2
        function = -(shape / gain.mean - offset).log()
        return function, lambda counts, gain: counts.sum(-1, keepdim=True) / unit + shape
    if isinstance(gain, str):
        if gain != "any":
            raise InvalidValueError(f"gain is {gain!r}; expected numbers, 'any', a GammaGain, or None")
        function = -(-offset).clamp_min(torch.finfo(offset.dtype).tiny).log()
        return function, lambda counts, gain: counts.sum(-1, keepdim=True) / unit
    return offset, lambda counts, gain: per_trial(gain, counts)
