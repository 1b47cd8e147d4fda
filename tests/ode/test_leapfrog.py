import math

import numpy as np
import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.ode import solve

METHODS = ["leapfrog", "velocity_verlet"]


def pendulum(t, y):
    return y[1], -torch.sin(y[0])


def dimer(t, y):
    """The distance of a Lennard-Jones pair of unit mass, well depth and diameter."""
    x, v = y
    return v, 24 * (2 * x**-13 - x**-7)


def pendulum_energy(x, v):
    return v**2 / 2 - torch.cos(x)


def dimer_energy(x, v):
    return v**2 / 2 + 4 * (x**-12 - x**-6)


def pair(x, v):
    return torch.tensor([x], dtype=torch.float64), torch.tensor([v], dtype=torch.float64)


@pytest.mark.parametrize("method", METHODS)
def test_order_is_two(method):
    y0 = pair(1.0, 0.3)
    exact = torch.cat(solve(pendulum, y0, [0.0, 2.0], method="dop853", rtol=1e-12, atol=1e-12).ys, 1)[-1]
    steps = [16, 32, 64, 128]
    ends = [
        torch.cat(solve(pendulum, y0, [0.0, 2.0], method=method, step_size=2 / n).ys, 1)[-1] for n in steps
    ]
    slope = -np.polyfit(np.log(steps), [math.log((end - exact).norm()) for end in ends], 1)[0]
    assert 1.9 < slope < 2.1


@pytest.mark.parametrize(
    ("field", "energy", "start", "h"),
    [(pendulum, pendulum_energy, (2.0, 0.0), 0.1), (dimer, dimer_energy, (1.3, 0.0), 0.01)],
    ids=["pendulum", "dimer"],
)
def test_energy_stays_bounded_where_a_classical_method_drifts(field, energy, start, h):
    count = 4_000
    errors = {}
    with torch.no_grad():
        for method in ("leapfrog", "heun"):
            x, v = solve(field, pair(*start), (np.arange(count + 1) * h).tolist(), method=method).ys
            errors[method] = (energy(x, v) - energy(x[0], v[0])).abs().flatten()
    early, late = errors["leapfrog"][: count // 10].max(), errors["leapfrog"][-count // 10 :].max()
    assert late < 1.05 * early
    assert errors["heun"][-count // 10 :].max() > 3 * errors["heun"][: count // 10].max()


@pytest.mark.parametrize("method", METHODS)
def test_steps_back_undo_steps_forward(method):
    y0 = pair(1.2, -0.4)
    times = np.linspace(0, 30, 301).tolist()
    x, v = solve(pendulum, y0, times, method=method).ys
    x, v = solve(pendulum, (x[-1], v[-1]), times[::-1], method=method).ys
    assert torch.allclose(x[-1], y0[0], rtol=0, atol=1e-12)
    assert torch.allclose(v[-1], y0[1], rtol=0, atol=1e-12)


def test_a_step_preserves_area():
    y0 = torch.tensor([[0.7], [0.4]], dtype=torch.float64)

    def step(y):
        return torch.cat(solve(pendulum, (y[0], y[1]), [0.0, 0.5], method="leapfrog", gradient="tape").ys, 1)[
            -1
        ]

    jacobian = torch.autograd.functional.jacobian(step, y0).squeeze(-1)
    assert torch.linalg.det(jacobian).item() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_one_evaluation_a_step(method):
    stats = solve(pendulum, pair(1.0, 0.0), [0.0, 1.0], method=method, step_size=0.01).stats
    assert stats.nfe <= 102
    assert stats.accepted == 100


@pytest.mark.parametrize("gradient", ["tape", "checkpoint"])
def test_gradients_of_states_inside_and_at_the_end_of_steps_pass_gradcheck(gradient):
    def states(x, v, stiffness):
        def f(t, y):
            return y[1], -stiffness * torch.sin(y[0]) + torch.cos(t)

        ys = solve(f, (x, v), [0.0, 0.25, 0.6, 1.0], method="leapfrog", step_size=0.1, gradient=gradient).ys
        return torch.cat(ys, 1)

    stiffness = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    x, v = (torch.tensor(z, dtype=torch.float64, requires_grad=True) for z in ([0.4, -1.0], [0.3, 0.8]))
    assert torch.autograd.gradcheck(states, (x, v, stiffness))


def test_checkpoint_equals_the_tape():
    found = []
    for gradient in ("tape", "checkpoint"):
        x, v = (z.requires_grad_() for z in pair(1.0, 0.5))
        ys = solve(pendulum, (x, v), [0.0, 5.0], method="leapfrog", step_size=0.05, gradient=gradient).ys
        found.append(torch.cat(torch.autograd.grad(ys[0][-1].sum() + 2 * ys[1][-1].sum(), [x, v])))
    assert torch.allclose(*found, rtol=1e-12)


def test_the_dense_output_is_the_cubic_through_both_ends():
    y0 = pair(1.0, 0.3)
    solution = solve(pendulum, y0, [0.0, 0.2], method="leapfrog")
    (x0, v0), (x1, v1) = y0, (solution.ys[0][1], solution.ys[1][1])
    x, v = solution.at(0.1)
    assert torch.allclose(x, (x0 + x1) / 2 + 0.2 / 8 * (v0 - v1))
    assert torch.allclose(v, (v0 + v1) / 2 + 0.2 / 8 * (-torch.sin(x0) + torch.sin(x1)))


def test_states_may_be_named():
    ys = solve(
        lambda t, y: {"position": y["velocity"], "velocity": -y["position"]},
        dict(zip(("position", "velocity"), pair(1.0, 0.0))),
        [0.0, 1.0],
        method="leapfrog",
        step_size=1e-3,
    ).ys
    assert ys["position"][-1].item() == pytest.approx(math.cos(1), abs=1e-6)


@pytest.mark.parametrize(
    ("field", "y0", "error", "match"),
    [
        (lambda t, y: -y, torch.ones(2), InvalidTypeError, "two tensors"),
        (lambda t, y: y, (torch.ones(2), torch.ones(3)), ShapeError, r"\(2,\) and \(3,\)"),
        (lambda t, y: y, (torch.ones(2), torch.ones(2) + 0j), InvalidTypeError, "complex64"),
        (lambda t, y: (2 * y[1], -y[0]), (torch.ones(2), torch.ones(2)), InvalidValueError, "dx/dt = v"),
    ],
)
def test_bad_states_and_fields_are_named(field, y0, error, match):
    with pytest.raises(error, match=match):
        solve(field, y0, [0.0, 1.0], method="leapfrog", step_size=0.1)
