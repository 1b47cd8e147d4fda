"""Tensors that a field reaches without being given them: they get their gradients, or an error, never silence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidValueError
from fingerpost.ode import solve

F64 = torch.float64
LISTED = ("checkpoint", "backsolve")
TIMES = [0.0, 0.4, 1.0]


def y0() -> Tensor:
    return torch.linspace(-1, 1, 6, dtype=F64).reshape(3, 2)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 2).double()


class Field(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = linear()

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.net(y))

    def other(self, t: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.net(y)) * t


def of_module() -> tuple[Callable, list[Tensor]]:
    field = Field()
    return field, list(field.parameters())


def of_bound_method() -> tuple[Callable, list[Tensor]]:
    field = Field()
    return field.other, list(field.parameters())


def of_lambda() -> tuple[Callable, list[Tensor]]:
    net = linear()
    return lambda t, y: torch.tanh(net(y)), list(net.parameters())


def of_partial() -> tuple[Callable, list[Tensor]]:
    net = linear()

    def field(scale: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return scale * torch.tanh(net(y))

    scale = torch.tensor(0.7, dtype=F64, requires_grad=True)
    return functools.partial(field, scale), [scale, *net.parameters()]


def of_nested_closure() -> tuple[Callable, list[Tensor]]:
    net = linear()

    def inner(y: Tensor) -> Tensor:
        return torch.tanh(net(y))

    return lambda t, y: inner(y), list(net.parameters())


def of_leaf_tensors() -> tuple[Callable, list[Tensor]]:
    tensors = [torch.full((2,), 0.3 * (i + 1), dtype=F64, requires_grad=True) for i in range(3)]
    held = {"a": tensors[0], "rest": tensors[1:]}
    return lambda t, y: torch.tanh(y * held["a"]) * held["rest"][0] + held["rest"][1], tensors


def of_shared_parameters() -> tuple[Callable, list[Tensor]]:
    net = linear()
    twice = nn.Sequential(net, nn.Tanh(), net)
    return lambda t, y: twice(y) + net.weight.sum(), list(net.parameters())


FIELDS = [
    of_module,
    of_bound_method,
    of_lambda,
    of_partial,
    of_nested_closure,
    of_leaf_tensors,
    of_shared_parameters,
]


def gradients(f: Callable, wanted: list[Tensor], gradient: str, **options: Any) -> list[Tensor | None]:
    ys = solve(f, y0(), TIMES, rtol=1e-9, atol=1e-9, gradient=gradient, **options).ys
    return list(torch.autograd.grad(ys.pow(2).sum(), wanted, allow_unused=True))


@pytest.mark.parametrize("make", FIELDS)
@pytest.mark.parametrize("gradient", LISTED)
def test_every_way_to_hold_parameters_gives_the_tapes_gradients(make: Callable, gradient: str) -> None:
    f, params = make()
    for ours, theirs in zip(gradients(f, params, gradient), gradients(f, params, "tape")):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def hypernetwork() -> tuple[Callable, Tensor, list[Tensor]]:
    """A field whose weights are computed outside of it."""
    hyper = linear()
    weight = hyper(torch.eye(2, dtype=F64))
    return (lambda t, y: torch.tanh(y @ weight)), weight, list(hyper.parameters())


@pytest.mark.parametrize("gradient", LISTED)
def test_computed_weights_raise_unless_they_are_passed(gradient: str) -> None:
    f, weight, params = hypernetwork()
    with pytest.raises(InvalidValueError, match=r"computed outside.*params=\(\.\.\.\).*gradient='tape'"):
        solve(f, y0(), TIMES, gradient=gradient)
    truth = gradients(f, params, "tape")
    f, weight, params = hypernetwork()
    for ours, theirs in zip(gradients(f, params, gradient, params=[weight]), truth):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("gradient", LISTED)
def test_a_module_that_holds_a_computed_tensor_raises_too(gradient: str) -> None:
    class Conditioned(Field):
        context: Tensor

        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return torch.tanh(self.net(y)) + self.context

    field, encoder = Conditioned(), linear()
    field.context = encoder(torch.ones(3, 2, dtype=F64))
    with pytest.raises(InvalidValueError, match="computed outside"):
        solve(field, y0(), TIMES, gradient=gradient)
    solve(field, y0(), TIMES, gradient=gradient, params=[field.context]).ys.sum().backward()
    assert encoder.weight.grad is not None
    assert encoder.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("gradient", LISTED)
@pytest.mark.parametrize("late", ["leaf", "computed"])
@pytest.mark.parametrize("module", [False, True])
def test_a_tensor_used_only_later_raises_in_the_backward_pass(gradient: str, late: str, module: bool) -> None:
    leaf = torch.tensor(0.5, dtype=F64, requires_grad=True)
    held = [leaf if late == "leaf" else leaf * 3]

    class Late(Field):
        def forward(self, t: Tensor, y: Tensor) -> Tensor:
            return self.net(y) * held[0] if t > 0.5 else self.net(y)

    field = Late()
    f = field if module else lambda t, y: field(t, y)
    loss = solve(f, y0(), TIMES, gradient=gradient).ys.sum()
    with pytest.raises(InvalidValueError, match=r"at t = .*params=\(\.\.\.\)"):
        loss.backward()
    found = []
    for name in (gradient, "tape"):
        held[0] = leaf if late == "leaf" else leaf * 3
        found.append(gradients(f, [leaf, field.net.weight], name, params=[held[0]]))
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("gradient", ["tape", *LISTED])
def test_what_does_not_matter_has_no_gradient_and_frozen_parameters_get_none(gradient: str) -> None:
    field = Field()
    field.net.bias.requires_grad_(False)
    field.idle = nn.Parameter(torch.ones(2, dtype=F64))
    solve(field, y0(), TIMES, gradient=gradient).ys.sum().backward()
    assert field.net.weight.grad is not None
    assert field.net.bias.grad is None
    assert field.idle.grad is None


@pytest.mark.parametrize("gradient", ["tape", *LISTED])
def test_a_field_without_parameters_differentiates_the_state_alone(gradient: str) -> None:
    state = y0().requires_grad_()
    (found,) = torch.autograd.grad(
        solve(lambda t, y: -y, state, TIMES, gradient=gradient).ys[-1].sum(), state
    )
    torch.testing.assert_close(
        found, torch.full_like(found, float(torch.tensor(-1.0).exp())), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("gradient", ["tape", *LISTED])
def test_a_field_that_ignores_the_state(gradient: str) -> None:
    speed = torch.ones(3, 2, dtype=F64, requires_grad=True)
    state = y0().requires_grad_()
    ys = solve(lambda t, y: speed * t, state, TIMES, gradient=gradient).ys
    found = torch.autograd.grad(ys[-1].sum(), [speed, state])
    torch.testing.assert_close(found[0], torch.full_like(speed, 0.5))
    torch.testing.assert_close(found[1], torch.ones_like(state))


@pytest.mark.parametrize("gradient", LISTED)
def test_a_computed_initial_state_passes_its_gradient_on(gradient: str) -> None:
    encoder, field = linear(), Field()
    state = encoder(y0())
    solve(lambda t, y: field(t, y), state, TIMES, gradient=gradient).ys.sum().backward()
    assert encoder.weight.grad is not None
    assert encoder.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("gradient", LISTED)
def test_a_field_that_differentiates_inside_keeps_its_parameters_gradients(gradient: str) -> None:
    net = linear()

    def potential_flow(t: Tensor, y: Tensor) -> Tensor:
        with torch.enable_grad():
            x = y if y.requires_grad else y.detach().requires_grad_()
            return -torch.autograd.grad(torch.tanh(net(x)).pow(2).sum(), x, create_graph=True)[0]

    params = [net.weight, net.bias]
    for ours, theirs in zip(
        gradients(potential_flow, params, gradient), gradients(potential_flow, params, "tape")
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_the_parameters_own_gradients_are_not_touched_by_a_solve() -> None:
    field = Field()
    field.net.weight.grad = torch.ones_like(field.net.weight)
    torch.autograd.grad(solve(field, y0(), TIMES).ys.sum(), field.net.weight)
    assert torch.equal(field.net.weight.grad, torch.ones_like(field.net.weight))


def test_a_random_field_is_refused_where_it_would_be_replayed() -> None:
    net = nn.Sequential(linear(), nn.Dropout(0.3))
    torch.manual_seed(0)
    loss = solve(lambda t, y: net(y), y0(), TIMES, method="rk4", step_size=0.1).ys.sum()
    with pytest.raises(InvalidValueError, match=r"dropout.*gradient='tape'"):
        loss.backward()
    net.eval()
    solve(lambda t, y: net(y), y0(), TIMES, method="rk4", step_size=0.1).ys.sum().backward()
