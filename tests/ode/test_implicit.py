import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from fingerpost.errors import InvalidValueError, NumericalError, ShapeError
from fingerpost.ode import solve
from fingerpost.ode.methods import Kvaerno3, Kvaerno5

METHODS = ["kvaerno3", "kvaerno5"]
STIFF = torch.tensor([[-1000.0, 999.0], [1.0, -2.0]], dtype=torch.float64)


def van_der_pol(t, y, mu: Any = 1000.0):
    x, v = y.unbind(-1)
    return torch.stack([v, mu * (1 - x * x) * v - x], -1)


def robertson(t, y, rates=(0.04, 1e4, 3e7)):
    a, b, c = y.unbind(-1)
    slow, fast = rates[1] * b * c - rates[0] * a, rates[2] * b * b
    return torch.stack([slow, -slow - fast, fast], -1)


def hires(t, y):
    a, b, c, d, e, f, g, h = y.unbind(-1)
    bind = 280 * f * h
    return torch.stack(
        [
            -1.71 * a + 0.43 * b + 8.32 * c + 0.0007,
            1.71 * a - 8.75 * b,
            -10.03 * c + 0.43 * d + 0.035 * e,
            8.32 * b + 1.71 * c - 1.12 * d,
            -1.745 * e + 0.43 * f + 0.43 * g,
            -bind + 0.69 * d + 1.71 * e - 0.43 * f + 0.69 * g,
            bind - 1.81 * g,
            -bind + 1.81 * g,
        ],
        -1,
    )


PROBLEMS = {
    # field, start, times, the absolute tolerance that belongs to rtol = 1e-6
    "van der pol": (van_der_pol, [2.0, 0.0], [0.0, 400.0, 850.0], 1e-8),
    "robertson": (robertson, [1.0, 0.0, 0.0], [0.0, 4.0, 1e4], 1e-10),
    "hires": (hires, [1.0, 0, 0, 0, 0, 0, 0, 0.0057], [0.0, 40.0, 321.8122], 1e-9),
}


def radau(f, y0, times, atol):
    """SciPy's Radau, which lands on each time: its dense output is of order 3 only."""
    y, out = np.array(y0), []
    for span in itertools.pairwise(times):
        run = solve_ivp(lambda t, y: f(t, torch.as_tensor(y)).numpy(), span, y, "Radau", rtol=1e-9, atol=atol)
        y = run.y[:, -1]
        out.append(y)
    return torch.tensor(np.array(out))


@pytest.fixture(scope="module")
def references():
    return {name: radau(f, y0, times, atol * 1e-4) for name, (f, y0, times, atol) in PROBLEMS.items()}


@pytest.mark.parametrize(("method", "rtol"), [("kvaerno3", 1e-4), ("kvaerno5", 1e-4), ("kvaerno5", 1e-6)])
@pytest.mark.parametrize("name", PROBLEMS)
def test_stiff_problems_come_out_within_ten_tolerances(references, name, method, rtol):
    f, y0, times, atol = PROBLEMS[name]
    atol = atol * rtol / 1e-6
    with torch.no_grad():
        solution = solve(f, torch.tensor(y0).double(), times, method=method, rtol=rtol, atol=atol)
    error = (solution.ys[1:] - references[name]) / (atol + rtol * references[name].abs())
    assert error.square().mean(-1).sqrt().max() < 10
    assert solution.stats.accepted < 4000  # an explicit method needs about a million steps on the first


@pytest.mark.parametrize("method", METHODS)
def test_order_of_fixed_steps(method):
    def f(t, y):
        return -y * y.roll(1) + torch.cos(t)

    y0 = torch.tensor([1.0, 0.5], dtype=torch.float64)
    end = solve(f, y0, [0.0, 1.0], method="dop853", rtol=1e-13, atol=1e-14).ys[-1]
    steps = [4, 8, 16, 32]
    errors = [
        (solve(f, y0, [0.0, 1.0], method=method, step_size=1 / n).ys[-1] - end).norm().item() for n in steps
    ]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    order = {"kvaerno3": 3, "kvaerno5": 5}[method]
    assert order - 0.2 < slope < order + 0.6


@pytest.mark.parametrize("method", METHODS)
def test_a_stiff_component_is_damped_at_any_step(method):
    """L-stability: R(−∞) = 0, so that one long step kills a fast transient."""
    y0 = torch.ones(1, dtype=torch.float64)
    end = solve(lambda t, y: -1e8 * y, y0, [0.0, 1.0], method=method, step_size=1.0).ys[-1]
    assert abs(end.item()) < 1e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gradient", ["tape", "checkpoint"])
@pytest.mark.parametrize("batched", [False, True])
def test_gradients_through_steps_pass_gradcheck(method, gradient, batched):
    y0 = torch.tensor([[1.0, 0.2], [0.5, -0.3]], dtype=torch.float64, requires_grad=True)
    matrix = STIFF.clone().requires_grad_()
    method = {"kvaerno3": Kvaerno3, "kvaerno5": Kvaerno5}[method](batched=batched, newton_tolerance=1e-14)

    def at(y0, matrix):
        def f(t, y):
            return y @ matrix.T - (1 + t) * torch.sin(y)

        return solve(f, y0, [0.0, 0.13, 0.3], method=method, step_size=0.1, gradient=gradient).ys

    assert torch.autograd.gradcheck(at, (y0, matrix), rtol=1e-5, atol=1e-7, fast_mode=True)


@pytest.mark.parametrize("method", METHODS)
def test_checkpoint_gradients_are_those_of_the_tape_with_adaptive_steps(method):
    found = []
    for gradient in ("tape", "checkpoint"):
        y0 = torch.tensor([2.0, 0.0], dtype=torch.float64, requires_grad=True)
        mu = torch.tensor(50.0, dtype=torch.float64, requires_grad=True)
        ys = solve(
            lambda t, y: van_der_pol(t, y, mu), y0, [0.0, 0.7, 20.0], method=method, gradient=gradient
        ).ys
        found.append(torch.autograd.grad(ys[:, 0].sum(), [y0, mu]))
    for a, b in zip(*found):
        assert torch.allclose(a, b, rtol=1e-9)


def conversion(logs, **options):
    """What is left of the first species at t = 10."""

    def f(t, y):
        return robertson(t, y, logs.exp())

    y0 = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    return solve(f, y0, [0.0, 10.0], method="kvaerno5", rtol=1e-7, atol=1e-11, **options).ys[-1][0]


@pytest.fixture(scope="module")
def rates():
    """The logarithms of Robertson's rates, and the central differences of `conversion` there."""
    logs = torch.tensor([0.04, 1e4, 3e7], dtype=torch.float64).log()
    with torch.no_grad():
        shifts = 1e-2 * torch.eye(3, dtype=torch.float64)
        slopes = torch.stack([(conversion(logs + s) - conversion(logs - s)) / 2e-2 for s in shifts])
    return logs, slopes


@pytest.mark.parametrize("gradient", ["tape", "checkpoint"])
def test_gradients_of_robertsons_rates_are_central_differences(rates, gradient):
    logs, slopes = rates
    leaf = logs.clone().requires_grad_()
    (found,) = torch.autograd.grad(conversion(leaf, gradient=gradient), leaf)
    assert torch.allclose(found, slopes, rtol=1e-4)


def test_second_derivatives_are_refused():
    y0 = torch.ones(2, dtype=torch.float64, requires_grad=True)
    end = solve(lambda t, y: -(y**3), y0, [0.0, 1.0], method="kvaerno5", gradient="tape").ys[-1]
    (slope,) = torch.autograd.grad(end.sum(), y0, create_graph=True)
    with pytest.raises(InvalidValueError, match="cannot be differentiated again"):
        torch.autograd.grad(slope.sum(), y0)


def test_blocks_give_the_same_solution_as_the_full_jacobian():
    y0 = torch.tensor([[2.0, 0.0], [1.0, 0.5], [-1.0, 3.0]], dtype=torch.float64)
    ends = [solve(van_der_pol, y0, [0.0, 0.3], method=Kvaerno5(batched=b)).ys[-1] for b in (False, True)]
    assert torch.allclose(*ends, rtol=1e-10)


@pytest.mark.parametrize("method", ["kvaerno5"])
def test_dense_output_is_as_good_as_landing_on_the_time(method):
    """On a stiff problem with long steps, where a polynomial through inner stages misses by hundreds of tolerances."""
    f, y0, _, _ = PROBLEMS["hires"]
    y0, options = torch.tensor(y0).double(), {"method": method, "rtol": 1e-5, "atol": 1e-8}
    with torch.no_grad():
        inside = solve(f, y0, [0.0, 45.0, 80.0, 100.0], **options).ys
        exact = solve(f, y0, [0.0, 45.0, 80.0], method="kvaerno5", rtol=1e-8, atol=1e-12)
    for m in (1, 2):
        error = (inside[m] - exact.ys[m]) / (1e-8 + 1e-5 * exact.ys[m].abs())
        assert error.square().mean().sqrt() < 10


def test_trees_and_complex_states_go_through_the_same_newton():
    y0 = {
        "z": torch.tensor([1.0 + 0.5j], dtype=torch.complex128),
        "x": torch.tensor(2.0, dtype=torch.float64),
    }
    rate = -50 + 3j
    ys = solve(lambda t, y: {"z": rate * y["z"], "x": -y["x"]}, y0, [0.0, 0.1], method="kvaerno5").ys
    assert torch.allclose(ys["z"][-1], y0["z"] * torch.exp(torch.tensor(rate * 0.1)), atol=1e-5)
    assert ys["x"][-1].item() == pytest.approx(2 * math.exp(-0.1), abs=1e-5)


def test_single_precision_converges_and_keeps_its_dtype():
    y0 = torch.tensor([2.0, 0.0])
    ys = solve(van_der_pol, y0, [0.0, 100.0], method="kvaerno3", rtol=1e-3, atol=1e-5).ys
    exact = solve(van_der_pol, y0.double(), [0.0, 100.0], method="kvaerno5", rtol=1e-9, atol=1e-11).ys
    assert ys.dtype == torch.float32
    assert torch.allclose(ys.double(), exact, rtol=1e-2)


def test_newton_that_fails_shortens_the_step_and_on_fixed_steps_says_so():
    def f(t, y):
        return -100 * torch.sign(y) * y.abs().sqrt() * torch.cos(40 * y)

    y0 = torch.ones(3, dtype=torch.float64)
    method = Kvaerno3(max_iterations=2)
    assert solve(f, y0, [0.0, 0.01], method=method).stats.rejected > 0
    with pytest.raises(NumericalError, match="could not solve its stages"):
        solve(f, y0, [0.0, 1.0], method=method, step_size=0.5)


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: Kvaerno5(newton_tolerance=0.0), InvalidValueError, "newton_tolerance"),
        (lambda: Kvaerno5(max_iterations=0), InvalidValueError, "max_iterations"),
        (
            lambda: solve(lambda t, y: -y, torch.ones(3), [0.0, 1.0], method=Kvaerno5(batched=True)),
            ShapeError,
            r"\(3,\)",
        ),
        (
            lambda: solve(lambda t, y: y, (torch.ones(2, 2),), [0.0, 1.0], method=Kvaerno5(batched=True)),
            ShapeError,
            "batched=True",
        ),
    ],
)
def test_bad_arguments_are_named(build, error, match):
    with pytest.raises(error, match=match):
        build()
