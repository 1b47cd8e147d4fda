"""The order of convergence of every method and of its dense output, over halvings of a fixed step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fingerpost.ode import METHODS, solve
from ode.problems import CLOSED, Problem, by_name, separated

# A fitted slope lies above the order less 0.2, for terms of the next order weigh against the leading one on coarse
# steps, and below the order plus 0.6, for they may also help it: 8th order is seen above roundoff on coarse steps
# alone. Points below FLOOR, the roundoff of so many steps, are left out.
BELOW, ABOVE = 0.2, 0.6
FLOOR = 5e-14
COUNTS = {
    1: (128, 256, 512),
    2: (64, 128, 256),
    3: (32, 64, 128),
    4: (32, 64, 128),
    5: (32, 64, 128, 256),
    8: (12, 16, 24, 32),
}
"""Steps to the end, by the method's order: tsit5's leading error is so small that it takes fine steps to see it."""
IMPLICIT = {"kvaerno5": (16, 32, 64)}
PROBLEMS = by_name(CLOSED)
SECOND_ORDER = ("leapfrog", "velocity_verlet")
ENDS = {"driven": 1.5, "pendulum": 4.0}
QUARTERS = np.arange(1, 5) / 4  # several times on steps, since at a single one leading errors may cancel
# many times between steps, since an error depends on where in its step one lies
SHARES = np.arange(1, 60) / 60.5


def run(problem: Problem, method: str, end: float, h: float) -> tuple[Tensor, Tensor]:
    """The states at the quarters after steps of length h, and those between the steps."""
    times, middles = [0.0, *(QUARTERS * end).tolist()], (SHARES * end).tolist()
    with torch.no_grad():
        if method in SECOND_ORDER:
            f, start = separated(problem)
            solution = solve(f, start, times, method=method, step_size=h)
            return torch.cat(solution.ys, -1)[1:], torch.cat(solution.at(middles), -1)
        solution = solve(problem.f, problem.y0, times, method=method, step_size=h)
        return solution.ys[1:], solution.at(middles)  # pyright: ignore[reportReturnType, reportArgumentType]


def slopes(problem: Problem, method: str, end: float) -> tuple[float, float]:
    """Least-squares slopes of log error over log h, of states on steps and of the dense output."""
    truth, between = (problem.truth((shares * end).tolist()) for shares in (QUARTERS, SHARES))
    counts = IMPLICIT[method] if method in IMPLICIT else COUNTS[METHODS[method].order]
    found = []
    for count in counts:
        state, dense = run(problem, method, end, end / count)
        found.append([float((state - truth).norm()), float((dense - between).norm())])
    errors, steps, fits = np.array(found), np.log(end / np.array(counts)), []
    for column in errors.T:
        kept = column > FLOOR
        assert kept.sum() >= 3, f"errors {column} are at the floor"
        fits.append(float(np.polyfit(steps[kept], np.log(column[kept]), 1)[0]))
    return fits[0], fits[1]


CASES = [
    (method, problem)
    for method in METHODS
    for problem in ENDS
    if problem == "pendulum" or method not in SECOND_ORDER
]


@pytest.mark.parametrize(("method", "problem"), CASES)
def test_steps_and_dense_output_have_their_orders(method: str, problem: str) -> None:
    state, dense = slopes(PROBLEMS[problem], method, ENDS[problem])
    order, dense_order = METHODS[method].order, METHODS[method].dense_order
    assert order - BELOW <= state <= order + ABOVE
    between = min(order, dense_order + 1)  # the steps' global error, or the interpolant's local one
    assert between - BELOW <= dense <= between + ABOVE


def test_the_table_covers_every_method() -> None:
    assert {method for method, _ in CASES} == set(METHODS)
