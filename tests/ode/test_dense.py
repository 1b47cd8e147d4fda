"""Dense output: each method's own interpolant, of its own order, between the steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.ode import METHODS, ConstantStepSize, ExplicitRungeKutta, solve
from fingerpost.ode._field import Field
from fingerpost.ode._space import StateSpace

F64 = torch.float64
EXPLICIT = sorted(name for name, method in METHODS.items() if issubclass(method, ExplicitRungeKutta))
ADAPTIVE = sorted(name for name in EXPLICIT if METHODS[name]().adaptive)


def swing(t: Tensor, y: Tensor) -> Tensor:
    """y' = y cos t, y = exp(sin t)."""
    return y * torch.cos(t)


def swing_at(times: Tensor) -> Tensor:
    return torch.exp(torch.sin(times))[:, None]


ONE = torch.ones(1, dtype=F64)


@pytest.mark.parametrize("name", EXPLICIT)
def test_the_interpolant_has_its_order_inside_one_step(name: str) -> None:
    method, field = METHODS[name](), Field(swing, StateSpace(ONE))
    theta = [0.2, 0.45, 0.7, 0.9]
    lengths = (0.4, 0.2) if method.dense_order > 5 else (0.1, 0.05)
    errors = []
    for h in lengths:
        with torch.no_grad():
            step = method.step(field, 0.3, swing_at(torch.tensor([0.3], dtype=F64))[0], h, None, None)
            ys = method.interpolate(field, step, theta)
        errors.append(float((ys - swing_at(0.3 + h * torch.tensor(theta, dtype=F64))).abs().max()))
    slope = math.log2(errors[0] / errors[1])  # one step: the local error, of one order more
    assert method.dense_order + 0.6 < slope < method.dense_order + 2.2


@pytest.mark.parametrize("name", EXPLICIT)
def test_the_interpolant_meets_both_ends_of_the_step(name: str) -> None:
    method, field = METHODS[name](), Field(swing, StateSpace(ONE))
    with torch.no_grad():
        step = method.step(field, 0.3, ONE, 0.25, None, None)
        start, end = method.interpolate(field, step, [0.0, 1.0])
    torch.testing.assert_close(start, ONE, rtol=1e-13, atol=0)
    torch.testing.assert_close(end, step.y1, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", EXPLICIT)
def test_the_tableau_is_consistent(name: str) -> None:
    method = METHODS[name]()
    for node, row in zip(method.c[1:], method.a):
        assert sum(row) == pytest.approx(node, abs=1e-13)
    assert sum(method.b) == pytest.approx(1.0, abs=1e-13)
    for row in method.e:
        assert sum(row) == pytest.approx(0.0, abs=1e-13)
    assert np.sum(np.asarray(method.dense), axis=1)[: len(method.b)] == pytest.approx(
        np.asarray(method.b), abs=1e-11
    )


# dop853's own interpolant is of order 7 beside steps of order 8: at tight tolerances it is what limits
@pytest.mark.parametrize(("name", "factor"), [("bosh3", 10), ("dopri5", 15), ("tsit5", 15), ("dop853", 80)])
@pytest.mark.parametrize("tolerance", [1e-5, 1e-8, 1e-11])
def test_between_the_steps_the_error_stays_near_the_tolerance(
    name: str, factor: float, tolerance: float
) -> None:
    if name == "bosh3" and tolerance < 1e-6:
        return
    times = torch.linspace(0, 10, 301, dtype=F64)
    exact = swing_at(times)
    solution = solve(swing, ONE, [0.0, 10.0], method=name, rtol=tolerance, atol=tolerance)
    assert ((solution.at(times) - exact).abs() / (1 + exact)).max() < factor * tolerance
    observed = solve(swing, ONE, times, method=name, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(observed.ys, solution.at(times), rtol=1e-12, atol=1e-12)


def test_dop853_is_that_of_scipy() -> None:
    from scipy.integrate import DOP853

    reference = DOP853(lambda t, y: y * np.cos(t), 0.3, [1.0], 2.0, first_step=0.5, rtol=1e-2, atol=1e-2)
    reference.step()
    dense = reference.dense_output()
    h = reference.t - 0.3
    solution = solve(swing, ONE, [0.3, 0.3 + h], method="dop853", controller=ConstantStepSize())
    times = np.linspace(0.3, 0.3 + h, 9)
    np.testing.assert_allclose(solution.at(times).numpy()[:, 0], dense(times)[0], rtol=1e-13)


@pytest.mark.parametrize("name", ["bosh3", "dopri5", "dop853"])
def test_the_derivative_is_continuous_across_steps(name: str) -> None:
    solution = solve(swing, ONE, [0.0, 5.0], method=name, rtol=1e-4, atol=1e-4)
    joint, eps = solution.steps[2], 1e-6
    left, here, right = solution.at([joint - eps, joint, joint + eps])
    assert float((right - 2 * here + left).abs() / eps) < 1e-4


def test_at_takes_a_time_a_list_or_a_tensor_in_any_order() -> None:
    solution = solve(swing, ONE, [2.0, 0.0])
    single = solution.at(0.5)
    assert single.shape == (1,)
    assert torch.equal(solution.at([1.5, 0.5])[1], single)
    assert torch.equal(solution.at(torch.tensor(0.5)), single)
    assert torch.equal(solution.at(torch.tensor([0.5], dtype=F64))[0], single)
    assert torch.equal(solution.at([0.0, 2.0])[1], ONE)
    assert torch.equal(solution.at(0.0), solution.ys[-1])


def test_at_refuses_times_outside_of_the_steps() -> None:
    solution = solve(swing, ONE, [0.0, 1.0])
    with pytest.raises(InvalidValueError, match=r"1\.01 is outside of the steps, which go from 0\.0 to 1\.0"):
        solution.at(1.01)
    with pytest.raises(InvalidTypeError, match="one time or a sequence"):
        solution.at(torch.zeros(2, 2))
    with pytest.raises(InvalidValueError, match="outside"):
        solution.at(float("nan"))


def test_without_dense_output_no_step_is_kept() -> None:
    solution = solve(swing, ONE, [0.0, 1.0], dense=False)
    with pytest.raises(InvalidValueError, match="dense=True"):
        solution.at(0.5)


@pytest.mark.parametrize("gradient", ["tape", "checkpoint"])
def test_dense_output_after_a_solve_for_gradients_has_the_same_values(gradient: str) -> None:
    y0 = ONE.clone().requires_grad_()
    plain = solve(swing, ONE, [0.0, 3.0], method="dop853")
    taped = solve(swing, y0, [0.0, 3.0], method="dop853", gradient=gradient)
    torch.testing.assert_close(taped.at([0.7, 2.2]), plain.at([0.7, 2.2]), rtol=1e-13, atol=0)
