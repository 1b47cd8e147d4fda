"""`solve`: one call for every method, controller and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, did_you_mean
from fingerpost.ode._field import Field
from fingerpost.ode._march import March, Scheme
from fingerpost.ode._record import Keep, Record, observe
from fingerpost.ode._solution import Solution
from fingerpost.ode._space import StateSpace, Tree
from fingerpost.ode._tolerance import Norm, Tolerance
from fingerpost.ode.controllers import Controller, as_controller
from fingerpost.ode.methods import METHODS
from fingerpost.ode.methods.base import AbstractMethod

GRADIENTS = ("checkpoint", "tape", "backsolve")


@dataclass
class Problem:
    """A validated call of `solve`."""

    field: Field
    space: StateSpace
    y0: Tensor
    times: list[float]
    t: Tensor
    scheme: Scheme
    gradient: str
    params: list[Tensor]
    dense: bool
    on_failure: str


def solve(
    f: Callable[[Tensor, Tree], Tree],
    y0: Tree,
    t: Tensor | Sequence[float],
    *,
    method: str | AbstractMethod = "dopri5",
    rtol: Any = 1e-5,
    atol: Any = 1e-7,
    controller: str | Controller | None = None,
    gradient: str = "checkpoint",
    params: Sequence[Tensor] | None = None,
    step_size: float | None = None,
    first_step: float | None = None,
    norm: Norm = "rms",
    per_sample: bool = False,
    events: Any = None,
    max_steps: int = 100_000,
    on_failure: str = "raise",
    dense: bool | None = None,
    compile: bool = False,
) -> Solution:
    """Solves dy/dt = f(t, y), y(t[0]) = y0, and differentiates the solution."""
    problem = _problem(
        f,
        y0,
        t,
        method,
        rtol,
        atol,
        controller,
        gradient,
        params,
        step_size,
        first_step,
        norm,
        max_steps,
        on_failure,
        dense,
    )
    march = March(problem.scheme, problem.field, problem.y0, problem.times)
    ys, record = observe(march, Keep(states=problem.dense, steps=problem.dense and torch.is_grad_enabled()))
    return finish(problem, march, ys, record)


def finish(problem: Problem, march: March, ys: Tensor, record: Record) -> Solution:
    """The solution from what a march left behind."""
    if problem.on_failure == "raise":
        march.raise_on_failure()
    space = problem.space

    def dense(times: list[float]) -> Tree:
        return space.unpack(record.at(times), leading=1)

    return Solution(
        space.unpack(ys, leading=1),
        problem.t,
        march.stats,
        record.ends,
        march.status,
        march.message,
        _dense=dense if problem.dense else None,
    )


def _problem(
    f: Callable[[Tensor, Tree], Tree],
    y0: Tree,
    t: Tensor | Sequence[float],
    method: str | AbstractMethod,
    rtol: Any,
    atol: Any,
    controller: str | Controller | None,
    gradient: str,
    params: Sequence[Tensor] | None,
    step_size: float | None,
    first_step: float | None,
    norm: Norm,
    max_steps: int,
    on_failure: str,
    dense: bool | None,
) -> Problem:
    if not callable(f):
        raise InvalidTypeError(f"f must be callable as f(t, y), got {type(f).__name__}")
    space = StateSpace(y0)
    method = as_method(method)
    scheme = Scheme(
        method,
        as_controller(controller, method, step_size),
        Tolerance(rtol, atol, norm, space),
        _positive(first_step, "first_step"),
        _steps(max_steps),
    )
    _choice(gradient, "gradient", GRADIENTS)
    _choice(on_failure, "on_failure", ("raise", "partial"))
    times, t = _times(t, space)
    keeps = gradient != "backsolve" if dense is None else dense
    field = Field(f, space)
    return Problem(
        field,
        space,
        space.pack(y0).contiguous(),
        times,
        t,
        scheme,
        gradient,
        list(params or []),
        keeps,
        on_failure,
    )


def as_method(method: str | AbstractMethod) -> AbstractMethod:
    """The method of a name, or the method itself."""
    if isinstance(method, AbstractMethod):
        return method
    if isinstance(method, type) and issubclass(method, AbstractMethod):
        return method()
    if method not in METHODS:
        hint = did_you_mean(str(method), METHODS)
        raise InvalidValueError(f"method {method!r} is unknown, expected one of {', '.join(METHODS)}{hint}")
    return METHODS[method]()


def _choice(value: str, name: str, choices: Sequence[str]) -> None:
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise InvalidValueError(f"{name} {value!r} is unknown, expected one of {', '.join(choices)}{hint}")


def _positive(value: float | None, name: str) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise InvalidValueError(f"{name} must be above 0 and finite, got {value}")
    return value


def _steps(max_steps: int) -> int:
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise InvalidValueError(f"max_steps must be a whole number of at least 1, got {max_steps!r}")
    return max_steps


def _times(t: Tensor | Sequence[float], space: StateSpace) -> tuple[list[float], Tensor]:
    """The times as host floats, and as a tensor on the state's device."""
    tensor = t if isinstance(t, Tensor) else torch.tensor([float(time) for time in t], dtype=torch.float64)
    if tensor.ndim != 1 or len(tensor) < 2:
        raise ShapeError(f"t must hold at least 2 times in one dimension, got shape {tuple(tensor.shape)}")
    if not (tensor.is_floating_point() or tensor.dtype in (torch.int32, torch.int64)):
        raise InvalidTypeError(f"t must be real numbers, got {tensor.dtype}")
    times = [float(time) for time in tensor.detach().tolist()]
    if not all(math.isfinite(time) for time in times):
        raise InvalidValueError(f"t must be finite, got {next(x for x in times if not math.isfinite(x))}")
    sign = 1.0 if times[-1] > times[0] else -1.0
    for i, (a, b) in enumerate(zip(times, times[1:])):
        if not (b - a) * sign > 0:
            raise InvalidValueError(
                f"t must be strictly increasing or strictly decreasing, but t[{i}] = {a} and t[{i + 1}] = {b}"
            )
    return times, tensor
