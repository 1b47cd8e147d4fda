"""Gradient "checkpoint": the states of the accepted steps are kept, and the backward pass replays the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError
from fingerpost.ode._field import Field
from fingerpost.ode._march import Stats
from fingerpost.ode._record import Record
from fingerpost.ode.methods.base import Step


@dataclass
class Replay:
    """What a backward pass needs.

    Attributes:
      record: The steps.
      times: Where the states were read.
      stats: Where the evaluations are counted.
      field: f as the replays call it.
      params: Tensors that f holds and that get gradients.
      t: The times of the solve if they require grad, else None.
      read: Whether the states were read at other times than t, so that of t the start alone matters.
    """

    record: Record
    times: list[float]
    stats: Stats
    field: Field
    params: list[Tensor]
    t: Tensor | None = None
    read: bool = False


class ReplayedSolve(torch.autograd.Function):
    """States at times, from y0, t and the parameters; `run` computes them without graph."""

    @staticmethod
    def forward(
        ctx: Any, run: Callable[[], tuple[Tensor, Replay]], y0: Tensor, t: Tensor | None, *params: Tensor
    ) -> Tensor:
        ys, ctx.replay = run()
        ctx.save_for_backward(y0, *params)  # so that a parameter that changes before the backward pass raises
        return ys

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        inputs = ctx.saved_tensors
        with torch.no_grad():
            found = differentiate(ctx.replay, gradients[0])
        if torch.is_grad_enabled():
            found = [None if g is None else Once.apply(g, *inputs) for g in found]
        return None, *found


class Once(torch.autograd.Function):
    """A gradient that refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *inputs: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise InvalidValueError(
            "this gradient of an ODE solve cannot be differentiated again: use gradient='tape' for second derivatives"
        )


def differentiate(replay: Replay, gradient: Tensor) -> list[Tensor | None]:
    """Cotangents of y0, t and the parameters from those of the states, (T, *S)."""
    record, ends = replay.record, replay.record.ends
    inside, at_end = _placed(record, replay.times)
    grads = Accumulator(len(replay.params))
    workspace = None
    state = torch.zeros_like(record.states[0])
    carried: Tensor | None = None
    for i in reversed(range(len(record))):
        for m in at_end.get(i + 1, ()):
            state = state + gradient[m]
        if workspace is None:
            workspace = record.method.workspace(replay.field, record.states[i])
        members = inside.get(i, [])
        theta = [(replay.times[m] - ends[i]) / (ends[i + 1] - ends[i]) for m in members]
        cotangents = (state, carried, _rows(gradient, members) if members else None)
        state, carried = _reverse(replay, i, theta, cotangents, grads, workspace)
    if carried is not None:
        state = state + _start(replay, carried, grads)
    t = time_gradient(replay, gradient, state)
    for m in at_end.get(0, ()):
        state = state + gradient[m]
    return [state, t, *grads.sums]


def _rows(gradient: Tensor, members: list[int]) -> Tensor:
    first, last = members[0], members[-1]
    return gradient[first : last + 1] if last - first == len(members) - 1 else gradient[members]


def _placed(record: Record, times: list[float]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Which observations lie inside which step, and which at which step's boundary."""
    inside: dict[int, list[int]] = {}
    at_end: dict[int, list[int]] = {}
    low, high = sorted((record.ends[0], record.ends[-1]))
    reached = [m for m, time in enumerate(times) if low <= time <= high]
    for i, members in record.by_step([times[m] for m in reached]).items():
        for m in (reached[j] for j in members):
            if times[m] == record.ends[i]:
                at_end.setdefault(i, []).append(m)
            elif i < len(record) and times[m] == record.ends[i + 1]:
                at_end.setdefault(i + 1, []).append(m)
            else:
                inside.setdefault(i, []).append(m)
    return inside, at_end


def _reverse(
    replay: Replay,
    i: int,
    theta: Sequence[float],
    cotangents: tuple[Tensor, Tensor | None, Tensor | None],
    grads: Accumulator,
    workspace: Any,
) -> tuple[Tensor, Tensor | None]:
    """One step backwards: cotangents of its start, state and derivative, from those of its end."""
    record, field, before = replay.record, replay.field, replay.field.nfe
    with torch.enable_grad():
        # nodes below the leaves, so that every stage has one where a look at its graph can stop
        leaves = [record.states[i].detach().requires_grad_()]
        if record.firsts:
            leaves.append(record.firsts[i].detach().requires_grad_())
        y, *first = [leaf.view_as(leaf) for leaf in leaves]
        step = record.replay(i, y, first[0] if first else None, field, workspace)
        outputs = [step.y1, step.last, record.method.interpolate(field, step, theta) if theta else None]
    replay.stats.backward_nfe += field.nfe - before
    if i == len(record) - 1:
        _check_repeats(step, record.states[i + 1])
    pairs = [
        (o, c) for o, c in zip(outputs, cotangents) if o is not None and c is not None and o.requires_grad
    ]
    found = torch.autograd.grad(
        [o for o, _ in pairs], [*leaves, *replay.params], [c for _, c in pairs], allow_unused=True
    )
    grads.add(found[len(leaves) :])
    state = torch.zeros_like(leaves[0]) if found[0] is None else found[0]
    return state, found[1] if first else None


def _check_repeats(step: Step, end: Tensor) -> None:
    """Raises unless a replayed step comes out as it was: looked at once per backward pass."""
    y, y1 = step.y.detach(), step.y1.detach()
    gap, way, size = torch.stack([torch.linalg.vector_norm(x) for x in (y1 - end, end - y, end)]).tolist()
    if gap > 0.01 * way + 1000 * torch.finfo(y.dtype).eps * size:
        raise InvalidValueError(
            f"the step from t = {step.t:.6g} came out differently in the backward pass: f must depend on t and y alone, "
            "without randomness such as dropout in training mode, and must not change between the passes; "
            "gradient='tape' replays nothing"
        )


def _start(replay: Replay, carried: Tensor, grads: Accumulator) -> Tensor:
    """The cotangent of y0 through f(t0, y0), which the first step carried."""
    record, field = replay.record, replay.field
    replay.stats.backward_nfe += 1
    with torch.enable_grad():
        y = record.states[0].detach().requires_grad_()
        k = field(field.time(record.ends[0]), y.view_as(y))
    if not k.requires_grad:
        return torch.zeros_like(y)
    found = torch.autograd.grad(k, [y, *replay.params], carried, allow_unused=True)
    grads.add(found[1:])
    return torch.zeros_like(y) if found[0] is None else found[0]


class Accumulator:
    """Sums of gradients; None where nothing was found.

    Args:
      count: How many sums.
    """

    def __init__(self, count: int) -> None:
        self.sums: list[Tensor | None] = [None] * count
        self._owned = [False] * count

    def add(self, found: Sequence[Tensor | None]) -> None:
        """Adds what one backward pass found."""
        for j, g in enumerate(found):
            total = self.sums[j]
            if g is None:
                continue
            if total is None:
                self.sums[j] = g  # may be shared with another input: not to be written to
            elif self._owned[j]:
                total.add_(g)
            else:
                self.sums[j], self._owned[j] = total + g, True


def time_gradient(replay: Replay, gradient: Tensor, start: Tensor) -> Tensor | None:
    """dL/dt_i = ⟨∂L/∂y_i, f(t_i, y_i)⟩ and dL/dt_0 = −⟨a(t_0), f(t_0, y_0)⟩, a without the jump at t_0."""
    if replay.t is None:
        return None
    field, times, record = replay.field, replay.times, replay.record
    out = [0.0] * len(replay.t)
    low, high = sorted((record.ends[0], record.ends[-1]))
    for m, time in enumerate(times if not replay.read else ()):
        if m and low <= time <= high:
            out[m] = float((gradient[m] * field(field.time(time), record.at([time])[0])).sum())
            replay.stats.backward_nfe += 1
    out[0] = -float((start * field(field.time(record.ends[0]), record.states[0])).sum())
    replay.stats.backward_nfe += 1
    return torch.tensor(out, dtype=replay.t.dtype, device=replay.t.device)
