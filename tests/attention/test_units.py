"""The gated unit: nn.GRU where it resets after the product, the paper's where before, and its hand-written way back."""

import pytest
import torch
from torch import nn

from attention.direct import unit_step
from fingerpost.attention import GatedUnit
from fingerpost.errors import InvalidValueError, ShapeError

f64 = {"dtype": torch.float64}


def unit(reset, context=0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = GatedUnit(3, 4, context_size=context, reset=reset).double()
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, **f64))
    return made


def as_gru(made):
    """nn.GRU's rows are r, z, n, and its z keeps the old state: signs turned."""
    n = made.hidden_size
    gru = nn.GRU(made.input_size, n).double()

    def mapped(rows):
        z, r, candidate = rows.split(n)
        return torch.cat([r, -z, candidate])

    with torch.no_grad():
        gru.weight_ih_l0.copy_(mapped(made.input.weight))
        gru.bias_ih_l0.copy_(mapped(made.input.bias))
        gru.weight_hh_l0.copy_(mapped(made.recurrent))
        gru.bias_hh_l0.zero_()[2 * n :].copy_(made.inner_bias)
    return gru


@pytest.mark.parametrize("fused", [True, False])
def test_resetting_after_is_nn_gru_with_its_gate_turned(fused):
    made, x = unit("after"), torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(1), **f64)
    start = torch.randn(2, 4, generator=torch.Generator().manual_seed(2), **f64)
    wanted, _ = as_gru(made)(x, start[None])
    torch.testing.assert_close(made.scan(made.input(x), start, fused=fused), wanted)


@pytest.mark.parametrize("reset", ["before", "after"])
def test_one_step_is_the_equations_for_any_leading_axes(reset):
    made = unit(reset, context=2)
    x, s, c = (torch.randn(2, 5, n, generator=torch.Generator().manual_seed(n), **f64) for n in (3, 4, 2))
    found = made(x, s, c)
    for i in range(2):
        for j in range(5):
            torch.testing.assert_close(found[i, j], unit_step(made, x[i, j], s[i, j], c[i, j]))


def test_the_two_resets_are_different_units():
    before, after = unit("before"), unit("after")
    with torch.no_grad():
        after.inner_bias.zero_()
        for name, p in before.named_parameters():
            after.get_parameter(name).copy_(p)
    x, s = torch.ones(1, 3, **f64), torch.ones(1, 4, **f64)
    assert (before(x, s) - after(x, s)).abs().max() > 1e-2


@pytest.mark.parametrize("reset", ["before", "after"])
def test_the_hand_written_way_back_is_the_derivative(reset):
    made = unit(reset)
    gates = torch.randn(4, 2, 12, generator=torch.Generator().manual_seed(1), **f64).requires_grad_()
    start = torch.randn(2, 4, generator=torch.Generator().manual_seed(2), **f64).requires_grad_()
    inputs = [gates, start, made.recurrent, *([] if made.inner_bias is None else [made.inner_bias])]

    def states(gates, start, *_):
        return made.scan(gates, start)

    assert torch.autograd.gradcheck(states, inputs)


@pytest.mark.parametrize("reset", ["before", "after"])
def test_a_closed_gate_keeps_the_state_to_the_last_bit_and_lets_no_gradient_through(reset):
    made = unit(reset)
    gates = torch.randn(3, 2, 12, generator=torch.Generator().manual_seed(1), **f64)
    gates[1, 0, :4] = -torch.inf
    gates.requires_grad_()
    states = made.scan(gates, torch.zeros(2, 4, **f64))
    assert (states[1, 0] == states[0, 0]).all()
    (grad,) = torch.autograd.grad(states[-1].sum(), gates)
    assert torch.isfinite(grad).all()
    assert (grad[1, 0] == 0).all()
    assert (grad[1, 1] != 0).all()


def test_going_back_twice_gives_the_same_twice():
    made = unit("before")
    gates = torch.randn(4, 2, 12, generator=torch.Generator().manual_seed(1), **f64).requires_grad_()
    value = made.scan(gates, torch.zeros(2, 4, **f64)).square().sum()
    first, second = (torch.autograd.grad(value, gates, retain_graph=True)[0] for _ in range(2))
    assert (first == second).all()


def test_bad_calls_are_refused_with_shapes():
    made = unit("before", context=2)
    x, s, c = torch.zeros(1, 3, **f64), torch.zeros(1, 4, **f64), torch.zeros(1, 2, **f64)
    with pytest.raises(ShapeError, match=r"x has shape \(1, 4\); expected \(…, 3\)"):
        made(s, s, c)
    with pytest.raises(ShapeError, match=r"context has shape \(1, 3\); expected \(…, 2\)"):
        made(x, s, x)
    with pytest.raises(InvalidValueError, match="context is missing"):
        made(x, s)
    with pytest.raises(InvalidValueError, match="context is given"):
        unit("before")(x, s, c)
