"""`solve`: one call for every method, controller and gradient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, did_you_mean
from fingerpost.ode._backsolve import Adjoint, BacksolvedSolve, check_backsolve
from fingerpost.ode._checkpoint import Once, Replay, ReplayedSolve
from fingerpost.ode._compiled import compiled_method
from fingerpost.ode._field import Field, transformed
from fingerpost.ode._march import March, Scheme
from fingerpost.ode._parameters import Watch, WatchedField, declared, inspect
from fingerpost.ode._record import Keep, Record, observe
from fingerpost.ode._solution import Solution
from fingerpost.ode._space import StateSpace, Tree
from fingerpost.ode._tolerance import Norm, Tolerance
from fingerpost.ode.controllers import ConstantStepSize, Controller, as_controller
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
    compile: bool | str = False,
) -> Solution:
    r"""Solves dy/dt = f(t, y), y(t[0]) = y0, and differentiates the solution.

    Adaptive methods accept a step where its error estimate e satisfies ‖e / (atol + rtol max(|y|, |y₁|))‖ ≤ 1
    (Hairer, Nørsett and Wanner, Solving ODEs I, II.4). Steps are chosen by the error alone: the states at t
    come from the method's dense output and cost no evaluation. Time is kept on the host in double precision.

    The three gradients of a loss on the states:

    - ``"checkpoint"``: keeps t, y and f(t, y) of each accepted step and replays the steps in the backward
      pass, one graph at a time. The derivative of the steps taken, their lengths constant; equal to the tape
      to roundoff.
    - ``"tape"``: ordinary autograd through the accepted steps, their lengths constant. The fastest, the
      largest, and the one to differentiate twice.
    - ``"backsolve"``: solves the adjoint equation backwards in constant memory, with its own error control
      (Chen et al. 2018, https://arxiv.org/abs/1806.07366). Its error is of the order of the tolerances, and
      larger where the field contracts. Explicit Runge–Kutta methods alone.

    They reach y0, t (by dL/dt_i = ⟨∂L/∂y_i, f(t_i, y_i)⟩), `params`, the parameters of modules that f is or
    holds, and every leaf tensor that the first evaluation of f reaches. Any other tensor that requires grad
    raises: while the first evaluation is looked at, or later in the backward pass. A tensor that does not
    influence the result gets None, as everywhere in torch.

    Args:
      f: The field, called as f(t, y) with t 0-dimensional of y's real dtype; returns the derivative, with
        y's structure, shapes and dtypes, in new tensors.
      y0: State at t[0]: a tensor, or a nest of tuples, lists and dicts of them; float32, float64, complex64
        or complex128, one precision and one device.
      t: T ≥ 2 strictly increasing or strictly decreasing times, of any real dtype.
      method: A name in `METHODS`, or a method. ``"dopri5"`` and ``"tsit5"`` for most fields, ``"dop853"``
        for tight tolerances, ``"kvaerno5"`` for stiff ones, ``"leapfrog"`` for molecular dynamics.
      rtol: Relative tolerance: a number, a tensor that broadcasts to y, or a nest of tensors like y. Below
        the resolution of the dtype (1e-7 in float32) steps become many and gain nothing.
      atol: Absolute tolerance, likewise.
      controller: ``"I"``, ``"PI"``, ``"PID"``, a `PIDController`, or a `ConstantStepSize`. None means PI for
        methods with an error estimate, else fixed steps.
      gradient: See above.
      params: Tensors beyond those found; needed where f uses a tensor that was computed outside of it.
      step_size: Length of fixed steps. Without it fixed steps go from each time in t to the next.
      first_step: Length of the first adaptive step; None estimates it by one evaluation more.
      norm: Of the error: ``"rms"`` over all components, ``"max"``, ``"per_leaf"`` (the largest RMS among the
        leaves of the state), or a callable from the scaled error, a nest like y, to a number.
      per_sample: Whether each sample, a row of y0, chooses its own steps.
      events: Events to locate, see `fingerpost.ode.events`.
      max_steps: Most steps to attempt.
      on_failure: ``"raise"``, or ``"partial"``: the solution then says by its `status` what happened and
        keeps what was reached; the states beyond are NaN.
      dense: Whether to keep the states of all steps for `Solution.at`; None keeps them unless the gradient
        is ``"backsolve"``.
      compile: Whether each step goes through `torch.compile`, f and its gradient included, or the name of a
        backend for it. The first solves take a minute or so, later ones with the same object f are faster;
        a lambda made anew for each solve is compiled each time, and an f that counts its own calls, at each.

    Returns:
      The solution: its `ys` have y0's structure, each leaf of shape (T, ...).

    Raises:
      InvalidValueError: If an argument is outside its range, or a gradient would be lost.
      InvalidTypeError: If an argument, the state or what f returned has the wrong type or dtype.
      ShapeError: If shapes do not fit.
      NumericalError: If the solve failed and `on_failure` is ``"raise"``; names the time and the step.

    >>> import torch
    >>> rate = torch.tensor(-1.0, requires_grad=True)
    >>> solution = solve(lambda t, y: rate * y, torch.ones(1), [0.0, 0.5, 1.0])
    >>> solution.ys.squeeze()
    tensor([1.0000, 0.6065, 0.3679], grad_fn=<SqueezeBackward0>)
    >>> solution.ys[-1].backward()
    >>> print(f"{rate.grad:.4f}")  # d/dk exp(k) at k = −1
    0.3679
    """
    options: dict[str, Any] = {
        "method": method, "rtol": rtol, "atol": atol, "controller": controller, "gradient": gradient, "params": params,
        "step_size": step_size, "first_step": first_step, "norm": norm, "max_steps": max_steps,
        "on_failure": on_failure, "dense": dense,
    }  # fmt: skip
    if compile is not False and (per_sample or events is not None):
        raise InvalidValueError("compile goes neither with per_sample nor with events: leave it out")
    if per_sample:
        from fingerpost.ode._per_sample import solve_per_sample  # pyright: ignore[reportMissingImports]

        return solve_per_sample(f, y0, t, events=events, **options)
    if events is not None:
        from fingerpost.ode.events import solve_with_events  # pyright: ignore[reportMissingImports]

        return solve_with_events(f, y0, t, events, **options)
    problem = _problem(f, y0, t, **options)
    problem.scheme.method = compiled_method(problem.scheme.method, problem.field, compile, gradient)
    return _dispatch(problem)


def _dispatch(problem: Problem) -> Solution:
    """Runs the march in the way that the gradients need."""
    fixed, graph = isinstance(problem.scheme.controller, ConstantStepSize), torch.is_grad_enabled()
    if transformed() and not (fixed and (problem.gradient == "tape" or not graph)):
        raise InvalidValueError(
            "torch.func transforms go through gradient='tape' with a fixed step_size alone: "
            f"got gradient={problem.gradient!r} and {'fixed' if fixed else 'adaptive'} steps"
        )
    if not graph:
        return _plain(problem, None)
    if problem.gradient == "tape":
        return _tape(problem)
    known = declared(problem.field.f, problem.params)
    first, leaves = inspect(problem.field, problem.times[0], problem.y0, known)
    params = [*known, *leaves]
    if not (params or problem.y0.requires_grad or problem.t.requires_grad):
        return _plain(problem, first)
    return (_replayed if problem.gradient == "checkpoint" else _backsolved)(problem, first, params)


def _plain(problem: Problem, first: Tensor | None) -> Solution:
    """No gradients."""
    with torch.no_grad():
        march = March(problem.scheme, problem.field, problem.y0.detach(), problem.times, first=first)
        ys, record = observe(march, Keep(states=problem.dense))
    return finish(problem, march, ys, record.at)


def _tape(problem: Problem) -> Solution:
    """Ordinary autograd through the accepted steps, their lengths constant."""
    field, times, t = problem.field, problem.times, problem.t
    y0 = problem.y0
    if t.requires_grad:
        moving = t.to(y0)
        y0 = _shifted(field, moving[0], y0, -moving[0])
    march = March(problem.scheme, field, y0, times)
    ys, record = observe(march, Keep(states=problem.dense, steps=problem.dense))
    if t.requires_grad:
        pairs = enumerate(zip(times, ys))
        moved = [_shifted(field, field.time(time), y, moving[m]) for m, (time, y) in pairs if m]
        ys = torch.stack([problem.y0, *moved])
    return finish(problem, march, ys, record.at)


def _shifted(field: Field, time: Tensor, y: Tensor, shift: Tensor) -> Tensor:
    """y, moved along the field from `time` by a step of the midpoint rule that has the length zero.

    Its value is y's; its first and second derivatives with respect to y and the time are those of the flow.
    """
    shift = shift - shift.detach()
    middle = y + 0.5 * shift * field(time, y)
    return y + shift * field(time + 0.5 * shift, middle)


def _replayed(problem: Problem, first: Tensor, params: list[Tensor]) -> Solution:
    """Gradient "checkpoint"."""
    field, times, t = problem.field, problem.times, problem.t
    march = March(problem.scheme, field, problem.y0.detach(), times, first=first)
    watched = WatchedField(field, Watch(params))
    moving = t if t.requires_grad else None
    kept: list[Record] = []

    def run() -> tuple[Tensor, Replay]:
        ys, record = observe(march, Keep(firsts=problem.scheme.method.carries_derivative))
        kept.append(record)
        return ys, Replay(record, times, march.stats, watched, params, moving)

    def at(asked: list[float]) -> Tensor:
        def read() -> tuple[Tensor, Replay]:
            return record.at(asked), Replay(record, asked, march.stats, watched, params, moving, read=True)

        return ReplayedSolve.apply(read, problem.y0, moving, *params)  # pyright: ignore[reportReturnType]

    ys = ReplayedSolve.apply(run, problem.y0, moving, *params)
    record = kept[0]
    return finish(problem, march, ys, at)  # pyright: ignore[reportArgumentType]


def _backsolved(problem: Problem, first: Tensor, params: list[Tensor]) -> Solution:
    """Gradient "backsolve"."""
    check_backsolve(problem.scheme)
    field, times, t = problem.field, problem.times, problem.t
    march = March(problem.scheme, field, problem.y0.detach(), times, first=first)
    watched = WatchedField(field, Watch(params))
    moving = t if t.requires_grad else None
    kept: list[Record] = []

    def run() -> tuple[Tensor, Adjoint]:
        ys, record = observe(march, Keep(states=problem.dense))
        kept.append(record)
        sign = 1.0 if times[-1] > times[0] else -1.0
        reached = [time for time in times if (time - march.ends[-1]) * sign <= 0]
        return ys, Adjoint(problem.scheme, watched, reached, march.stats, params, moving)

    def at(asked: list[float]) -> Tensor:
        return Once.apply(kept[0].at(asked), problem.y0, *params)  # pyright: ignore[reportReturnType]

    ys = BacksolvedSolve.apply(run, problem.y0, moving, *params)
    return finish(problem, march, ys, at)  # pyright: ignore[reportArgumentType]


def finish(problem: Problem, march: March, ys: Tensor, at: Callable[[list[float]], Tensor]) -> Solution:
    """The solution from what a march left behind."""
    if problem.on_failure == "raise":
        march.raise_on_failure()
    space = problem.space

    def dense(times: list[float]) -> Tree:
        return space.unpack(at(times), leading=1)

    return Solution(
        space.unpack(ys, leading=1),
        problem.t,
        march.stats,
        march.ends,
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
    for i, (a, b) in enumerate(itertools.pairwise(times)):
        if not (b - a) * sign > 0:
            raise InvalidValueError(
                f"t must be strictly increasing or strictly decreasing, but t[{i}] = {a} and t[{i + 1}] = {b}"
            )
    return times, tensor
