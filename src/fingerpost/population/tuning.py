"""Tuning curves: the mean rate of every neuron as a function of the stimulus."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.population._checks import finite, not_negative, positive, real


class AbstractTuning:
    """Rates f_i(s) of N neurons.

    A stimulus is a number, or a point of D dimensions: `dimensions` is 0 or D. Stimuli (...) or (..., D) give rates (..., N).
    """

    dimensions: int = 0

    def __call__(self, stimuli: Tensor) -> Tensor:
        """Rates, (..., N)."""
        raise NotImplementedError

    def log_rates(self, stimuli: Tensor) -> Tensor:
        """Log f, (..., N). A rate of 0 is read as the smallest normal number: so that 0 · log 0 is 0, and a spike ends it."""
        rates = self(stimuli)
        return rates.clamp_min(torch.finfo(rates.dtype).tiny).log()

    def derivative(self, stimuli: Tensor) -> Tensor:
        """∂f/∂s by autograd: (..., N), or (..., N, D) in D dimensions."""
        stimuli = self._checked(stimuli)
        if not self.dimensions:
            return torch.func.jvp(self, (stimuli,), (torch.ones_like(stimuli),))[1]
        parts = []
        for axis in range(self.dimensions):
            tangent = torch.zeros_like(stimuli)
            tangent[..., axis] = 1
            parts.append(torch.func.jvp(self, (stimuli,), (tangent,))[1])
        return torch.stack(parts, -1)

    def _checked(self, stimuli: Any) -> Tensor:
        found = real(stimuli, "stimuli", "(..., D)" if self.dimensions else "(...)")
        if self.dimensions and (not found.ndim or found.shape[-1] != self.dimensions):
            raise ShapeError(f"stimuli have shape {tuple(found.shape)}; expected (..., {self.dimensions})")
        return found


class _Shaped(AbstractTuning):
    """Peak, baseline and preferred stimuli that the closed forms share."""

    def __init__(self, preferred: Any, peak: Any, baseline: Any) -> None:
        self.preferred = finite(real(preferred, "preferred", "(N,) or (N, D)"), "preferred")
        if self.preferred.ndim not in (1, 2) or not self.preferred.numel():
            raise ShapeError(
                f"preferred has shape {tuple(self.preferred.shape)}; expected (N,) or (N, D), N ≥ 1"
            )
        self.dimensions = 0 if self.preferred.ndim == 1 else self.preferred.shape[1]
        self.peak = self._per_neuron(positive(peak, "peak"), "peak")
        self.baseline = self._per_neuron(not_negative(baseline, "baseline"), "baseline")
        self._bare = not bool(self.baseline.any())

    @property
    def neurons(self) -> int:
        """N."""
        return len(self.preferred)

    def _per_neuron(self, value: Tensor, name: str) -> Tensor:
        value = value.to(self.preferred)
        if value.ndim > 1 or (value.ndim == 1 and len(value) != len(self.preferred)):
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)}; expected a number, or ({len(self.preferred)},)"
            )
        return value

    def _per_axis(self, value: Tensor, name: str) -> Tensor:
        if not self.dimensions or value.ndim < 2:
            value = self._per_neuron(value, name)
            return value if not self.dimensions or not value.ndim else value[:, None]
        value = value.to(self.preferred)
        if value.shape != self.preferred.shape and value.shape != (1, self.dimensions):
            raise ShapeError(
                f"{name} has shape {tuple(value.shape)}; expected a number, (N,), (1, D) or {tuple(self.preferred.shape)}"
            )
        return value

    def _offsets(self, stimuli: Any) -> Tensor:
        found = self._checked(stimuli)
        return found.unsqueeze(-2 if self.dimensions else -1) - self.preferred

    def _summed(self, exponent: Tensor) -> Tensor:
        return exponent.sum(-1) if self.dimensions else exponent

    def _exponent(self, stimuli: Any) -> Tensor:
        raise NotImplementedError

    def __call__(self, stimuli: Tensor) -> Tensor:
        """Rates, (..., N)."""
        return self.baseline + self.peak * self._exponent(stimuli).exp()

    def log_rates(self, stimuli: Tensor) -> Tensor:
        """Log f, (..., N); without a baseline it is closed, and right where f itself underflows."""
        exponent = self.peak.log() + self._exponent(stimuli)
        return exponent if self._bare else torch.logaddexp(self.baseline.log(), exponent)


class GaussianTuning(_Shaped):
    r"""Bells on a line or in D dimensions: f_i(s) = baseline + peak · exp(−½ Σ_d (s_d − preferred_id)²/width²).

    (Ma et al. 2006, https://www.nature.com/articles/nn1790, whose figures have such curves.) If preferred stimuli lie evenly
    and closer than about 1.5 widths, Σ_i f_i(s) is flat away from the ends: the curves tile.

    Args:
      preferred: (N,) for stimuli that are numbers, (N, D) for points.
      width: The standard deviation, in the stimulus's unit: a number, (N,), or (1, D) or (N, D).
      peak: Rate above the baseline at the preferred stimulus: a number or (N,).
      baseline: Rate far from it.

    Raises:
      InvalidValueError, ShapeError: If a width or peak isn't above 0, a baseline is below 0, or shapes differ.

    >>> tuning = GaussianTuning([-2.0, -1.0, 0.0, 1.0, 2.0], 1.0, peak=10.0)
    >>> tuning(torch.tensor(0.0)).round(decimals=1).tolist()
    [1.4, 6.1, 10.0, 6.1, 1.4]
    """

    def __init__(self, preferred: Any, width: Any, peak: Any = 1.0, baseline: Any = 0.0) -> None:
        super().__init__(preferred, peak, baseline)
        self.width = self._per_axis(positive(width, "width"), "width")

    def _exponent(self, stimuli: Any) -> Tensor:
        return self._summed(-0.5 * (self._offsets(stimuli) / self.width).square())


class VonMisesTuning(_Shaped):
    r"""Bells on a circle: f_i(s) = baseline + peak · exp(κ (cos(2π(s − preferred_i)/period) − 1)).

    In D dimensions the exponents of the axes add up. Near its peak such a curve is a Gaussian of width
    period/(2π√κ).

    Args:
      preferred: (N,), or (N, D) on a torus.
      concentration: κ > 0: a number, (N,), or (1, D) or (N, D).
      peak: Rate above the baseline at the preferred stimulus.
      baseline: Least rate, nearly.
      period: Length of the circle in the stimulus's unit; 180 for orientations in degrees.

    >>> tuning = VonMisesTuning(torch.arange(0, 180, 45), 2.0, period=180.0)
    >>> bool(torch.allclose(tuning(torch.tensor(10.0)), tuning(torch.tensor(190.0))))
    True
    """

    def __init__(
        self,
        preferred: Any,
        concentration: Any,
        peak: Any = 1.0,
        baseline: Any = 0.0,
        *,
        period: float = 2 * math.pi,
    ) -> None:
        super().__init__(preferred, peak, baseline)
        self.concentration = self._per_axis(positive(concentration, "concentration"), "concentration")
        self.period = float(positive(period, "period"))

    def _exponent(self, stimuli: Any) -> Tensor:
        # cos x − 1 = −2 sin²(x/2): no digits are lost near the peak.
        half = (math.pi / self.period) * self._offsets(stimuli)
        return self._summed(-2 * self.concentration * half.sin().square())


class SigmoidTuning(_Shaped):
    r"""Monotone curves: f_i(s) = baseline + peak / (1 + exp(−slope (s − preferred_i))).

    They never tile: Σ_i f_i(s) grows with s, so that −g Σ f has to be kept.

    Args:
      preferred: Stimulus of half the peak, (N,). In D dimensions (N, D): with `slope` (N, D) the argument is Σ_d slope_d (s_d −
        preferred_d).
      slope: Steepness, of either sign, not 0: a number, (N,), or (1, D) or (N, D).
      peak: Rate above the baseline at the far end.
      baseline: Least rate.

    >>> SigmoidTuning([0.0, 1.0], 2.0)(torch.tensor(0.0)).round(decimals=2).tolist()
    [0.5, 0.12]
    """

    def __init__(self, preferred: Any, slope: Any, peak: Any = 1.0, baseline: Any = 0.0) -> None:
        super().__init__(preferred, peak, baseline)
        self.slope = self._per_axis(finite(real(slope, "slope"), "slope"), "slope")
        if bool((self.slope == 0).any()):
            raise InvalidValueError("slope has a 0; a curve without slope says nothing of the stimulus")

    def _exponent(self, stimuli: Any) -> Tensor:
        return torch.nn.functional.logsigmoid(self._summed(self.slope * self._offsets(stimuli)))


class Tuning(AbstractTuning):
    """Any curves: a function of stimuli (...) or (..., D) that gives rates (..., N), none below 0.

    Args:
      function: The rates. For `derivative` it has to be made of differentiable torch operations.
      dimensions: 0 if stimuli are numbers, else D.

    Raises:
      InvalidValueError: When it gives a rate below 0, or NaN.

    >>> tuning = Tuning(lambda s: torch.stack([s**2, 1 + s], -1))
    >>> tuning(torch.tensor([1.0, 2.0])).tolist(), tuning.derivative(torch.tensor(2.0)).tolist()
    ([[1.0, 2.0], [4.0, 3.0]], [4.0, 1.0])
    """

    def __init__(self, function: Callable[[Tensor], Tensor], dimensions: int = 0) -> None:
        if not callable(function):
            raise InvalidTypeError(f"function is {type(function).__name__}; expected a function of stimuli")
        self.function, self.dimensions = function, dimensions

    def __call__(self, stimuli: Tensor) -> Tensor:
        """Rates, (..., N)."""
        found = self._checked(stimuli)
        rates = self.function(found)
        lead = found.shape[:-1] if self.dimensions else found.shape
        if not isinstance(rates, Tensor) or rates.ndim != len(lead) + 1 or rates.shape[:-1] != lead:
            got = tuple(rates.shape) if isinstance(rates, Tensor) else type(rates).__name__
            raise ShapeError(
                f"the tuning function gives {got} for stimuli {tuple(found.shape)}; expected {(*lead, 'N')}"
            )
        return not_negative(rates, "a rate of the tuning function")


def as_tuning(tuning: Any) -> AbstractTuning:
    """A tuning, made of a function if it is one."""
    return tuning if isinstance(tuning, AbstractTuning) else Tuning(tuning)
