"""What a solve returns."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.ode._march import Stats
from fingerpost.ode._space import Tree, tree_map


@dataclass
class Solution:
    """States at the times asked for, what they cost, and the way to all times between.

    Attributes:
      ys: States, a nest like y0 with a leading axis of T times.
      t: The times, shape (T,), as given.
      stats: Evaluations and steps.
      steps: Times of the accepted steps, the start included.
      status: "success", or in a partial solution "max_steps", "step_underflow" or "non_finite".
      message: The failure in words, empty on success.
      event: What an event found, if events were given.
    """

    ys: Tree
    t: Tensor
    stats: Stats
    steps: list[float]
    status: str = "success"
    message: str = ""
    event: Any = None
    _dense: Callable[[list[float]], Tree] | None = field(default=None, repr=False)

    def at(self, time: float | Sequence[float] | Tensor) -> Tree:
        """The method's own dense output.

        Args:
          time: One time or several, anywhere within the steps.

        Returns:
          The state at a single time, or states with a leading axis for a sequence of them. They have the
          gradients of the solve, "backsolve" excepted, whose dense output refuses to be differentiated.

        Raises:
          InvalidValueError: If a time lies outside of the steps, or the solve kept none.

        >>> from fingerpost.ode import solve
        >>> solution = solve(lambda t, y: -y, torch.ones(1), [0.0, 2.0])
        >>> solution.at([0.5, 1.0]).squeeze()
        tensor([0.6065, 0.3679])
        """
        if self._dense is None:
            raise InvalidValueError(
                "this solve kept no steps for dense output: pass dense=True, or put the times in t"
            )
        times = torch.as_tensor(time, dtype=torch.float64, device="cpu").detach()
        if times.ndim > 1:
            raise InvalidTypeError(
                f"at() takes one time or a sequence of them, got shape {tuple(times.shape)}"
            )
        low, high = min(self.steps[0], self.steps[-1]), max(self.steps[0], self.steps[-1])
        for value in times.reshape(-1).tolist():
            if not low <= value <= high:
                raise InvalidValueError(
                    f"time {value} is outside of the steps, which go from {low} to {high}"
                )
        ys = self._dense(times.reshape(-1).tolist())
        if times.ndim:
            return ys
        return tree_map(lambda leaf: leaf[0], ys)


def locate(steps: list[float], time: float) -> int:
    """The index of the step that holds `time`; a time between two steps belongs to the earlier one."""
    if steps[0] <= steps[-1]:
        i = bisect_left(steps, time)
    else:
        i = bisect_left([-s for s in steps], -time)
    return max(0, i - 1)
