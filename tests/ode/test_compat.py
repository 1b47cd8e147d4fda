"""Scripts as users of torchdiffeq write them, with the import changed."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError
from fingerpost.ode import solve
from fingerpost.ode.compat import Heun3, ThreeEighths, odeint, odeint_adjoint, odeint_event

MATRIX = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=torch.float64)


def spiral(t, y):
    return y @ MATRIX.T


def exact(t, y0):
    return torch.stack([y0 @ torch.linalg.matrix_exp(MATRIX * s).T for s in t])


class Net(nn.Module):
    def __init__(self, size=2):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(size, 10), nn.Tanh(), nn.Linear(10, size)).double()

    def forward(self, t, y):
        return self.net(y**3)


ADAPTIVE = ["dopri5", "dopri8", "bosh3", "adaptive_heun", "tsit5"]
FIXED = ["euler", "midpoint", "heun2", "heun3", "rk4"]


@pytest.mark.parametrize("interface", [odeint, odeint_adjoint])
@pytest.mark.parametrize("method", ADAPTIVE)
def test_adaptive_methods_solve_by_their_names_there(interface, method):
    y0, t = torch.tensor([[2.0, 0.0]]).double(), torch.linspace(0, 3, 5).double()
    keywords = {"adjoint_params": ()} if interface is odeint_adjoint else {}
    ys = interface(spiral, y0, t, method=method, rtol=1e-6, atol=1e-8, **keywords)
    assert torch.allclose(ys, exact(t, y0), atol=1e-4)


@pytest.mark.parametrize("method", FIXED)
def test_fixed_methods_step_on_t_or_by_step_size(method):
    y0 = torch.tensor([[2.0, 0.0]]).double()
    order = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}[method]
    errors = []
    for n in (40, 80):
        t = torch.linspace(0, 1, n + 1).double()
        by_grid = odeint(spiral, y0, t, method=method)[-1]
        by_size = odeint(spiral, y0, t[[0, -1]], method=method, options={"step_size": 1 / n})[-1]
        assert torch.allclose(by_grid, by_size, rtol=1e-12)
        errors.append((by_grid - exact(t[-1:], y0)[0]).norm())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", [ThreeEighths, Heun3])
def test_the_dense_output_of_the_two_methods_here_has_the_order_it_states(method):
    """b(θ) meets every order condition up to dense_order, and b(1) = b."""
    a = np.zeros((len(method.c), len(method.c)))
    for i, row in enumerate(method.a, 1):
        a[i, : len(row)] = row
    c = np.array(method.c)
    assert np.allclose(a.sum(1), c)
    assert np.allclose(method().dense_weights([1.0])[0], method.b)
    for theta in (0.3, 0.8):
        b = method().dense_weights([theta])[0]
        conditions = [
            (b.sum(), theta),
            (b @ c, theta**2 / 2),
            (b @ c**2, theta**3 / 3),
            (b @ a @ c, theta**3 / 6),
        ]
        for value, expected in conditions[: {2: 2, 3: 4}[method.dense_order]]:
            assert value == pytest.approx(expected, abs=1e-14)


def test_rk4_is_the_three_eighths_rule():
    y0, t = torch.tensor([1.0]).double(), torch.tensor([0.0, 0.5]).double()
    f = lambda t, y: y * torch.cos(t) + y**2  # noqa: E731
    k1 = f(t[0], y0)
    k2 = f(t[0] + 1 / 6, y0 + 0.5 * k1 / 3)
    k3 = f(t[0] + 1 / 3, y0 + 0.5 * (k2 - k1 / 3))
    k4 = f(t[1], y0 + 0.5 * (k1 - k2 + k3))
    assert torch.allclose(odeint(f, y0, t, method="rk4")[-1], y0 + 0.5 * (k1 + 3 * k2 + 3 * k3 + k4) / 8)


@pytest.mark.parametrize("adjoint", [False, True])
def test_the_spiral_demo_learns(adjoint):
    """examples/ode_demo.py: batches of short pieces of a spiral, Adam or RMSprop on the mean error."""
    interface = odeint_adjoint if adjoint else odeint
    generator = torch.Generator().manual_seed(0)
    true_y0, t = torch.tensor([[2.0, 0.0]]).double(), torch.linspace(0, 12.5, 100).double()
    with torch.no_grad():
        true_y = odeint(lambda t, y: y**3 @ MATRIX, true_y0, t, method="dopri5")
    func = Net()
    optimizer, losses = torch.optim.Adam(func.parameters(), lr=1e-2), []
    s = torch.randint(0, 90, (20,), generator=generator)  # one batch, so that the loss must fall
    for _ in range(15):
        batch_y0, batch_t = true_y[s], t[:8]
        batch_y = torch.stack([true_y[s + i] for i in range(8)])
        optimizer.zero_grad()
        pred_y = interface(func, batch_y0, batch_t, rtol=1e-4, atol=1e-5)
        loss = (pred_y - batch_y).abs().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert pred_y.shape == (8, 20, 1, 2)
    assert losses[-1] < 0.9 * losses[0]


def test_tuple_states_of_a_flow_come_back_as_tuples():
    """examples/cnf.py: (z, log p) with the trace by autograd, solved backwards from t1 to t0."""

    class Flow(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, t, states):
            z = states[0]
            with torch.enable_grad():
                z.requires_grad_(True)
                dz = self.net(t, z)
                trace = sum(
                    torch.autograd.grad(dz[:, i].sum(), z, create_graph=True)[0][:, i] for i in range(2)
                )
            return dz, -trace.view(-1, 1)  # pyright: ignore[reportAttributeAccessIssue]

    func = Flow()
    x, zero = (
        torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double(),
        torch.zeros(5, 1).double(),
    )
    gradients = []
    for interface in (odeint, odeint_adjoint):
        z, change = interface(
            func, (x, zero), torch.tensor([1.0, 0.0]), atol=1e-8, rtol=1e-8, method="dopri5"
        )
        assert z.shape == (2, 5, 2)
        assert change.shape == (2, 5, 1)
        log_prob = torch.distributions.Normal(0.0, 1.0).log_prob(z[-1]).sum(1) - change[-1].view(-1)
        gradients.append(torch.autograd.grad(-log_prob.mean(), list(func.parameters())))
    for a, b in zip(*gradients):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-8)


def test_a_bouncing_ball_lands_with_the_gradients_of_its_parameters():
    """examples/bouncing_ball.py: a module with its own initial state, odeint_event in a loop."""

    class Ball(nn.Module):
        def __init__(self):
            super().__init__()
            self.gravity = nn.Parameter(torch.tensor([9.8]).double())
            self.height = nn.Parameter(torch.tensor([10.0]).double())

        def forward(self, t, state):
            height, velocity = state
            return velocity, torch.zeros_like(height) - self.gravity

        def event(self, t, state):
            return state[0]

    for interface in (odeint, odeint_adjoint):
        ball = Ball()
        state, t, times = (ball.height, torch.zeros(1).double()), torch.tensor([0.0]).double(), []
        for _ in range(3):
            t, solution = odeint_event(
                ball, state, t, event_fn=ball.event, odeint_interface=interface, atol=1e-8, rtol=1e-8
            )
            assert solution[0].shape == (2, 1)
            state = (solution[0][-1] + 1e-7, -0.9 * solution[1][-1])
            times.append(t)
        first = (2 * ball.height / ball.gravity).sqrt()
        expected = (first * (1 + 2 * 0.9 + 2 * 0.81)).squeeze()
        assert torch.allclose(times[-1], expected, atol=1e-5)
        ours = torch.autograd.grad(times[-1], list(ball.parameters()))
        theirs = torch.autograd.grad(expected, list(ball.parameters()))
        assert torch.allclose(torch.cat(ours), torch.cat(theirs), rtol=1e-5)


def test_an_event_function_of_several_elements_stops_at_the_first_and_time_may_run_back():
    f = lambda t, y: torch.ones_like(y)  # noqa: E731
    y0 = torch.zeros(1).double()
    surfaces = lambda t, y: torch.cat([y - 5, y + 3, y - 40])  # noqa: E731
    t, ys = odeint(f, y0, torch.tensor([0.0, 1.0]).double(), event_fn=surfaces)
    assert (t.item(), ys[-1].item()) == (pytest.approx(5.0), pytest.approx(5.0))
    t, _ = odeint_event(f, y0, torch.tensor(0.0).double(), event_fn=surfaces, reverse_time=True)
    assert t.item() == pytest.approx(-3.0)


def test_an_event_that_never_comes_is_an_error():
    still = lambda t, y: torch.zeros_like(y)  # noqa: E731
    with pytest.raises(NumericalError, match="no event between"):
        odeint_event(still, torch.ones(1), torch.tensor(0.0), event_fn=lambda t, y: y + 1)
    with pytest.raises(NumericalError, match="max_steps=50"):
        odeint_event(
            lambda t, y: -y,
            torch.ones(1),
            torch.tensor(0.0),
            event_fn=lambda t, y: y + 1,
            options={"max_num_steps": 50},
        )


@pytest.mark.parametrize("option", ["jump_t", "step_t"])
@pytest.mark.parametrize("reverse", [False, True])
def test_jumps_are_stepped_on_and_f_is_asked_on_one_side(option, reverse):
    def f(t, y):
        assert t != 0.5
        return torch.where(t < 0.5, torch.ones_like(y), -3 * torch.ones_like(y))

    t = torch.tensor([0.0, 0.3, 0.5, 0.9, 1.0]).double()
    expected = torch.tensor([0.0, 0.3, 0.5, -0.7, -1.0]).double()
    if reverse:
        t, expected = t.flip(0), (expected - expected[-1]).flip(0)
    ys = odeint(f, torch.zeros(1).double(), t, options={option: torch.tensor([0.5, 7.0])}, method="dopri5")
    assert torch.allclose(ys[:, 0], expected, atol=1e-12)


def test_a_grid_may_be_constructed():
    y0, t = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([0.0, 0.33, 1.0]).double()
    grid = lambda func, y0, t: torch.linspace(0, 1, 51).double()  # noqa: E731
    ys = odeint(spiral, y0, t, method="rk4", options={"grid_constructor": grid})
    assert torch.allclose(ys, exact(t, y0), atol=1e-6)
    with pytest.raises(InvalidValueError, match="expected one from"):
        odeint(spiral, y0, t, method="rk4", options={"grid_constructor": lambda f, y, t: t[:-1]})


def test_options_of_adaptive_steps_are_honoured():
    y0, t = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([0.0, 5.0]).double()
    calls = []

    def f(t, y):
        calls.append(float(t))
        return spiral(t, y)

    with torch.no_grad():
        odeint(f, y0, t, options={"first_step": 0.125})
        assert max(calls[:7]) == 0.125
        counts = []
        for safety in (0.9, 0.5):
            calls.clear()
            odeint(f, y0, t, options={"safety": safety})
            counts.append(len(calls))
        assert counts[1] > counts[0]
        with pytest.raises(NumericalError, match="max_steps=5"):
            odeint(f, y0, t, options={"max_num_steps": 5})
        seen = []

        def norm(error):
            seen.append(len(error))
            return error[0].abs().max()

        odeint(lambda t, y: (-y[0], -y[1]), (y0, y0), t, options={"norm": norm})
        assert set(seen) == {2}


def test_tolerances_may_be_tensors_or_one_per_tensor_of_a_tuple():
    y0, t = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([0.0, 3.0]).double()
    for rtol in (torch.tensor(1e-8), torch.full((2,), 1e-8).double()):
        assert torch.allclose(odeint(spiral, y0, t, rtol=rtol, atol=1e-10), exact(t, y0), atol=1e-6)
    pair = odeint(lambda t, y: (spiral(t, y[0]), -y[1]), (y0, y0), t, rtol=(1e-8, 1e-6), atol=(1e-10, 1e-8))
    assert torch.allclose(pair[0], exact(t, y0), atol=1e-6)


def test_gradients_of_times_and_start_are_those_of_solve():
    found = []
    for interface in (odeint, odeint_adjoint, None):
        func, y0 = Net(), torch.tensor([[0.5, -0.3]]).double().requires_grad_()
        t = torch.tensor([0.0, 0.4, 1.0]).double().requires_grad_()
        tight: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}
        ys = interface(func, y0, t, **tight) if interface else solve(func, y0, t, **tight).ys
        found.append(torch.autograd.grad(ys.square().sum(), [y0, t, *func.parameters()]))
    for a, b, c in zip(*found):
        assert torch.allclose(a, c, rtol=1e-6, atol=1e-9)
        assert torch.allclose(b, c, rtol=1e-6, atol=1e-9)


def test_the_adjoint_needs_a_module_or_its_parameters():
    y0, t = torch.ones(1), torch.tensor([0.0, 1.0])
    with pytest.raises(InvalidTypeError, match="adjoint_params"):
        odeint_adjoint(lambda t, y: -y, y0, t)
    rate = torch.tensor(-1.0, requires_grad=True)
    end = odeint_adjoint(lambda t, y: rate * y, y0, t, adjoint_params=(rate,))[-1]
    assert torch.autograd.grad(end, rate)[0].item() == pytest.approx(math.exp(-1), rel=1e-4)


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"adjoint_rtol": 1e-3}, "adjoint_rtol"),
        ({"adjoint_method": "rk4"}, "adjoint_method"),
        ({"adjoint_options": {"step_size": 0.1}}, "step_size"),
        ({"options": {"dtype": torch.float32}}, "dtype"),
        ({"options": {"step_size": 0.1}}, "step_size"),
        ({"options": {"frist_step": 0.1}}, "frist_step"),
        ({"options": {"interp": "cubic", "step_size": 0.1}, "method": "rk4"}, "interp"),
    ],
)
def test_what_means_nothing_here_is_warned_of(keywords, match):
    with pytest.warns(UserWarning, match=match):
        odeint_adjoint(Net(), torch.ones(1, 2).double(), torch.tensor([0.0, 0.1]), **keywords)


def test_what_means_the_same_here_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        states = odeint_adjoint(
            Net(), torch.ones(1, 2).double(), torch.tensor([0.0, 0.1]), rtol=1e-4, adjoint_rtol=1e-4,
            adjoint_options={"norm": "seminorm"}, options={"min_step": 0.0, "dtype": torch.float64},
        )  # fmt: skip
    assert states.shape == (2, 1, 2)


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"method": "fehlberg2"}, "adaptive_heun"),
        ({"method": "implicit_adams"}, "kvaerno5"),
        ({"method": "scipy_solver"}, "dopri5"),
        ({"method": "dorpi5"}, "did you mean 'dopri5'"),
        ({"options": {"max_step": 0.1}}, "max_step"),
        ({"method": "rk4", "options": {"perturb": True}}, "perturb"),
        ({"event_fn": lambda t, y: y, "t": torch.tensor([0.0, 1.0, 2.0])}, "two"),
    ],
)
def test_what_cannot_be_honoured_is_refused(keywords, match):
    arguments = {"t": torch.tensor([0.0, 1.0]), **keywords}
    with pytest.raises(InvalidValueError, match=match):
        odeint(lambda t, y: -y, torch.ones(1), **arguments)
