"""The accepted steps of a solve, and the states between them."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as default

import torch
from torch import Tensor

from fingerpost.ode._field import Field
from fingerpost.ode._march import March
from fingerpost.ode._solution import locate
from fingerpost.ode.methods.base import AbstractMethod, Step


@dataclass
class Record:
    """The accepted steps of one solve.

    Attributes:
      method: The method that made them.
      field: f.
      ends: Times of the steps, the start included: one more than there are steps.
      states: State at the start of each step, and at the end of the last.
      firsts: f at the start of each step where the method carries it, else empty.
      steps: The steps themselves with their graphs, or empty where they are to be replayed.
    """

    method: AbstractMethod
    field: Field
    ends: list[float]
    states: list[Tensor]
    firsts: list[Tensor] = default(default_factory=list)
    steps: list[Step] = default(default_factory=list)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def replay(self, i: int, y: Tensor, first: Tensor | None, field: Field, workspace: object = None) -> Step:
        """Step i again, from a state and derivative that have the values of the recorded ones."""
        t = self.ends[i]
        workspace = self.method.workspace(field, y) if workspace is None else workspace
        return self.method.step(field, t, y, self.ends[i + 1] - t, first, workspace)

    def step(self, i: int) -> Step:
        """Step i, as it was kept or replayed."""
        if self.steps:
            return self.steps[i]
        return self.replay(i, self.states[i], self.firsts[i] if self.firsts else None, self.field)

    def at(self, times: list[float]) -> Tensor:
        """States at any times within the steps, shape (M, *S)."""
        rows: list[Tensor | None] = [None] * len(times)
        for i, members in self.by_step(times).items():
            inside = [m for m in members if times[m] not in (self.ends[i], self.ends[i + 1])]
            for m in set(members) - set(inside):
                rows[m] = self.states[i + (times[m] == self.ends[i + 1])]
            if inside:
                step = self.step(i)
                ys = self.method.interpolate(self.field, step, [(times[m] - step.t) / step.h for m in inside])
                for m, y in zip(inside, ys):
                    rows[m] = y
        return torch.stack([row for row in rows if row is not None])

    def by_step(self, times: list[float]) -> dict[int, list[int]]:
        """Which of the times lie in which step."""
        found: dict[int, list[int]] = {}
        for m, time in enumerate(times):
            found.setdefault(min(locate(self.ends, time), max(len(self) - 1, 0)), []).append(m)
        return found


@dataclass(frozen=True)
class Keep:
    """What a march leaves behind.

    Attributes:
      states: Keep the state of each step: needed for replays and dense output.
      firsts: Keep f at the start of each step too.
      steps: Keep the steps with their graphs.
    """

    states: bool = True
    firsts: bool = False
    steps: bool = False


def observe(march: March, keep: Keep) -> tuple[Tensor, Record]:
    """Runs a march and reads the states at its times, none of which costs a step of its own.

    Returns:
      States, shape (T, *S), NaN where the march did not come so far; and the record of the steps.
    """
    times, method = march.times, march.scheme.method
    sign = 1.0 if times[-1] > times[0] else -1.0
    record = Record(method, march.field, march.ends, [march.y])
    pieces, read = [march.y.unsqueeze(0)], 1
    for step in march:
        end = march.ends[-1]
        _keep(record, step, keep)
        stop = _passed(times, read, end, sign)
        inside = stop - (times[stop - 1] == end)
        if inside > read:
            theta = [(time - step.t) / step.h for time in times[read:inside]]
            pieces.append(method.interpolate(march.field, step, theta))
        if stop > inside:
            pieces.append(step.y1.unsqueeze(0))
        read = stop
    ys = torch.cat(pieces)
    if march.status != "success":
        reached = _passed(times, 1, march.ends[-1], sign)
        missing = march.y.new_full((len(times) - reached, *march.y.shape), float("nan"))
        ys = torch.cat([ys[:reached], missing])
    return ys, record


def _passed(times: list[float], start: int, end: float, sign: float) -> int:
    """How many of the times lie not beyond `end`, at least `start`."""
    stop = start
    while stop < len(times) and (times[stop] - end) * sign <= 0:
        stop += 1
    return stop


def _keep(record: Record, step: Step, keep: Keep) -> None:
    if keep.states:
        record.states.append(step.y1)
    if keep.firsts and step.first is not None:
        record.firsts.append(step.first)
    if keep.steps:
        record.steps.append(step)
