"""What is written by hand equals automatic differentiation, for any sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fingerpost.credit import (
    ErrorCoordinates,
    GradientDescent,
    HopfieldNetwork,
    NudgedProblem,
    ResidualBlock,
    ResidualChain,
    free_phase,
    nudged_phase,
)
from fingerpost.credit._fused import FusedDescent
from fingerpost.credit._sweeps import AutogradSweeps, FusedSweeps, sweeps_of

from credit.chains import distance, mlp  # isort: skip

SIZES = {
    "depth": st.integers(1, 7),
    "width": st.integers(1, 12),
    "batch": st.integers(1, 9),
    "classes": st.integers(2, 5),
    "seed": st.integers(0, 1000),
    "activation": st.sampled_from(["tanh", "relu"]),
    "loss": st.sampled_from(["cross_entropy", "mse"]),
}


def with_biases(chain, seed):
    """Zero biases would hide a fault in how they are shifted."""
    draw = torch.Generator().manual_seed(seed)
    for block in chain.blocks:
        block.bias.data = torch.randn(block.bias.shape, generator=draw, dtype=torch.float64)
    return chain


def largest(a, b):
    return max(float((x - y).abs().max()) for x, y in zip(a, b))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**SIZES, steps=st.integers(1, 25), beta=st.floats(1e-3, 2.0), sign=st.sampled_from([1, -1]))
def test_fused_descent_is_autograd_for_any_sizes(steps, beta, sign, **sizes):
    chain, x, y = mlp(**sizes)
    with_biases(chain, sizes["seed"])
    assert FusedDescent.of(NudgedProblem(chain, free_phase(chain, x).states, y, beta)) is not None
    fused, slow = (
        nudged_phase(chain, x, y, solver=GradientDescent(fused=f), steps=steps, beta=beta, sign=sign)
        for f in (True, False)
    )
    assert largest(fused.states, slow.states) < 1e-12
    assert largest(fused.errors, slow.errors) < 1e-12
    assert fused.residual == pytest.approx(slow.residual, rel=1e-8, abs=1e-11)
    assert fused.steps == slow.steps == steps


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**SIZES, beta=st.floats(1e-3, 1.0))
def test_fused_sweeps_are_autograd_for_any_sizes(beta, **sizes):
    chain, x, y = mlp(**sizes)
    with_biases(chain, sizes["seed"])
    problem = NudgedProblem(chain, free_phase(chain, x).states, y, beta)
    fused, slow = sweeps_of(problem), AutogradSweeps(problem)
    assert isinstance(fused, FusedSweeps)
    errors = slow.down()
    assert largest(fused.down(), errors) < 1e-12
    for sweeps in (fused, slow):
        sweeps.up(errors)
    assert largest(fused.states(), slow.states()) < 1e-12
    for a, b in zip(fused.gradient(), slow.gradient()):
        assert largest(a, b) < 1e-12


@pytest.mark.parametrize("memory", [1, 2, 4])
def test_error_coordinates_by_hand_reach_what_autograd_reaches(memory, monkeypatch):
    chain, x, y = mlp(depth=5)
    solver = ErrorCoordinates(memory=memory)
    by_hand = nudged_phase(chain, x, y, solver=solver, beta=0.2, steps=4)
    monkeypatch.setattr("fingerpost.credit.solvers.error.sweeps_of", AutogradSweeps)
    slow = nudged_phase(chain, x, y, solver=solver, beta=0.2, steps=4)
    assert distance(by_hand.errors, slow.errors) < 1e-9
    assert largest(by_hand.states, slow.states) < 1e-9


def unlike(kind):
    blocks = [ResidualBlock(5), ResidualBlock(5)]
    if kind == "scales":
        blocks[1].scale = 0.5
    elif kind == "activations":
        blocks[1] = ResidualBlock(5, "relu")
    elif kind == "foreign":
        blocks[1] = nn.Sequential(nn.Linear(5, 5), nn.Tanh())
    else:
        blocks[1].register_forward_hook(lambda module, inputs, out: 2 * out)
    return ResidualChain(blocks, nn.Linear(5, 3)).double()


@pytest.mark.parametrize("kind", ["scales", "activations", "foreign", "hooked"])
@pytest.mark.parametrize("solver", ["gd", "error"])
def test_blocks_that_are_not_alike_are_left_to_autograd(kind, solver):
    chain = unlike(kind)
    x, y = torch.ones(2, 5, dtype=torch.float64), torch.tensor([0, 2])
    problem = NudgedProblem(chain, free_phase(chain, x).states, y, 0.1)
    assert FusedDescent.of(problem) is None
    assert isinstance(sweeps_of(problem), AutogradSweeps)
    out = nudged_phase(chain, x, y, solver=solver, beta=0.1, steps=5)
    gradient = problem.gradient(out.states)
    assert largest(gradient.errors, out.errors) < 1e-13


def test_a_relaxation_does_not_write_into_what_it_was_given():
    chain, x, y = mlp(depth=4)
    free = free_phase(chain, x)
    before = [h.clone() for h in free.states]
    for solver in ("gd", "error"):
        nudged_phase(chain, free, y, solver=solver, steps=6)
    assert all(torch.equal(a, b) for a, b in zip(free.states, before))


def test_residual_shows_a_two_cycle_of_simultaneous_updates():
    net = HopfieldNetwork([1, 1, 1], "tanh").double()
    for weight, value in zip(net.weights, (0.0, -4.0)):
        weight.data.fill_(value)
    net.biases[0].data.fill_(1.0)
    net.biases[1].data.fill_(1.0)
    x = torch.zeros(1, 1, dtype=torch.float64)
    even, odd = net.free_phase(x, 400), net.free_phase(x, 401)
    assert even.residual > 0.5
    assert largest(net.free_phase(x, 402).states, even.states) < 1e-12
    assert largest(odd.states, even.states) > 0.5
