"""The three gradients of `solve` against autograd, finite differences, closed forms and each other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidValueError, NumericalError
from fingerpost.ode import PIDController, solve

F64 = torch.float64
GRADIENTS = ("tape", "checkpoint", "backsolve")
METHODS = {
    "euler": {"step_size": 0.11},
    "heun": {"step_size": 0.11},
    "midpoint": {},
    "rk4": {"step_size": 0.17},
    "bosh3": {},
    "dopri5": {},
    "tsit5": {},
    "dop853": {},
    "dopri5 on a grid": {"method": "dopri5", "step_size": 0.3},
    "heun adaptive": {"method": "heun", "controller": PIDController()},
}


class Pendulums(nn.Module):
    """A small nonlinear field that depends on time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 3)).double()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(y) * torch.cos(t) - 0.3 * y


def problem() -> tuple[Pendulums, Tensor, Tensor, Tensor]:
    """A field, states, times between which the observations fall inside steps, and cotangents."""
    field = Pendulums()
    generator = torch.Generator().manual_seed(1)
    y0 = torch.randn(4, 3, dtype=F64, generator=generator).requires_grad_()
    t = torch.tensor([0.0, 0.35, 0.4, 1.1, 2.0], dtype=F64).requires_grad_()
    return field, y0, t, torch.randn(5, 4, 3, dtype=F64, generator=generator)


def gradients(gradient: str, **options: Any) -> list[Tensor]:
    field, y0, t, weights = problem()
    solution = solve(field, y0, t, gradient=gradient, **options)
    return list(torch.autograd.grad((solution.ys * weights).sum(), [y0, t, *field.parameters()]))


def gap(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs))


def options_of(name: str) -> dict:
    return {"method": name, "rtol": 1e-5, "atol": 1e-7, **METHODS[name]}


@pytest.mark.parametrize("name", METHODS)
def test_checkpoint_equals_the_tape_to_roundoff(name: str) -> None:
    assert gap(gradients("checkpoint", **options_of(name)), gradients("tape", **options_of(name))) < 2e-12


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("method", ["dopri5", "tsit5", "dop853", "bosh3"])
def test_all_three_converge_to_the_true_gradient(gradient: str, method: str) -> None:
    truth = gradients("tape", method="dop853", rtol=1e-12, atol=1e-12)
    tight = 1e-6 if method == "bosh3" else 1e-9
    assert gap(gradients(gradient, method=method, rtol=tight, atol=tight), truth) < 300 * tight


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_match_finite_differences_of_the_solution(gradient: str) -> None:
    field, y0, t, weights = problem()
    options: dict[str, Any] = {"method": "dop853", "rtol": 1e-11, "atol": 1e-11}

    def loss() -> Tensor:
        return (solve(field, y0, t, gradient=gradient, **options).ys * weights).sum()

    inputs = [y0, t, *field.parameters()]
    found = torch.autograd.grad(loss(), inputs)
    generator = torch.Generator().manual_seed(2)
    for tensor, g in zip(inputs, found):
        direction = torch.randn(tensor.shape, dtype=F64, generator=generator)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor += sign * 1e-5 * direction
                values.append(loss())
                tensor -= sign * 1e-5 * direction
        measured = float(values[0] - values[1]) / 2e-5
        assert float((g * direction).sum()) == pytest.approx(measured, rel=2e-7, abs=2e-7)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_exponential_has_its_closed_form_gradients(gradient: str) -> None:
    rate = torch.tensor(-0.7, dtype=F64, requires_grad=True)
    y0 = torch.tensor([1.5], dtype=F64, requires_grad=True)
    t = torch.tensor([0.2, 1.3], dtype=F64, requires_grad=True)
    ys = solve(lambda t, y: rate * y, y0, t, rtol=1e-10, atol=1e-10, gradient=gradient).ys
    found = torch.autograd.grad(ys[-1].sum(), [rate, y0, t])
    decay = math.exp(-0.7 * 1.1)
    end = 1.5 * decay
    torch.testing.assert_close(found[0], torch.tensor(1.1 * end, dtype=F64), rtol=1e-7, atol=0)
    torch.testing.assert_close(found[1], torch.tensor([decay], dtype=F64), rtol=1e-7, atol=0)
    torch.testing.assert_close(found[2], torch.tensor([0.7 * end, -0.7 * end], dtype=F64), rtol=1e-7, atol=0)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_backwards_in_time_has_gradients_too(gradient: str) -> None:
    rate = torch.tensor(-0.7, dtype=F64, requires_grad=True)
    ys = solve(
        lambda t, y: rate * y,
        torch.ones(1, dtype=F64),
        [1.0, 0.4, 0.0],
        rtol=1e-9,
        atol=1e-9,
        gradient=gradient,
    ).ys
    (found,) = torch.autograd.grad(ys[1:].sum(), rate)
    assert float(found) == pytest.approx(-0.6 * math.exp(0.42) - math.exp(0.7), rel=1e-6)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_nests_and_complex_states_have_gradients(gradient: str) -> None:
    z0 = torch.tensor([1.0 + 0.5j], dtype=torch.complex128, requires_grad=True)
    x0 = torch.ones(2, dtype=F64, requires_grad=True)
    omega = torch.tensor(1.2, dtype=F64, requires_grad=True)

    def f(t: Tensor, s: dict) -> dict:
        return {"z": 1j * omega * s["z"], "x": -s["x"] * omega}

    ys = solve(f, {"z": z0, "x": x0}, [0.0, 1.0], rtol=1e-9, atol=1e-9, gradient=gradient).ys
    loss = ys["z"][-1].real.sum() + ys["x"][-1].sum()
    found = torch.autograd.grad(loss, [z0, x0, omega])
    exact = (z0 * torch.exp(1j * omega)).real.sum() + (x0 * torch.exp(-omega)).sum()
    for ours, theirs in zip(found, torch.autograd.grad(exact, [z0, x0, omega])):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("gradient", ["tape", "checkpoint"])
def test_gradcheck_of_a_fixed_grid(gradient: str) -> None:
    torch.manual_seed(0)
    weight = (0.5 * torch.randn(2, 2, dtype=F64)).requires_grad_()
    y0 = torch.randn(2, dtype=F64, requires_grad=True)

    def end(y0: Tensor, weight: Tensor) -> Tensor:
        return solve(
            lambda t, y: torch.tanh(weight @ y),
            y0,
            [0.0, 0.35, 1.0],
            method="rk4",
            step_size=0.5,
            gradient=gradient,
        ).ys

    assert torch.autograd.gradcheck(end, (y0, weight))


def test_the_tape_is_differentiable_twice() -> None:
    torch.manual_seed(0)
    weight = (0.5 * torch.randn(2, 2, dtype=F64)).requires_grad_()
    y0 = torch.randn(2, dtype=F64, requires_grad=True)

    def end(y0: Tensor, weight: Tensor) -> Tensor:
        return solve(
            lambda t, y: torch.tanh(weight @ y),
            y0,
            [0.0, 0.35, 1.0],
            method="dopri5",
            step_size=0.5,
            gradient="tape",
        ).ys

    assert torch.autograd.gradgradcheck(end, (y0, weight))


def test_the_tape_has_second_derivatives_with_respect_to_the_times() -> None:
    rate = torch.tensor(-0.7, dtype=F64, requires_grad=True)
    t = torch.tensor([0.2, 1.3], dtype=F64, requires_grad=True)
    y0 = torch.ones(1, dtype=F64)

    def f(t: Tensor, y: Tensor) -> Tensor:
        return rate * t * y

    end = solve(f, y0, t, rtol=1e-11, atol=1e-11, gradient="tape").ys[-1].sum()
    exact = torch.exp(rate * (t[1] ** 2 - t[0] ** 2) / 2)
    for ours, theirs in zip(_second(end, t, rate), _second(exact, t, rate)):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def _second(value: Tensor, t: Tensor, rate: Tensor) -> list[Tensor]:
    first_t, first_rate = torch.autograd.grad(value, [t, rate], create_graph=True)
    rows = [torch.autograd.grad(g, [t, rate], retain_graph=True) for g in (*first_t, first_rate)]
    return [part for row in rows for part in row]


@pytest.mark.parametrize("gradient", ["checkpoint", "backsolve"])
def test_second_derivatives_without_a_tape_raise_and_say_what_to_use(gradient: str) -> None:
    field, y0, t, _ = problem()
    loss = solve(field, y0, t.detach(), gradient=gradient).ys.sum()
    (first,) = torch.autograd.grad(loss, y0, create_graph=True)
    assert first.isfinite().all()
    with pytest.raises(InvalidValueError, match="gradient='tape'"):
        first.pow(2).sum().backward()


@pytest.mark.parametrize("gradient", ["tape", "checkpoint"])
def test_dense_output_has_gradients(gradient: str) -> None:
    field, y0, t, _ = problem()
    solution = solve(field, y0, t, gradient=gradient, rtol=1e-8, atol=1e-8)
    inputs = [y0, *field.parameters()]
    found = torch.autograd.grad(solution.at([0.123, 1.7]).sum(), inputs)
    direct = solve(field, y0, [0.0, 0.123, 1.7], gradient="tape", rtol=1e-8, atol=1e-8)
    assert gap(list(found), list(torch.autograd.grad(direct.ys[1:].sum(), inputs))) < 1e-6


def test_dense_output_of_backsolve_is_kept_on_request_and_refuses_gradients() -> None:
    field, y0, t, _ = problem()
    with pytest.raises(InvalidValueError, match="dense=True"):
        solve(field, y0, t, gradient="backsolve").at(1.0)
    state = solve(field, y0, t, gradient="backsolve", dense=True).at(1.0)
    torch.testing.assert_close(state, solve(field, y0, t, gradient="tape").at(1.0))
    with pytest.raises(InvalidValueError, match="gradient="):
        state.sum().backward()


def test_rejected_steps_change_no_gradient() -> None:
    field, y0, t, _ = problem()
    options: dict[str, Any] = {"first_step": 2.0, "rtol": 1e-9, "atol": 1e-9}
    assert solve(field, y0, t, **options).stats.rejected > 0
    assert gap(gradients("checkpoint", **options), gradients("tape", **options)) < 1e-12
    assert gap(gradients("checkpoint", **options), gradients("tape", rtol=1e-11, atol=1e-11)) < 1e-6


def test_backward_evaluations_are_counted() -> None:
    field, y0, t, _ = problem()
    solution = solve(field, y0, t.detach())
    assert solution.stats.backward_nfe == 0
    solution.ys[-1].sum().backward()
    assert solution.stats.backward_nfe == 6 * solution.stats.accepted + 1


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_backward_pass_may_be_repeated_if_the_graph_is_retained(gradient: str) -> None:
    field, y0, t, _ = problem()
    loss = solve(field, y0, t, gradient=gradient).ys[-1].sum()
    first = torch.autograd.grad(loss, y0, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, y0)[0])


@pytest.mark.parametrize("gradient", ["checkpoint", "backsolve"])
def test_a_parameter_changed_before_the_backward_pass_raises(gradient: str) -> None:
    field, y0, t, _ = problem()
    loss = solve(field, y0, t, gradient=gradient).ys.sum()
    with torch.no_grad():
        next(field.parameters()).add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_partial_solution_has_the_gradients_of_what_was_reached(gradient: str) -> None:
    y0 = torch.ones(1, dtype=F64, requires_grad=True)
    solution = solve(
        lambda t, y: y * y, y0, [0.0, 0.5, 1.5], on_failure="partial", gradient=gradient, rtol=1e-8, atol=1e-8
    )
    (found,) = torch.autograd.grad(solution.ys[1].sum(), y0)
    assert float(found) == pytest.approx(4.0, rel=1e-5)  # y = y0 / (1 − y0 t)


def test_backsolve_keeps_no_step_and_backs_off_from_methods_it_cannot_run() -> None:
    field, y0, t, _ = problem()
    with pytest.raises(InvalidValueError, match="'checkpoint'"):
        solve(field, y0, t, method="kvaerno5", gradient="backsolve")


def test_backsolve_reports_a_failure_of_the_backward_solve() -> None:
    y0 = torch.ones(1, dtype=F64, requires_grad=True)
    # contracts forwards, so that it grows backwards and needs shorter steps
    solution = solve(lambda t, y: -40.0 * y, y0, [0.0, 6.0], gradient="backsolve", max_steps=120)
    with pytest.raises(NumericalError, match=r"at t = .*step \d+"):
        solution.ys[-1].sum().backward()


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_backsolve_is_as_accurate_for_small_and_large_losses(size: float) -> None:
    field, y0, t, weights = problem()
    inputs = [y0, *field.parameters()]
    loss = size * (solve(field, y0, t, gradient="backsolve").ys * weights).sum()
    truth = (solve(field, y0, t, gradient="tape", rtol=1e-11, atol=1e-11).ys * weights).sum()
    found = [g / size for g in torch.autograd.grad(loss, inputs)]
    assert gap(found, list(torch.autograd.grad(truth, inputs))) < 2e-4


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_float32_gradients(gradient: str) -> None:
    field, y0, t, weights = problem()
    single = Pendulums().float()
    y32 = y0.detach().float().requires_grad_()
    found = torch.autograd.grad(
        (solve(single, y32, t.detach(), gradient=gradient).ys * weights.float()).sum(),
        [y32, *single.parameters()],
    )
    truth = torch.autograd.grad(
        (solve(field, y0, t, gradient="tape").ys * weights).sum(), [y0, *field.parameters()]
    )
    assert gap([g.double() for g in found], list(truth)) < 1e-3


def test_no_graph_is_built_where_nothing_requires_grad() -> None:
    y0 = torch.ones(2, dtype=F64)
    for gradient in GRADIENTS:
        assert not solve(lambda t, y: -y, y0, [0.0, 1.0], gradient=gradient).ys.requires_grad
        with torch.no_grad():
            assert not solve(
                lambda t, y: -y, y0.clone().requires_grad_(), [0.0, 1.0], gradient=gradient
            ).ys.requires_grad


def test_func_grad_and_vmap_go_through_fixed_steps_on_the_tape() -> None:
    torch.manual_seed(0)
    weight, y0 = 0.5 * torch.randn(2, 2, dtype=F64), torch.randn(5, 2, dtype=F64)

    def loss(weight: Tensor, y0: Tensor) -> Tensor:
        return (
            solve(
                lambda t, y: torch.tanh(weight @ y),
                y0,
                [0.0, 0.3, 1.0],
                method="rk4",
                step_size=0.25,
                gradient="tape",
            )
            .ys.pow(2)
            .sum()
        )

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight, y0)
    for ours, row in zip(found, y0):
        leaf = weight.clone().requires_grad_()
        torch.testing.assert_close(ours, torch.autograd.grad(loss(leaf, row), leaf)[0])


@pytest.mark.parametrize("options", [{}, {"gradient": "tape"}], ids=["checkpoint", "adaptive tape"])
def test_func_transforms_that_cannot_work_say_what_can(options: dict) -> None:
    def end(y0: Tensor) -> Tensor:
        return solve(lambda t, y: -y, y0, [0.0, 1.0], **options).ys[-1]

    with pytest.raises(InvalidValueError, match=r"gradient='tape'.*fixed step_size"):
        torch.func.vmap(end)(torch.ones(3, 2, dtype=F64))
