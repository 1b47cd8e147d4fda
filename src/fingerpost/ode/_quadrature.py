"""Integrals along a solution, solved beside the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fingerpost.ode._solve import solve
from fingerpost.ode._space import StateSpace, Tree
from fingerpost.ode._tolerance import Norm, Tolerance


def solve_with_quadrature(
    both: Callable[[Tensor, Tree], tuple[Tree, Tensor]],
    y0: Tree,
    zero: Tensor,
    times: Tensor,
    *,
    in_norm: bool,
    norm: Norm = "rms",
    **options: Any,
) -> tuple[Tree, Tensor]:
    """Solves ẏ = f(t, y) and q̇ = l(t, y), q(t₀) = 0.

    Args:
      both: (t, y) ↦ (f, l).
      y0: Initial state.
      zero: Zeros of l's shape.
      times: As for `solve`.
      in_norm: Whether the error of q takes part in the choice of steps.
      norm: Of the error of the state, and of q with it if it takes part.
      options: Passed on to `solve`.

    Returns:
      The states and the integrals at the times.
    """

    def augmented(t: Tensor, state: tuple[Tree, Tensor]) -> tuple[Tree, Tensor]:
        return both(t, state[0])

    kind = norm if in_norm else _of_the_state(norm, StateSpace(y0))
    solution = solve(augmented, (y0, zero), times, norm=kind, **options)
    return solution.ys


def _of_the_state(norm: Norm, space: StateSpace) -> Callable[[tuple[Tree, Tensor]], Any]:
    tolerance = Tolerance(1.0, 1.0, norm, space)

    def of_the_state(error: tuple[Tree, Tensor]) -> float:
        with torch.no_grad():
            return tolerance.norm(space.pack(error[0]))

    return of_the_state
