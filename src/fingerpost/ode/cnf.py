"""Continuous normalising flows: a density moved along a vector field, as a torch Distribution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, did_you_mean
from fingerpost.ode._quadrature import solve_with_quadrature
from fingerpost.ode._solve import solve
from fingerpost.ode.divergence import DIVERGENCES, Field, draw_probes
from fingerpost.ode.divergence import divergence as field_and_divergence


class CNF(Distribution):
    r"""The distribution at t₁ of samples that start from a base at t₀ and follow ż = f(t, z).

    Along a path the log-density changes by −tr(∂f/∂z) dt (Chen et al. 2018,
    https://arxiv.org/abs/1806.07366, theorem 1), so that, μ the density of the base,

        log p₁(z₁) = log μ(z₀) − ∫_{t₀}^{t₁} tr(∂f/∂z)(t, z(t)) dt.

    Everything can be differentiated: `log_prob` with respect to the value, the field and the base,
    `rsample` likewise where the base has `rsample`.

    Args:
      field: f(t, z) on a batch of samples, shape (B, *event_shape) in and out; it acts on each alone.
      base: Distribution μ at t₀; its event has at least one axis.
      t0: Time of the base.
      t1: Time of the data.
      divergence: How the trace is taken, a method of `divergence`: ``"exact"``, ``"hutchinson"``, ….
      probes: Number of probes for ``"hutchinson"``; they are drawn anew for each solve, and fixed in it.
      generator: Source of the probes' randomness.
      quadrature_in_norm: Whether the error of the log-density takes part in the choice of steps. Left out
        by default: the steps are those of the samples alone.
      validate_args: As in every torch distribution.
      options: Passed on to `solve`: method, rtol, atol, gradient, ….

    Raises:
      InvalidValueError: If the method of divergence is unknown or t₀ = t₁.
      InvalidTypeError: If the base is no torch Distribution.
      ShapeError: If the base's event is a single number.

    >>> base = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(2), 1.0), 1)
    >>> flow = CNF(lambda t, z: -z, base)  # shrinks by e: a normal of standard deviation 1/e
    >>> print(f"{flow.log_prob(torch.zeros(2)):.4f}")  # −log 2π + 2
    0.1621
    >>> flow.sample((5,)).shape
    torch.Size([5, 2])
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012  torch's own name and type

    def __init__(
        self,
        field: Field,
        base: Distribution,
        *,
        t0: float = 0.0,
        t1: float = 1.0,
        divergence: str = "exact",
        probes: int = 1,
        generator: torch.Generator | None = None,
        quadrature_in_norm: bool = False,
        validate_args: bool | None = None,
        **options: Any,
    ) -> None:
        _check(base, t0, t1, divergence, probes)
        self.field, self.base, self.t0, self.t1 = field, base, float(t0), float(t1)
        self.divergence, self.probes, self.generator = divergence, probes, generator
        self.quadrature_in_norm, self.options = quadrature_in_norm, options
        super().__init__(base.batch_shape, base.event_shape, validate_args=validate_args)

    def __repr__(self) -> str:
        return f"CNF(base={self.base}, t0={self.t0:g}, t1={self.t1:g}, divergence={self.divergence!r})"

    @property
    def has_rsample(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether samples carry gradients to the base: as the base says."""
        return self.base.has_rsample

    @property
    def support(self) -> constraints.Constraint:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All of space: a flow is a bijection of it."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> CNF:
        """The same flow of a base expanded to `batch_shape`."""
        new: Any = self._get_checked_instance(CNF, _instance)
        new.__dict__.update({name: value for name, value in self.__dict__.items() if name[0] != "_"})
        new.base = self.base.expand(torch.Size(batch_shape))
        Distribution.__init__(new, new.base.batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density log p₁(value), natural logarithm.

        Args:
          value: Points, shape (*sample_shape, *batch_shape, *event_shape), or one that broadcasts to it.

        Returns:
          Log-densities, shape (*sample_shape, *batch_shape).

        Raises:
          ValueError: If arguments are validated and a value is not finite or has the wrong shape.
          NumericalError: If the solver fails.
        """
        if self._validate_args and value.numel():
            self._validate_sample(value)
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape))
        if not value.numel():  # torch's Independent cannot sum over an empty event
            return value.new_zeros(value.shape[: value.ndim - len(self.event_shape)])
        z0, change = self._transport(value, self.t1, self.t0)
        return self.base.log_prob(z0) + change

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Samples without gradients, shape (*sample_shape, *batch_shape, *event_shape)."""
        with torch.no_grad():
            return self._pushed(self.base.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Samples with gradients to the field and the base, shape as `sample`'s.

        Raises:
          NotImplementedError: If the base has no `rsample`.
        """
        return self._pushed(self.base.rsample(torch.Size(sample_shape)))

    def sample_with_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        """Samples and their log-densities from one solve, with gradients where the base has `rsample`.

        Returns:
          Samples of shape (*sample_shape, *batch_shape, *event_shape) and log p₁ of each.
        """
        shape = torch.Size(sample_shape)
        z0 = self.base.rsample(shape) if self.has_rsample else self.base.sample(shape)
        z1, change = self._transport(z0, self.t0, self.t1)
        return z1, self.base.log_prob(z0) - change

    def _pushed(self, z0: Tensor) -> Tensor:
        rows = self._rows(z0)
        ys = (
            solve(self.field, rows, rows.new_tensor([self.t0, self.t1]), **self.options).ys
            if len(rows)
            else z0[None]
        )
        return ys[-1].view(z0.shape)

    def _transport(self, z: Tensor, start: float, end: float) -> tuple[Tensor, Tensor]:
        """State z moved from start to end, and ∫ tr(∂f/∂z) dt on the way, its sign that of end − start."""
        rows = self._rows(z)
        batch = z.shape[: z.ndim - len(self.event_shape)]
        if not len(rows):
            return z, z.new_zeros(batch)
        probes = (
            draw_probes(rows, self.probes, generator=self.generator)
            if self.divergence == "hutchinson"
            else None
        )

        field, method = (
            self.field,
            self.divergence,
        )  # by themselves, so that the solver finds the field's parameters

        def both(t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return field_and_divergence(field, t, y, method=method, probes=probes)

        ends, totals = solve_with_quadrature(
            both,
            rows,
            rows.new_zeros(len(rows)),
            rows.new_tensor([start, end]),
            in_norm=self.quadrature_in_norm,
            **self.options,
        )
        return ends[-1].view(z.shape), totals[-1].view(batch)

    def _rows(self, z: Tensor) -> Tensor:
        return z.reshape(-1, *self.event_shape) if z.numel() else z.new_zeros(0, *self.event_shape)


def _check(base: Any, t0: float, t1: float, divergence: str, probes: int) -> None:
    if not isinstance(base, Distribution):
        raise InvalidTypeError(f"base is {type(base).__name__}; expected a torch.distributions.Distribution")
    if not base.event_shape:
        raise ShapeError(
            "the base's event is a single number; expected at least one axis: wrap it, "
            "torch.distributions.Independent(base, 1), with a batch of shape (d,)"
        )
    if not (math.isfinite(t0) and math.isfinite(t1) and t0 != t1):
        raise InvalidValueError(f"t0 = {t0} and t1 = {t1}; expected two different finite times")
    if divergence not in DIVERGENCES:
        raise InvalidValueError(
            f"divergence {divergence!r}; expected one of {DIVERGENCES}{did_you_mean(str(divergence), DIVERGENCES)}"
        )
    if probes < 1:
        raise InvalidValueError(f"{probes} probes; expected at least 1")
