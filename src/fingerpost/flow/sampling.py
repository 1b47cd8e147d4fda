"""Samples of a flow, their paths, and their log densities."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from fingerpost import ode
from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError, did_you_mean
from fingerpost.flow._checks import check_points
from fingerpost.flow.guidance import Guided
from fingerpost.flow.paths import AbstractPath
from fingerpost.ode.divergence import divergence as field_and_divergence
from fingerpost.ode.divergence import draw_probes

Field = Callable[[Tensor, Tensor], Tensor]
States = tuple[Tensor, ...]


@torch.no_grad()
def sample(
    model: Callable[..., Tensor],
    x0: Tensor | int,
    *,
    steps: int | Sequence[float] | None = None,
    method: str | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    condition: Tensor | None = None,
    guidance: float = 1.0,
    null: Any = None,
    log_prob: bool = False,
    base: Distribution | None = None,
    divergence: str = "exact",
    probes: int = 1,
    path: AbstractPath | None = None,
    time_range: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Any:
    r"""Moves noise to data along dx/dt = v(t, x), and its log density with it if asked.

    log p₁(x₁) = log p₀(x₀) − ∫₀¹ tr(∂v/∂x) dt (instantaneous change of variables, Chen et al. 2018,
    https://arxiv.org/abs/1806.07366, theorem 1). No gradients are kept; `fingerpost.ode.CNF` has them.
    The model is called as it is: put a network with dropout in evaluation mode first.

    Args:
      model: A field (t, x) → velocity, or (t, x, condition) → velocity; t is 0-dimensional.
      x0: Noise at the first time, shape (B, ...); or how many to draw, if the model has an `event_shape`.
      steps: Fixed steps: how many of equal length, or all their times, from the first to the last. Without, steps are
        chosen for the tolerances.
      method: A method of `fingerpost.ode`, explicit Runge–Kutta for fixed steps; "euler" with steps, "dopri5" without.
      rtol: Relative tolerance of chosen steps.
      atol: Absolute tolerance of chosen steps.
      condition: Classes, shape () or (B,), or vectors (B, …), given to the model as third argument.
      guidance: Weight w of classifier-free guidance; see `Guided`.
      null: What stands for no condition; the model's own `null` unless given.
      log_prob: Whether to return log p₁(x₁) too.
      base: Distribution of x0, whose log_prob gives (B,); N(0, σ²I) unless given, σ the path's at its first time.
      divergence: How the trace is taken: a method of `fingerpost.ode.divergence`.
      probes: How many of them for "hutchinson".
      path: Gives the time range and σ; CondOT's (0, 1) and 1 unless given.
      time_range: The first and the last time, instead of the path's.
      generator: Source of randomness.

    Returns:
      Samples, shape (B, ...); with `log_prob` a pair of them and log densities, shape (B,).

    Raises:
      InvalidValueError: If steps or times are out of range, or a method does not fit.
      ShapeError: If x0, condition and model do not fit together.
      NumericalError: If a solver fails, or a sample is not finite.

    >>> x0 = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    >>> x1, log_density = sample(lambda t, x: -x, x0, steps=100, method="rk4", log_prob=True)
    >>> print(torch.allclose(x1, x0 * torch.tensor(-1.0).exp()), log_density.shape)
    True torch.Size([4])
    """
    times = _range(path, time_range)
    x = _start(model, x0, path, generator)
    field = _conditioned(model, condition, guidance, null)
    if not log_prob:
        return _finite(_ends(field, x, steps, times, method, rtol, atol))
    density = _base_log_prob(base, path, x)
    both = _with_divergence(field, x, divergence, probes, generator)
    x1, change = _ends(both, (x, torch.zeros_like(density)), steps, times, method, rtol, atol)
    return _finite(x1), density - change


@torch.no_grad()
def log_prob(
    model: Callable[..., Tensor],
    x1: Tensor,
    *,
    steps: int | Sequence[float] | None = None,
    method: str | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    condition: Tensor | None = None,
    guidance: float = 1.0,
    null: Any = None,
    base: Distribution | None = None,
    divergence: str = "exact",
    probes: int = 1,
    path: AbstractPath | None = None,
    time_range: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The log density of data under a flow, natural logarithm, by going back from data to noise.

    log p₁(x₁) = log p₀(x₀) − ∫₀¹ tr(∂v/∂x)(t, x(t)) dt, x(1) = x₁ (Chen et al. 2018, theorem 1).

    Args:
      model: As in `sample`, which also says what the other arguments mean.
      x1: Data, shape (B, ...).
      steps: Fixed steps, or their times; times run from noise to data here too.
      method: As in `sample`.
      rtol: Relative tolerance of chosen steps.
      atol: Absolute tolerance of chosen steps.
      condition: Condition of each row.
      guidance: Weight of the guidance.
      null: What stands for no condition.
      base: Distribution at the first time.
      divergence: "exact" takes as many backward products as a sample has components; "hutchinson" takes `probes`, and is
        an unbiased estimate.
      probes: Probes per sample, drawn once.
      path: Gives the time range and σ.
      time_range: The first and the last time.
      generator: Source of the probes' randomness.

    Returns:
      Log densities, shape (B,).

    >>> x1 = torch.zeros(1, 2)
    >>> print(f"{log_prob(lambda t, x: -x, x1).item():.3f}")  # −log 2π + 2
    0.162
    """
    check_points(x1, "x1")
    low, high = _range(path, time_range)
    field = _conditioned(model, condition, guidance, null)
    both = _with_divergence(field, x1, divergence, probes, generator)
    backwards = steps if steps is None or isinstance(steps, int) else list(steps)[::-1]
    zero = x1.new_zeros(len(x1))
    x0, change = _ends(both, (x1, zero), backwards, (high, low), method, rtol, atol)
    return _base_log_prob(base, path, x0) + change


@torch.no_grad()
def trajectory(
    model: Callable[..., Tensor],
    x0: Tensor | int,
    times: Sequence[float],
    *,
    method: str = "dopri5",
    rtol: float = 1e-4,
    atol: float = 1e-5,
    condition: Tensor | None = None,
    guidance: float = 1.0,
    null: Any = None,
    path: AbstractPath | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Where samples are at the given times; a method without steps of its own choice steps from time to time.

    Args:
      model: As in `sample`, which also says what the other arguments mean.
      x0: Noise at the first of the times, or how many to draw.
      times: At least two increasing times.
      method: A method of `fingerpost.ode`.
      rtol: Relative tolerance of chosen steps.
      atol: Absolute tolerance of chosen steps.
      condition: Condition of each row.
      guidance: Weight of the guidance.
      null: What stands for no condition.
      path: Gives σ of the noise to draw.
      generator: Source of randomness.

    Returns:
      States, shape (T, B, ...), the first of them x0.

    >>> trajectory(lambda t, x: torch.ones_like(x), torch.zeros(1, 1), [0.0, 0.5, 1.0], method="euler").flatten()
    tensor([0.0000, 0.5000, 1.0000])
    """
    x = _start(model, x0, path, generator)
    field = _conditioned(model, condition, guidance, null)
    return ode.solve(field, x, times, method=method, rtol=rtol, atol=atol, dense=False).ys


def _finite(x: Tensor) -> Tensor:
    if not torch.isfinite(x.sum()):
        bad = (~torch.isfinite(x).flatten(1).all(1)).nonzero().flatten().tolist()
        if bad:
            raise NumericalError(
                f"{len(bad)} of {len(x)} samples are not finite, the first in row {bad[0]}: the field runs away; take more "
                "steps, or look at the weights"
            )
    return x


def _range(path: AbstractPath | None, time_range: tuple[float, float] | None) -> tuple[float, float]:
    whole = (0.0, 1.0) if path is None else path.time_range
    low, high = whole if time_range is None else time_range
    if not 0 <= low < high <= 1:
        raise InvalidValueError(
            f"time_range is {(low, high)}; expected 0 ≤ first < last ≤ 1: noise is at 0, data at 1"
        )
    return float(low), float(high)


def _start(
    model: Any, x0: Tensor | int, path: AbstractPath | None, generator: torch.Generator | None
) -> Tensor:
    if isinstance(x0, Tensor):
        check_points(x0, "x0")
        return x0
    shape = getattr(model, "event_shape", None)
    if shape is None:
        raise InvalidTypeError(f"x0 is {x0!r}, and the model has no event_shape; give noise of shape (B, …)")
    if x0 < 1:
        raise InvalidValueError(f"x0 is {x0}; expected at least 1 sample")
    like = (
        next(iter(model.parameters()), torch.zeros(())) if isinstance(model, nn.Module) else torch.zeros(())
    )
    noise = torch.randn(x0, *shape, dtype=like.dtype, device=like.device, generator=generator)
    return noise * getattr(path, "prior_std", 1.0)


def _conditioned(model: Callable[..., Tensor], condition: Any, guidance: float, null: Any) -> Field:
    if condition is None:
        if guidance != 1:
            raise InvalidValueError(
                f"guidance is {guidance:g} and no condition is given; guide towards what?"
            )
        return model
    return Guided(model, torch.as_tensor(condition), guidance, null)


def _with_divergence(
    field: Field, x: Tensor, method: str, probes: int, generator: torch.Generator | None
) -> Callable[[Tensor, States], States]:
    drawn = draw_probes(x, probes, generator=generator) if method == "hutchinson" else None

    def both(t: Tensor, state: States) -> States:
        return field_and_divergence(field, t, state[0], method=method, probes=drawn)

    return both


def _base_log_prob(base: Distribution | None, path: AbstractPath | None, x0: Tensor) -> Tensor:
    if base is None:
        std = getattr(path, "prior_std", 1.0)
        normal = torch.distributions.Normal(x0.new_zeros(()), std, validate_args=False)
        return normal.log_prob(x0).flatten(1).sum(1)
    density = base.log_prob(x0)
    if density.shape != (len(x0),):
        raise ShapeError(
            f"base.log_prob gave shape {tuple(density.shape)}; expected ({len(x0)},): wrap the base in "
            "torch.distributions.Independent, so that one sample is one event"
        )
    return density


def _ends(
    field: Any,
    state: Any,
    steps: int | Sequence[float] | None,
    ends: tuple[float, float],
    method: str | None,
    rtol: float,
    atol: float,
) -> Any:
    """The state at the last time: by fixed steps in a bare loop, or by the solver."""
    if steps is None:
        times = torch.tensor(ends, dtype=torch.float64)
        ys = ode.solve(field, state, times, method=method or "dopri5", rtol=rtol, atol=atol, dense=False).ys
        return tuple(y[-1] for y in ys) if isinstance(state, tuple) else ys[-1]
    grid = _grid(steps, ends)
    if isinstance(state, tuple):
        return _march(field, state, grid, _tableau(method or "euler"))
    return _march(lambda t, y: (field(t, y[0]),), (state,), grid, _tableau(method or "euler"))[0]


def _grid(steps: int | Sequence[float], ends: tuple[float, float]) -> list[float]:
    first, last = ends
    if isinstance(steps, int):
        if steps < 1:
            raise InvalidValueError(f"steps is {steps}; expected at least 1")
        return [first + (last - first) * k / steps for k in range(steps)] + [last]
    grid = [float(time) for time in steps]
    if len(grid) < 2 or (grid[0], grid[-1]) != ends or sorted(set(grid), reverse=first > last) != grid:
        raise InvalidValueError(
            f"steps as times must rise strictly from {min(ends):g} to {max(ends):g}, both included; got {len(grid)} times "
            f"from {min(grid, default=float('nan')):g} to {max(grid, default=float('nan')):g}"
        )
    return grid


def _tableau(method: str) -> type[ode.ExplicitRungeKutta]:
    known = {name: kind for name, kind in ode.METHODS.items() if issubclass(kind, ode.ExplicitRungeKutta)}
    if method not in known:
        raise InvalidValueError(
            f"method {method!r} with fixed steps; expected one of {', '.join(known)}{did_you_mean(method, known)}"
        )
    return known[method]


def _march(
    field: Callable[[Tensor, States], States],
    state: States,
    grid: list[float],
    method: type[ode.ExplicitRungeKutta],
) -> States:
    """Explicit Runge–Kutta steps over the grid, and nothing else: no error, no dense output, no counting."""
    x = state[0]
    ends = list(itertools.pairwise(grid))
    nodes = [start + c * (end - start) for start, end in ends for c in method.c]
    times = iter(torch.tensor(nodes, dtype=x.dtype, device=x.device).unbind())
    for start, end in ends:
        slopes = [field(next(times), state)]
        for row in method.a:
            slopes.append(field(next(times), _moved(state, end - start, row, slopes)))
        state = _moved(state, end - start, method.b, slopes)
    return state


def _moved(state: States, h: float, weights: Sequence[float], slopes: list[States]) -> States:
    for weight, slope in zip(weights, slopes):
        if weight:
            state = tuple(torch.add(y, k, alpha=h * weight) for y, k in zip(state, slope))
    return state
