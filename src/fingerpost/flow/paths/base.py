r"""Probability paths from noise (t = 0) to data (t = 1), and what can be read off them.

A conditional path moves x₀ to x₁ by a flow ψ_t(x₀ | x₁). Its velocity along the way, ψ̇_t(x₀), is the target that a
model regresses on; as a function of the place it is u_t(x | x₁).
"""

from __future__ import annotations

import abc

import numpy as np
import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, did_you_mean
from fingerpost.flow._checks import check_same_batch, check_times, times_like

PREDICTIONS = ("velocity", "score", "noise", "data")


class AbstractPath(abc.ABC):
    """A conditional probability path; x0 is noise at t = 0, x1 is data at t = 1.

    Attributes:
      time_range: The times (t_min, t_max) between which velocities in float32 are within 1e-6 of float64.
    """

    time_range: tuple[float, float] = (0.0, 1.0)

    @abc.abstractmethod
    def pair(
        self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """(x_t, ψ̇_t) of one draw, unchecked: what a training step needs.

        Args:
          x0: Noise, shape (B, ...).
          x1: Data, of x0's shape.
          t: Times that broadcast against x1: (B, 1, …) or (1, 1, …), of any real dtype.
          generator: Source of randomness, for the paths that add noise on the way.
        """

    @abc.abstractmethod
    def velocity(self, x: Tensor, x1: Tensor, t: Tensor | float) -> Tensor:
        """The conditional velocity u_t(x | x₁) at the places x, shape (B, ...)."""

    def sample_and_target(
        self, x0: Tensor, x1: Tensor, t: Tensor | float, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The place x_t = ψ_t(x₀ | x₁) and the velocity ψ̇_t(x₀ | x₁) of one draw.

        Args:
          x0: Noise, shape (B, ...).
          x1: Data, of x0's shape.
          t: Times, shape () or (B,), in `time_range`.
          generator: Source of randomness, for the paths that add noise on the way.

        Returns:
          Two tensors of x1's shape and dtype.

        Raises:
          ShapeError: If the batches, or the times and the batches, do not fit.
          InvalidValueError: If a time is outside `time_range`; `clamp` brings times inside.
        """
        check_same_batch(x0, x1)
        return self.pair(x0, x1, self._times(t, x1), generator)

    def sample(
        self, x0: Tensor, x1: Tensor, t: Tensor | float, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """The place x_t of `sample_and_target`."""
        return self.sample_and_target(x0, x1, t, generator=generator)[0]

    def target(
        self, x0: Tensor, x1: Tensor, t: Tensor | float, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """The velocity ψ̇_t of `sample_and_target`, for the same state of the generator."""
        return self.sample_and_target(x0, x1, t, generator=generator)[1]

    def check_times(self, t: Tensor) -> None:
        """Raises InvalidValueError unless all times are in `time_range`."""
        check_times(t, *self.time_range, type(self).__name__)

    def clamp(self, t: Tensor) -> Tensor:
        """The nearest times inside `time_range`.

        >>> from fingerpost.flow import VariancePreserving
        >>> VariancePreserving(cutoff=0.25).clamp(torch.tensor([0.5, 1.0]))
        tensor([0.5000, 0.7500])
        """
        return torch.clamp(t, *self.time_range)

    def _times(self, t: Tensor | float, x: Tensor) -> Tensor:
        time = times_like(t, x)
        self.check_times(time)
        return time

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if key != "time_range")
        return f"{type(self).__name__}({values})"


class AbstractSchedule(AbstractPath):
    r"""A Gaussian path with schedules that do not depend on the data: x_t = α_t x₁ + σ_t x₀.

    p_t(x | x₁) = N(α_t x₁, σ_t² I) for x₀ ~ N(0, I) (flow matching, https://arxiv.org/abs/2210.02747, eq. 10). With
    derivatives by t marked by a dot, ψ̇_t = α̇_t x₁ + σ̇_t x₀ and, eliminating x₀,

        u_t(x | x₁) = (σ̇_t/σ_t)(x − α_t x₁) + α̇_t x₁     (eq. 15).

    A subclass gives `schedule`. All coefficients are made in float64 whatever the state's dtype.
    """

    @abc.abstractmethod
    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(α, σ, α̇, σ̇) at float64 times, of t's shape."""

    @property
    def prior_std(self) -> float:
        """σ at the path's first time: sampling starts from N(0, prior_std² I)."""
        first = torch.tensor(self.time_range[0], dtype=torch.float64)
        return float(self.schedule(first)[1])

    def pair(
        self, x0: Tensor, x1: Tensor, t: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        alpha, sigma, alpha_dot, sigma_dot = self.schedule(t.double())
        return _affine(alpha, x1, sigma, x0), _affine(alpha_dot, x1, sigma_dot, x0)

    def velocity(self, x: Tensor, x1: Tensor, t: Tensor | float) -> Tensor:
        check_same_batch(x, x1)
        alpha, sigma, alpha_dot, sigma_dot = self.schedule(self._times(t, x1))
        if bool((sigma == 0).any()):
            raise InvalidValueError(
                f"u_t(x | x1) of {self!r} is infinite at t = 1, where σ = 0; stop earlier, or use target(x0, x1, t)"
            )
        rate = sigma_dot / sigma
        # x − α x₁ cancels as σ → 0: the difference is taken in float64, and rounded with the result
        return (rate * x + (alpha_dot - rate * alpha) * x1).to(x.dtype)

    def convert(self, value: Tensor, x: Tensor, t: Tensor | float, source: str, to: str) -> Tensor:
        r"""One prediction from another: velocity, score, noise E[x₀ | x] or data E[x₁ | x].

        The marginal of the path obeys x = α D + σ N, u = α̇ D + σ̇ N and score = −N/σ, with D and N the conditional
        means of data and noise, for x₀ ~ N(0, I) independent of x₁. So each determines the others.

        Args:
          value: The prediction at (t, x), shape (B, ...).
          x: Places, shape (B, ...).
          t: Times, shape () or (B,).
          source: What `value` is: "velocity", "score", "noise" or "data".
          to: What to return, the same words.

        Raises:
          InvalidValueError: If a word is unknown, or the conversion does not exist at that time (at α = 0 noise says
            nothing of data; at σ = 0 data says nothing of noise and the score is infinite).
        """
        for word in (source, to):
            if word not in PREDICTIONS:
                raise InvalidValueError(
                    f"prediction {word!r}; expected one of {PREDICTIONS}{did_you_mean(word, PREDICTIONS)}"
                )
        check_same_batch(value, x)
        if source == to:
            return value
        schedule = self.schedule(self._times(t, x))
        data, noise = self._means(value.double(), x.double(), schedule, source, to)
        _, sigma, alpha_dot, sigma_dot = schedule
        if to == "velocity":
            out = alpha_dot * data + sigma_dot * noise
        elif to == "score":
            out = -noise / self._nonzero(sigma, "σ", source, to)
        else:
            out = noise if to == "noise" else data
        return out.to(x.dtype)

    def _means(
        self, value: Tensor, x: Tensor, schedule: tuple[Tensor, ...], source: str, to: str
    ) -> tuple[Tensor, Tensor]:
        """(E[x₁ | x], E[x₀ | x]); the one that `to` does not need may be skipped where it does not exist."""
        alpha, sigma, alpha_dot, sigma_dot = schedule
        if source == "velocity":
            determinant = self._nonzero(alpha_dot * sigma - alpha * sigma_dot, "α̇σ − ασ̇", source, to)
            return (sigma * value - sigma_dot * x) / determinant, (
                alpha_dot * x - alpha * value
            ) / determinant
        if source == "data":
            noise = (x - alpha * value) / self._nonzero(sigma, "σ", source, to)
            return value, noise
        noise = value if source == "noise" else -sigma * value
        if to in ("noise", "score"):
            return noise, noise
        return (x - sigma * noise) / self._nonzero(alpha, "α", source, to), noise

    def _nonzero(self, value: Tensor, name: str, source: str, to: str) -> Tensor:
        if bool((value == 0).any()):
            raise InvalidValueError(
                f"{name} is 0 at one of the times, where {source} does not determine {to}; "
                "move t away from the end of the path"
            )
        return value


def float32_range(low: float, high: float) -> tuple[float, float]:
    """The least range of float32 numbers around [low, high]: no rounding to float32 leaves it."""
    ends = [np.float32(low), np.float32(high)]
    if float(ends[0]) > low:
        ends[0] = np.nextafter(ends[0], np.float32(-np.inf))
    if float(ends[1]) < high:
        ends[1] = np.nextafter(ends[1], np.float32(np.inf))
    return float(ends[0]), float(ends[1])


def _affine(a: Tensor, x1: Tensor, b: Tensor, x0: Tensor) -> Tensor:
    """A x₁ + b x₀ with coefficients rounded once to the state's dtype."""
    return torch.addcmul(a.to(x1.dtype) * x1, b.to(x0.dtype), x0)
