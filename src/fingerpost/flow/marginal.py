"""The marginal field of finite data, in closed form: what everything here is audited against."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.flow._checks import check_points, times_like
from fingerpost.flow.paths import AbstractSchedule, CondOT
from fingerpost.flow.times import AbstractTime, Uniform

CHUNK = 1 << 22  # distances held at once: 32 MiB


class Nodes(NamedTuple):
    """Places at which the losses are taken: a draw, or a quadrature.

    Attributes:
      t: Times, shape (M,).
      x: Places x_t, shape (M, ...).
      target: The conditional velocity ψ̇_t there, shape (M, ...).
      weight: Weights of the mean, shape (M,), with sum 1.
    """

    t: Tensor
    x: Tensor
    target: Tensor
    weight: Tensor


class MarginalField:
    r"""The marginal velocity of the path from N(0, I) to the weighted points x1, without a model.

    For finite data q = Σ w_n δ(x₁ⁿ) the marginal is a mixture, p_t(x) = Σ w_n N(x; α x₁ⁿ, σ² I), and eq. 11 of the
    source (Lipman et al. 2022, https://arxiv.org/abs/2210.02747, eq. 8) is a softmax average:

        u_t(x) = Σ_n r_n(x) u_t(x | x₁ⁿ),   r = softmax_n(log w_n − ‖x − α x₁ⁿ‖²/(2σ²)).

    So the density, the score, samples, the flow-matching loss and its gradient are known. All is computed in float64,
    in chunks, and differentiable in x.

    Args:
      x1: Data, shape (N, ...).
      path: A path with schedules; with sigma_min > 0, times up to t = 1 are allowed.
      weights: Probabilities of the points, shape (N,), at least 0; scaled to sum 1. Equal unless given.

    Raises:
      InvalidValueError, ShapeError: If rows of x1 are not finite, or the weights do not fit.
      InvalidTypeError: If the path has no schedule (`GaussianPath`, `Bridge`).

    >>> field = MarginalField(torch.tensor([[-1.0], [1.0]]), CondOT(sigma_min=0.1))
    >>> field(torch.tensor(0.5), torch.tensor([[0.0]]))
    tensor([[0.]])
    """

    def __init__(
        self, x1: Tensor, path: AbstractSchedule | None = None, weights: Tensor | None = None
    ) -> None:
        check_points(x1, "x1")
        path = CondOT(sigma_min=0.01) if path is None else path
        if not isinstance(path, AbstractSchedule):
            raise InvalidTypeError(
                f"path is {path!r}; the marginal has a closed form for paths with a schedule x_t = α_t x1 + σ_t x0"
            )
        self.x1, self.path = x1, path
        self._points = x1.detach().flatten(1).double()
        self._log_weights = _log_weights(weights, x1)

    def __call__(self, t: Tensor | float, x: Tensor, condition: object = None) -> Tensor:
        """`velocity`: a field f(t, x) for the ODE solvers."""
        return self.velocity(t, x)

    def velocity(self, t: Tensor | float, x: Tensor) -> Tensor:
        """u_t(x), shape (B, ...); t of shape () or (B,), x of shape (B, ...).

        Raises:
          InvalidValueError: If a time is outside the path's range, or σ_t is 0 there.
        """
        data = self.data(t, x)
        return self.path.velocity(x, data, t)  # u_t(x | x₁) is affine in x₁, so the mean goes inside

    def data(self, t: Tensor | float, x: Tensor) -> Tensor:
        """E[x₁ | x_t = x], the data prediction; shape (B, ...)."""
        parts = [torch.softmax(logits, 1) @ self._points for logits, _ in self._logits(t, x)]
        return torch.cat(parts).reshape(x.shape).to(x.dtype)

    def score(self, t: Tensor | float, x: Tensor) -> Tensor:
        """∇ log p_t(x), shape (B, ...)."""
        return self.path.convert(self.data(t, x.double()), x.double(), t, "data", "score").to(x.dtype)

    def log_prob(self, t: Tensor | float, x: Tensor) -> Tensor:
        """Log p_t(x), shape (B,); at t = 1 the exact likelihood of the mixture, if σ₁ > 0."""
        d = self._points.shape[1]
        parts = [
            torch.logsumexp(logits, 1) - 0.5 * d * torch.log(2 * math.pi * variance)
            for logits, variance in self._logits(t, x)
        ]
        return torch.cat(parts).to(x.dtype)

    def sample(self, n: int, t: Tensor | float, generator: torch.Generator | None = None) -> Tensor:
        """N exact samples of p_t, shape (n, ...), in x1's dtype.

        >>> MarginalField(torch.eye(2)).sample(5, 0.5, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 2])
        """
        x1 = self._choose(n, generator)
        x0 = torch.randn(x1.shape, dtype=x1.dtype, device=x1.device, generator=generator)
        return self.path.sample(x0, x1, t)

    def draw(
        self, n: int, generator: torch.Generator | None = None, time: AbstractTime | None = None
    ) -> Nodes:
        """N random nodes: t as in training, x₁ from the data, x₀ normal."""
        x1 = self._choose(n, generator)
        x0 = torch.randn(x1.shape, dtype=x1.dtype, device=x1.device, generator=generator)
        t = (time or Uniform()).draw(
            n, self.path.time_range, dtype=x1.dtype, device=x1.device, generator=generator
        )
        x, target = self.path.sample_and_target(x0, x1, t)
        return Nodes(t, x, target, torch.full_like(t, 1 / n))

    def quadrature(
        self, times: int = 16, points: int = 12, time_range: tuple[float, float] | None = None
    ) -> Nodes:
        """Nodes whose weighted sums are the expectations over t, x₁ and x₀, without randomness, in float64.

        Gauss–Legendre in t over the path's range, Gauss–Hermite in each axis of x₀, all points of x₁: N · times ·
        points^d nodes, so for few points in few dimensions.

        Args:
          times: Nodes in t.
          points: Nodes in each axis of x₀.
          time_range: The times that the mean goes over; the path's own unless given.

        Raises:
          ShapeError: If that would be more than ten million nodes.
        """
        n, d = self._points.shape
        if n * times * float(points) ** d > 1e7:
            raise ShapeError(
                f"{n} points × {times} times × {points}^{d} is too many nodes; use draw(n) instead"
            )
        t, t_weight = _legendre(times, *(time_range or self.path.time_range))
        x0, x0_weight = _hermite(points, d)
        index = torch.cartesian_prod(torch.arange(n), torch.arange(times), torch.arange(len(x0)))
        rows, at, node = (i.to(self.x1.device) for i in index.unbind(1))
        t, t_weight, x0, x0_weight = (v.to(self.x1.device) for v in (t, t_weight, x0, x0_weight))
        shape = (-1, *self.x1.shape[1:])
        x, target = self.path.sample_and_target(
            x0[node].reshape(shape), self._points[rows].reshape(shape), t[at]
        )
        return Nodes(t[at], x, target, self._log_weights.exp()[rows] * t_weight[at] * x0_weight[node])

    def fm_loss(
        self,
        model: Callable[..., Tensor],
        nodes: Nodes | None = None,
        *,
        n: int = 4096,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""The flow-matching loss E ‖v_t(x) − u_t(x)‖² itself (eq. 7), which needs the marginal field.

        Args:
          model: (t, x) → velocity.
          nodes: From `draw` or `quadrature`; n random ones unless given.
          n: How many random nodes.
          generator: Source of their randomness.

        Returns:
          The loss, 0-dimensional; differentiable in the model's parameters.
        """
        nodes = nodes or self.draw(n, generator)
        return _weighted(model(nodes.t, nodes.x), self.velocity(nodes.t, nodes.x), nodes)

    def cfm_loss(self, model: Callable[..., Tensor], nodes: Nodes) -> Tensor:
        """The conditional loss E ‖v_t(x) − ψ̇_t‖² (eq. 12) on the same nodes; 0-dimensional."""
        return _weighted(model(nodes.t, nodes.x), nodes.target, nodes)

    def gap(self, nodes: Nodes) -> Tensor:
        """L_CFM − L_FM = E ‖ψ̇_t − u_t(x)‖²: the variance of ψ̇ given (t, x), whatever the model; 0-dimensional."""
        return _weighted(self.velocity(nodes.t, nodes.x), nodes.target, nodes)

    def _choose(self, n: int, generator: torch.Generator | None) -> Tensor:
        weights = self._log_weights.exp()
        return self.x1[torch.multinomial(weights, n, replacement=True, generator=generator)]

    def _logits(self, t: Tensor | float, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Log w_n − ‖x − α x₁ⁿ‖²/(2σ²) of shape (b, N) and σ² of shape (b,), for chunks of rows."""
        if x.shape[1:] != self.x1.shape[1:]:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}; expected (B, {str(tuple(self.x1.shape[1:]))[1:]}"
            )
        time = times_like(t, x)
        self.path.check_times(time)
        alpha, sigma, _, _ = (value.reshape(-1, 1).expand(len(x), 1) for value in self.path.schedule(time))
        if bool((sigma == 0).any()):
            raise InvalidValueError(
                f"σ is 0 at one of the times, where the marginal of {self.path!r} has no density"
            )
        rows = max(1, CHUNK // len(self._points))
        squares = self._points.square().sum(1)
        for part, a, s in zip(x.flatten(1).double().split(rows), alpha.split(rows), sigma.split(rows)):
            distances = part.square().sum(1, keepdim=True) - 2 * a * (part @ self._points.T) + a * a * squares
            yield self._log_weights - distances / (2 * s * s), (s * s)[:, 0]


def _weighted(prediction: Tensor, target: Tensor, nodes: Nodes) -> Tensor:
    if prediction.shape != target.shape:
        raise ShapeError(
            f"the model returned shape {tuple(prediction.shape)}; expected {tuple(target.shape)}"
        )
    return (nodes.weight * (prediction - target).square().flatten(1).sum(1)).sum()


def _log_weights(weights: Tensor | None, x1: Tensor) -> Tensor:
    n = len(x1)
    if weights is None:
        return torch.full((n,), -math.log(n), dtype=torch.float64, device=x1.device)
    if weights.shape != (n,):
        raise ShapeError(f"weights has shape {tuple(weights.shape)}; expected ({n},), one for each row of x1")
    weights = weights.detach().double()
    if not (bool((weights >= 0).all()) and 0 < float(weights.sum()) < math.inf):
        raise InvalidValueError("weights must be at least 0 and finite, and not all 0")
    return torch.log(weights / weights.sum())


def _legendre(n: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return torch.from_numpy(low + (high - low) * (nodes + 1) / 2), torch.from_numpy(weights / 2)


def _hermite(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Nodes (n^d, d) and weights of the expectation under N(0, I)."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(n))
    weights = weights / weights.sum()
    grid = torch.cartesian_prod(*(nodes for _ in range(d))).reshape(-1, d)
    return grid, torch.cartesian_prod(*(weights for _ in range(d))).reshape(-1, d).prod(1)
