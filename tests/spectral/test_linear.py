"""A linearised network is its model's first-order expansion, for every kind of network, and trains as one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.spectral import empirical_ntk, linearize
from spectral.architectures import CASES, Case, built, jacobian, mlp, plain, run

CLOSE = {"rtol": 1e-10, "atol": 1e-11}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return request.param


def moved(model: nn.Module, linear: nn.Module) -> torch.Tensor:
    """Moves the linear network's parameters, and returns by how much, in one row."""
    steps = []
    with torch.no_grad():
        for p in linear.parameters():
            if p.requires_grad:
                step = torch.randn_like(p)
                p += step
                steps.append(step.flatten())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == sum(map(len, steps))
    return torch.cat(steps)


def test_is_the_value_and_the_jacobian_times_the_step(case):
    x = case.samples(4)
    model = built(case, x)
    linear = linearize(model)
    torch.testing.assert_close(run(linear, x), run(model, x), **CLOSE)
    change = jacobian(model, x, 4) @ moved(model, linear)
    torch.testing.assert_close(run(linear, x), run(model, x) + change.view_as(run(model, x)), **CLOSE)


def test_tangent_kernel_stays_that_of_the_model_while_parameters_move():
    torch.manual_seed(0)
    model, x = mlp().double(), plain(5)
    linear = linearize(model)
    before = empirical_ntk(model, x, reduce="full")
    moved(model, linear)
    torch.testing.assert_close(empirical_ntk(linear, x, reduce="full"), before, **CLOSE)


def test_gradient_descent_follows_the_closed_form():
    torch.manual_seed(0)
    model, x = mlp().double(), plain(5)
    theta, y, rate, steps = empirical_ntk(model, x, reduce="full"), torch.randn(5, 3).double(), 0.01, 20
    linear = linearize(model)
    optimizer = torch.optim.SGD(linear.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (linear(x) - y).square().sum()).backward()
        optimizer.step()
    kernel = theta.permute(0, 2, 1, 3).reshape(15, 15)
    decay = torch.linalg.matrix_power(torch.eye(15).double() - rate * kernel, steps)
    expected = y.flatten() + decay @ (model(x) - y).flatten().detach()
    torch.testing.assert_close(linear(x).flatten(), expected, **CLOSE)


def test_works_under_torch_func():
    torch.manual_seed(0)
    model, x = mlp().double(), plain(5)
    linear = linearize(model)
    moved(model, linear)
    theta = {name: p.detach() for name, p in linear.named_parameters() if p.requires_grad}

    def one(values, sample):
        return functional_call(linear, values, (sample[None],))[0]

    found = vmap(jacrev(one), (None, 0))(theta, x)
    flat = torch.cat([j.flatten(2) for j in found.values()], 2)
    torch.testing.assert_close(flat, jacobian(model, x, 5), **CLOSE)


def test_model_is_not_changed_and_mode_stays(recwarn):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.5)).double().eval()
    before = copy.deepcopy(model.state_dict())
    linear = linearize(model).train()
    x = plain(4)
    torch.testing.assert_close(linear(x), model(x), **CLOSE)
    linear(x).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_state_dict_carries_the_linear_network():
    torch.manual_seed(0)
    model, other = mlp().double(), mlp().double()
    linear = linearize(model)
    moved(model, linear)
    again = linearize(other)
    again.load_state_dict(linear.state_dict())
    x = plain(3)
    assert torch.equal(again(x), linear(x))


def test_attention_settings_are_put_back():
    torch.manual_seed(0)
    case = CASES["transformer block"]
    x = case.samples(3)
    linear = linearize(built(case, x))
    before = (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled())
    linear(x)
    assert before == (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled())


def test_no_module_is_refused():
    with pytest.raises(InvalidTypeError, match="model is function"):
        linearize(lambda x: x)


def test_training_mode_dropout_is_refused_by_name():
    with pytest.raises(InvalidValueError, match="layer '1' \\(Dropout\\) is random"):
        linearize(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
