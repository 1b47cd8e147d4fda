"""Events: where a function of the solution crosses zero, with the gradients of its time and state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from scipy.optimize import brentq
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.ode import _solve
from fingerpost.ode._march import March
from fingerpost.ode._record import Keep, observe
from fingerpost.ode._solution import Solution
from fingerpost.ode._solve import Problem
from fingerpost.ode._space import Tree, tree_map
from fingerpost.ode.methods.base import Step


@dataclass(frozen=True)
class Event:
    """A zero of g(t, y) along a solution.

    A crossing is seen where g has different signs at the two ends of a step; two crossings within one step
    are not. A zero at the start does not count: a ball that leaves the floor has not just hit it.

    Args:
      function: g(t, y), a tensor with one element.
      direction: 1 for crossings from below, −1 from above in the direction of the solve, 0 for both.
      terminal: Whether the solve ends there.

    Raises:
      InvalidValueError: If the direction is none of −1, 0 and 1.
      InvalidTypeError: If the function is not callable.
    """

    function: Callable[[Tensor, Tree], Tensor]
    direction: int = 0
    terminal: bool = True

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InvalidTypeError(f"an event's function is {type(self.function).__name__}; expected g(t, y)")
        if self.direction not in (-1, 0, 1):
            raise InvalidValueError(f"direction is {self.direction}; expected -1, 0 or 1")


@dataclass(frozen=True)
class Crossing:
    """One zero that was found.

    Attributes:
      time: t*, 0-dimensional, in the dtype of the times; with gradient
        dt*/dθ = −(g_θ + g_y · y_θ) / (g_t + g_y · f).
      state: y(t*), a nest like y0, with the gradient of y(t*(θ); θ).
      index: Which of the events it was.
    """

    time: Tensor
    state: Tree
    index: int


@dataclass(frozen=True)
class Happenings:
    """What the events of a solve found.

    Attributes:
      crossings: All of them in the order of the solve; a terminal one can only be the last.
      terminal: The terminal crossing, or None.
    """

    crossings: list[Crossing]
    terminal: Crossing | None

    @property
    def time(self) -> Tensor:
        """Time of the terminal crossing."""
        return self._found().time

    @property
    def state(self) -> Tree:
        """State at the terminal crossing."""
        return self._found().state

    @property
    def index(self) -> int:
        """Which event ended the solve."""
        return self._found().index

    def _found(self) -> Crossing:
        if self.terminal is None:
            raise InvalidValueError(
                "no terminal event happened before the last time: look at event.terminal first"
            )
        return self.terminal


def solve_with_events(
    f: Callable[[Tensor, Tree], Tree], y0: Tree, t: Tensor | Sequence[float], events: Any, **options: Any
) -> Solution:
    r"""`solve` that looks for events: what ``solve(…, events=…)`` calls.

    A first pass without graph finds the crossings: bracketed on the dense output of the step, then landed on
    with steps of the method itself. Where gradients are wanted a second pass solves to each crossing with the
    gradient asked for, and one Newton step with graph, t* = t − g / (g_t + g_y · f), carries the implicit
    function's derivative. With ``gradient="tape"`` second derivatives are right too.

    Args:
      f: As for `solve`.
      y0: As for `solve`.
      t: As for `solve`. States at times after a terminal event are NaN.
      events: An `Event`, a function g(t, y) (a terminal event in both directions), or a sequence of them.
      options: As for `solve`.

    Returns:
      A solution whose `event` is a `Happenings`. With and without gradients the crossings agree to the
      tolerance, not to the last bit: the second pass takes its own last step.

    Raises:
      InvalidTypeError: If an event is neither an `Event` nor callable, or returns no tensor.
      ShapeError: If an event function returns more than one number.
      NumericalError: If the solver fails before a terminal event, as for `solve`.
    """
    chosen = _events(events)
    problem = _solve._problem(f, y0, t, **options)
    with torch.no_grad():
        march = _EventMarch(problem.scheme, problem.field, problem.y0.detach(), problem.times, events=chosen)
        ys, record = observe(march, Keep(states=True))
    first = _solve.finish(problem, march, ys, record.at)
    first.status = "success" if first.status == "event" else first.status
    if torch.is_grad_enabled() and first.status == "success":
        return _with_gradients(f, y0, problem, march, options)
    times = torch.tensor([seen.time for seen in march.seen], dtype=_dtype(problem.t), device=problem.t.device)
    found = [
        Crossing(time, problem.space.unpack(seen.y), seen.index) for time, seen in zip(times, march.seen)
    ]
    first.event = _happenings(found, chosen)
    return first


def _with_gradients(
    f: Callable[[Tensor, Tree], Tree], y0: Tree, problem: Problem, march: _EventMarch, options: dict[str, Any]
) -> Solution:
    """The second pass: an ordinary solve that reads the states at the crossings too."""
    times, seen = problem.times, march.seen
    sign, end = math.copysign(1.0, times[-1] - times[0]), march.ends[-1]
    t = problem.t.to(torch.float64)
    asked = {time: t[m] for m, time in enumerate(times) if (time - end) * sign <= 0}
    kept = len(asked)
    for crossing in seen:
        asked.setdefault(crossing.time, t.new_tensor(crossing.time))
    order = sorted(asked, key=lambda time: time * sign)
    if (
        options.get("first_step") is None
        and problem.scheme.method.adaptive
        and options.get("step_size") is None
    ):
        options = {**options, "first_step": abs(march.ends[1] - march.ends[0])}  # the same steps once more
    solution = _solve.solve(f, y0, torch.stack([asked[time] for time in order]), **options)
    rows = {time: m for m, time in enumerate(order)}
    found = []
    for crossing in seen:
        state = tree_map(lambda leaf, m=rows[crossing.time]: leaf[m], solution.ys)
        time, y = _carried(march, problem, crossing, problem.space.pack(state))
        found.append(Crossing(time.to(_dtype(problem.t)), problem.space.unpack(y), crossing.index))
    chosen = [rows[time] for time in times[:kept]]
    missing = len(times) - kept
    solution.ys = tree_map(lambda leaf: _padded(leaf[chosen], missing), solution.ys)
    solution.t, solution.event = problem.t, _happenings(found, march.events)
    solution.stats.nfe += march.stats.nfe
    return solution


def _padded(leaf: Tensor, missing: int) -> Tensor:
    return torch.cat([leaf, leaf.new_full((missing, *leaf.shape[1:]), math.nan)]) if missing else leaf


def _dtype(t: Tensor) -> torch.dtype:
    return t.dtype if t.is_floating_point() else torch.float64


def _carried(march: _EventMarch, problem: Problem, seen: _Seen, y: Tensor) -> tuple[Tensor, Tensor]:
    """Time and state of a crossing with their graphs, by Newton steps from where they are already."""
    field, function = problem.field, march.events[seen.index].function
    start = torch.tensor(seen.time, dtype=torch.float64, device=y.device)
    shift = torch.zeros_like(start)
    at = field.time(seen.time)
    free = not any(z.requires_grad for z in (y, field(at, y), function(at, problem.space.unpack(y))))
    moved = y
    for _ in range(2 if problem.gradient == "tape" else 1):  # the second one makes second derivatives right
        now = (start + shift).to(problem.space.dtype)
        now, moved = (z if z.requires_grad else z.detach().requires_grad_() for z in (now, moved))
        value = _checked(function(now, problem.space.unpack(moved)))
        by_t, by_y = _partials(value, now, moved)
        rate = by_t + (by_y * field(now, moved)).sum()
        if not abs(float(rate.detach())) > 0:
            raise NumericalError(
                f"event {seen.index} touches zero at t = {seen.time:.9g} without crossing it, so that its time has no "
                "derivative: solve under torch.no_grad(), or choose another event function"
            )
        shift = shift - (value / rate).to(torch.float64)
        small = shift.to(problem.space.dtype)
        middle = y + small / 2 * field(at, y)
        moved = y + small * field((start + shift / 2).to(problem.space.dtype), middle)
    return ((start + shift).detach(), moved.detach()) if free else (start + shift, moved)


def _partials(value: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if not value.requires_grad:
        return torch.zeros_like(t), torch.zeros_like(y)
    found = torch.autograd.grad(value, [t, y], create_graph=True, allow_unused=True)
    by_t, by_y = (torch.zeros_like(z) if g is None else g for g, z in zip(found, (t, y)))
    return by_t, by_y


def _events(events: Any) -> list[Event]:
    listed = list(events) if isinstance(events, (list, tuple)) else [events]
    if not listed:
        raise InvalidValueError("events is empty; expected at least one, or None")
    return [event if isinstance(event, Event) else Event(event) for event in listed]


def _happenings(found: list[Crossing], events: list[Event]) -> Happenings:
    last = found[-1] if found and events[found[-1].index].terminal else None
    return Happenings(found, last)


@dataclass
class _Seen:
    time: float
    y: Tensor
    index: int


@dataclass
class _EventMarch(March):
    """A march that ends at the first terminal event."""

    events: list[Event] = field(default_factory=list)
    seen: list[_Seen] = field(default_factory=list)

    def __iter__(self) -> Iterator[Step]:
        before: list[float] | None = None
        for step in super().__iter__():
            end = self.ends[-1]
            if before is None:
                before = self._start(step)
            after = [self._value(i, end, step.y1) for i in range(len(self.events))]
            for theta, i in self._crossings(step, before, after):
                time, landed = self._land(step, theta, i)
                self.seen.append(_Seen(time, landed.y1.clone(), i))
                if self.events[i].terminal:
                    self.ends[-1] = time
                    self.status = "event"
                    yield landed
                    return
            before = [a if a != 0 else b for a, b in zip(after, before)]
            yield step

    def raise_on_failure(self) -> None:
        if self.status != "event":
            super().raise_on_failure()

    def _value(self, i: int, time: float, y: Tensor) -> float:
        return float(_checked(self.events[i].function(self.field.time(time), self.field.space.unpack(y))))

    def _start(self, step: Step) -> list[float]:
        """The signs with which the functions begin; where one begins on zero, those a little later."""
        now = [self._value(i, step.t, step.y) for i in range(len(self.events))]
        soon = self.scheme.method.interpolate(self.field, step, [1e-3])[0]
        later = [self._value(i, step.t + 1e-3 * step.h, soon) for i in range(len(self.events))]
        return [b if abs(a) <= 1e-6 * abs(b) else a for a, b in zip(now, later)]

    def _crossings(self, step: Step, before: list[float], after: list[float]) -> list[tuple[float, int]]:
        """Fractions of the step, in order, and which event crosses there."""
        found = []
        for i, (a, b, event) in enumerate(zip(before, after, self.events)):
            crosses = b == 0 or a * b < 0  # false where either is not finite
            if not crosses or a == 0:
                continue
            if event.direction and math.copysign(1, -a) != event.direction:
                continue
            found.append((self._bracket(step, i, a, b), i))
        return sorted(found)

    def _bracket(self, step: Step, i: int, a: float, b: float) -> float:
        def value(theta: float) -> float:
            if theta in (0.0, 1.0):
                return b if theta else a
            y = self.scheme.method.interpolate(self.field, step, [theta])[0]
            return self._value(i, step.t + theta * step.h, y)

        return float(brentq(value, 0.0, 1.0, xtol=1e-14, rtol=1e-14)) if b != 0 else 1.0  # pyright: ignore[reportArgumentType]

    def _land(self, step: Step, theta: float, i: int) -> tuple[float, Step]:
        """A step that ends on the crossing, improved by the secant rule: the dense output is less exact than steps."""
        method, end = self.scheme.method, self.ends[-1]
        start, first = step.t, step.first
        if theta == 1.0:
            return end, step
        workspace = method.workspace(self.field, step.y)
        time, earlier = start + theta * step.h, None
        landed = method.step(self.field, start, step.y, time - start, first, workspace)
        for _ in range(4):
            value = self._value(i, time, landed.y1)
            if earlier is None:
                probe = time + 1e-6 * (step.h if theta < 0.5 else -step.h)
                nearby = method.step(
                    self.field, start, step.y, probe - start, first, method.workspace(self.field, step.y)
                )
                earlier = (probe, self._value(i, probe, nearby.y1))
            slope = (value - earlier[1]) / (time - earlier[0]) if time != earlier[0] else 0.0
            move = -value / slope if slope else 0.0
            if not abs(move) <= 0.1 * abs(step.h) or abs(move) <= 4 * math.ulp(max(abs(time), abs(end))):
                break
            earlier, time = (time, value), time + move
            landed = method.step(self.field, start, step.y, time - start, first, workspace)
        return time, landed


def _checked(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise InvalidTypeError(f"an event's function returned {type(value).__name__}; expected a tensor")
    if value.numel() != 1:
        raise ShapeError(f"an event's function returned shape {tuple(value.shape)}; expected one number")
    return value.reshape(())
