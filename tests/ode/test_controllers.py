"""Step size control."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fingerpost.errors import InvalidValueError
from fingerpost.ode import ConstantStepSize, PIDController, solve

F64 = torch.float64
CONTROLLERS = ("I", "PI", "PID")


def chirp(t: Tensor, y: Tensor) -> Tensor:
    """y = cos t², faster and faster."""
    return torch.stack([2 * t * y[1], -2 * t * y[0]])


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_every_controller_reaches_the_tolerance(controller: str) -> None:
    y0 = torch.tensor([0.0, 1.0], dtype=F64)
    solution = solve(chirp, y0, [0.0, 4.0], controller=controller, rtol=1e-7, atol=1e-7)
    exact = torch.tensor([math.sin(16.0), math.cos(16.0)], dtype=F64)
    assert (solution.ys[-1] - exact).abs().max() < 5e-6


def test_the_proportional_term_saves_rejections_where_stability_limits_the_steps() -> None:
    def van_der_pol(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], 20 * (1 - y[0] ** 2) * y[1] - y[0]])

    y0 = torch.tensor([2.0, 0.0], dtype=F64)
    rejected = {c: solve(van_der_pol, y0, [0.0, 30.0], controller=c).stats.rejected for c in ("I", "PI")}
    assert rejected["PI"] < 0.6 * rejected["I"]


@given(
    integral=st.floats(0.1, 1),
    proportional=st.floats(0, 0.6),
    derivative=st.floats(0, 0.2),
    safety=st.floats(0.7, 1),
    order=st.integers(2, 8),
)
def test_steady_steps_have_the_error_that_safety_says(
    integral: float, proportional: float, derivative: float, safety: float, order: int
) -> None:
    controller = PIDController(integral, proportional, derivative, safety)
    steady = safety**order
    assert controller.factor(steady, [steady, steady], order) == pytest.approx(1.0)


@given(ratio=st.floats(0, 1), earlier=st.lists(st.floats(0, 1), max_size=2), order=st.integers(2, 8))
def test_factors_stay_between_their_bounds(ratio: float, earlier: list[float], order: int) -> None:
    for controller in (PIDController(), PIDController(0.4, 0.3, 0.1)):
        assert controller.min_factor <= controller.factor(ratio, earlier, order) <= controller.max_factor


@given(ratio=st.floats(1, 1e300), order=st.integers(2, 8))
def test_a_rejected_step_becomes_shorter(ratio: float, order: int) -> None:
    assert 0.2 <= PIDController().rejected(ratio, order) <= 0.9


@pytest.mark.parametrize("ratio", [math.inf, math.nan])
def test_a_step_into_the_undefined_is_shortened_most(ratio: float) -> None:
    assert PIDController().rejected(ratio, 5) == 0.2


def test_the_first_step_is_the_one_given() -> None:
    solution = solve(chirp, torch.ones(2, dtype=F64), [0.0, 1.0], first_step=1e-3)
    assert solution.steps[1] == 1e-3
    backwards = solve(chirp, torch.ones(2, dtype=F64), [1.0, 0.0], first_step=1e-3)
    assert backwards.steps[1] == pytest.approx(1 - 1e-3)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_the_first_step_is_found_at_any_scale_of_time(scale: float) -> None:
    solution = solve(lambda t, y: -y / scale, torch.ones(1, dtype=F64), [0.0, scale])
    assert solution.stats.rejected <= 1
    assert solution.stats.accepted < 20
    assert float(solution.ys[-1]) == pytest.approx(math.exp(-1), rel=1e-4)


BAD = [
    ({"integral": -0.1}, "integral must be at least 0"),
    ({"derivative": math.nan}, "derivative must be at least 0"),
    ({"integral": 0.0, "proportional": 0.0}, "never change"),
    ({"safety": 1.5}, "safety"),
    ({"safety": 0.0}, "safety"),
    ({"min_factor": 1.0}, "min_factor < 1 < max_factor"),
    ({"max_factor": 1.0}, "min_factor < 1 < max_factor"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_gains_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        PIDController(**arguments)


@pytest.mark.parametrize("h", [0.0, -1.0, math.nan, math.inf])
def test_a_constant_step_is_positive(h: float) -> None:
    with pytest.raises(InvalidValueError, match="step_size"):
        ConstantStepSize(h)


def test_tableaux_take_constant_steps_too() -> None:
    solution = solve(
        chirp, torch.ones(2, dtype=F64), [0.0, 1.0], method="dopri5", controller=ConstantStepSize(0.25)
    )
    assert solution.steps == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_the_last_step_stretches_where_its_error_allows_rather_than_leave_a_sliver() -> None:
    def orbit(t: Tensor, y: Tensor) -> Tensor:
        return torch.stack([y[1], -y[0]])

    y0 = torch.tensor([1.0, 0.0], dtype=F64)
    free = solve(orbit, y0, [0.0, 20.0]).steps
    usual = free[6] - free[5]
    stretched = solve(orbit, y0, [0.0, free[6] + 0.05 * usual])
    assert len(stretched.steps) == 7
    assert stretched.steps[6] - stretched.steps[5] == pytest.approx(1.05 * usual)
    assert stretched.stats.rejected == 0
    whole = solve(orbit, y0, [0.0, free[6] + 0.5 * usual])
    assert len(whole.steps) == 8
