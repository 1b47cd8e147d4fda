import functools
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.ode import solve
from fingerpost.ode.losses import observed, running, terminal

TIGHT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12}
TIMES = (0.0, 0.3, 0.7, 1.0)
LOSSES = ["terminal", "running", "observed"]
GRADIENTS = ["tape", "checkpoint", "backsolve"]


class Pendulum(nn.Module):
    """A damped, driven field with three parameters, also read by the integrand."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.3, -0.4, 0.7], dtype=torch.float64))

    def forward(self, t, z):
        position, velocity = z.unbind(-1)
        a, b, c = self.theta
        return torch.stack([velocity, -a * position.sin() + b * velocity + c * torch.sin(3 * t)], -1)

    def integrand(self, t, z):
        return (1 + t) * (self.theta[0] * z.square()).sum(-1) + self.theta[2] * z[..., 0]


def start():
    return torch.tensor([[0.5, -0.2], [1.0, 0.3]], dtype=torch.float64)


def end_loss(z):
    return (z.square() * torch.tensor([1.0, 0.5], dtype=z.dtype)).sum()


def path_loss(zs):
    return (zs[1:, :, 0] ** 3).sum() + (zs[1] * zs[3]).sum() + zs[0].sum()


def rk4(field, z, times, per_unit=120):
    """A fine fixed-step solution that autograd goes through; an oracle that shares no code with the solver."""
    out = [z]
    for a, b in itertools.pairwise(times):
        n = max(1, round(abs(b - a) * per_unit))
        h = (b - a) / n
        for i in range(n):
            t = torch.tensor(a + i * h, dtype=torch.float64)
            k1 = field(t, z)
            k2 = field(t + h / 2, z + h / 2 * k1)
            k3 = field(t + h / 2, z + h / 2 * k2)
            k4 = field(t + h, z + h * k3)
            z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        out.append(z)
    return torch.stack(out)


def reference(kind, f, z0, times=TIMES):
    if kind == "terminal":
        return end_loss(rk4(f, z0, (times[0], times[-1]))[-1])
    if kind == "observed":
        return path_loss(rk4(f, z0, times))

    def both(t, state):
        return torch.cat([f(t, state[:, :2]), f.integrand(t, state[:, :2])[:, None]], 1)

    return rk4(both, torch.cat([z0, z0.new_zeros(2, 1)], 1), (times[0], times[-1]))[-1][:, 2].sum()


@functools.cache
def differentiated_reference(kind, times):
    f, z0 = Pendulum(), start().requires_grad_()
    value = reference(kind, f, z0, times)
    return value.detach(), *torch.autograd.grad(value, [z0, f.theta])


def ours(kind, f, z0, times=TIMES, **options):
    if kind == "terminal":
        return terminal(f, z0, times[0], times[-1], end_loss, **options)
    if kind == "observed":
        return observed(f, z0, times, path_loss, **options)
    return running(f, z0, times[0], times[-1], f.integrand, **options).sum()


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("times", [TIMES, tuple(1 - t for t in TIMES)], ids=["forward", "backward"])
def test_value_and_gradients_are_those_of_a_fine_fixed_step_solver(kind, gradient, times):
    f, z0 = Pendulum(), start().requires_grad_()
    expected, *gradients = differentiated_reference(kind, times)
    value = ours(kind, f, z0, times, gradient=gradient, **TIGHT)
    assert torch.allclose(value, expected, rtol=1e-8)
    for a, b in zip(torch.autograd.grad(value, [z0, f.theta]), gradients):
        assert torch.allclose(a, b, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("kind", LOSSES)
def test_gradients_are_central_differences_of_the_value(kind, gradient):
    f, z0 = Pendulum(), start().requires_grad_()
    gradients = torch.autograd.grad(ours(kind, f, z0, gradient=gradient, **TIGHT), [z0, f.theta])
    eps = 1e-4
    with torch.no_grad():
        for tensor, gradient_of in zip([z0, f.theta], gradients):
            direction = torch.linspace(-1, 1, tensor.numel(), dtype=torch.float64).view_as(tensor)
            values = []
            for sign in (1, -1):
                tensor += sign * eps * direction
                values.append(ours(kind, f, z0, rtol=1e-12, atol=1e-13))
                tensor -= sign * eps * direction
            slope = (values[0] - values[1]) / (2 * eps)
            assert torch.allclose((gradient_of * direction).sum(), slope, rtol=1e-6)


@pytest.mark.parametrize("kind", LOSSES)
def test_the_adjoint_equations_of_the_page_give_the_gradient(kind):
    f, z0 = Pendulum(), start()
    expected = differentiated_reference(kind, TIMES)[1:]

    def adjoint(t, state):
        z, a = state[0].detach().requires_grad_(), state[1]
        with torch.enable_grad():
            hamiltonian = (a * f(t, z)).sum()
            if kind == "running":
                hamiltonian = hamiltonian + f.integrand(t, z).sum()
            g_z, g_theta = torch.autograd.grad(hamiltonian, [z, f.theta])
        with torch.no_grad():
            row = torch.zeros_like(z).flatten()
            row[:3] = -g_theta  # dL/dθ is an integral from t0 to t1; this runs from t1 to t0
            return torch.stack([f(t, z), -g_z, row.view_as(z)])

    with torch.no_grad():
        path = rk4(f, z0, TIMES)
    jumps = {
        "terminal": (lambda zs: end_loss(zs[-1])),
        "observed": path_loss,
        "running": lambda zs: 0 * zs.sum(),
    }
    leaves = path.detach().requires_grad_()
    (at,) = torch.autograd.grad(jumps[kind](leaves), leaves)
    a, total = torch.zeros_like(path[0]), torch.zeros_like(path[0])
    for i in (3, 2, 1):
        a = a + at[i]
        _, a, total = rk4(adjoint, torch.stack([path[i], a, total]), TIMES[i - 1 : i + 1][::-1])[-1].detach()
    assert torch.allclose(a + at[0], expected[0], rtol=1e-7)
    assert torch.allclose(total.flatten()[:3], expected[1], rtol=1e-7)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("kind", ["terminal", "running"])
def test_end_times_get_their_gradients(kind, gradient):
    f, z0 = Pendulum(), start()
    t0, t1 = (torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (0.1, 0.9))

    def value(t0, t1, **options):
        if kind == "terminal":
            return terminal(f, z0, t0, t1, end_loss, **TIGHT, **options)
        return running(f, z0, t0, t1, f.integrand, **TIGHT, **options).sum()

    gradients = torch.autograd.grad(value(t0, t1, gradient=gradient), [t0, t1])
    for i, got in enumerate(gradients):
        shifts = torch.zeros(2, dtype=torch.float64)
        shifts[i] = 1e-4
        with torch.no_grad():
            slope = (
                value(*(torch.tensor([0.1, 0.9]).double() + shifts))
                - value(*(torch.tensor([0.1, 0.9]).double() - shifts))
            ) / 2e-4
        assert torch.allclose(got, slope, rtol=1e-6)


def test_states_may_be_trees_and_the_integral_keeps_the_integrands_shape():
    def f(t, y):
        return {"a": -y["a"], "b": (y["a"].sum(),)}

    y0 = {"a": torch.ones(3, dtype=torch.float64), "b": (torch.zeros((), dtype=torch.float64),)}
    total = running(f, y0, 0.0, 1.0, lambda t, y: torch.stack([y["a"], 2 * y["a"]]), **TIGHT)
    expected = (1 - torch.exp(torch.tensor(-1.0).double())) * torch.tensor([[1.0], [2.0]]).double().expand(
        2, 3
    )
    assert torch.allclose(total, expected, rtol=1e-9)
    assert torch.allclose(
        terminal(f, y0, 0.0, 1.0, lambda y: y["b"][0], **TIGHT), expected[0].sum(), rtol=1e-9
    )


def test_a_fast_integrand_is_resolved_in_the_norm_and_may_be_missed_outside_it():
    """The state stands still, so that only the integrand can shorten the steps."""
    y0 = torch.ones(1, dtype=torch.float64)
    errors = []
    for in_norm in (True, False):
        total = running(
            lambda t, y: 0 * y,
            y0,
            0.0,
            10.0,
            lambda t, y: (y * torch.cos(5 * t)).sum(),
            quadrature_in_norm=in_norm,
        )
        errors.append(abs(total.item() - torch.sin(torch.tensor(50.0)).item() / 5))
    assert errors[0] < 1e-4
    assert errors[1] > 100 * errors[0]


def test_outside_the_norm_the_steps_are_those_of_the_state_alone():
    f, z0 = Pendulum(), start()
    calls = []

    def counted(t, z):
        calls.append(t.item())
        return f(t, z)

    with torch.no_grad():
        solve(counted, z0, [0.0, 1.0])
        alone = calls.copy()
        calls.clear()
        running(counted, z0, 0.0, 1.0, f.integrand, quadrature_in_norm=False)
    assert calls == alone


def test_bad_losses_and_integrands_are_named():
    f, z0 = Pendulum(), start()
    with pytest.raises(ShapeError, match=r"loss returned shape \(2, 2\)"):
        terminal(f, z0, 0.0, 1.0, lambda z: z)
    with pytest.raises(InvalidTypeError, match="loss returned float"):
        observed(f, z0, TIMES, lambda zs: 1.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidTypeError, match="integrand returned tuple"):
        running(f, z0, 0.0, 1.0, lambda t, z: (z, z))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidValueError, match=r"0\.5"):
        terminal(f, z0, 0.5, 0.5, end_loss)
