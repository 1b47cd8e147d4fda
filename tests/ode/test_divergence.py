import math
import sys

import pytest
import torch
from torch import nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.ode.divergence import divergence, draw_probes

EXACT = ["exact", "exact-vjp", "exact-jvp"]


def network(size, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(size, 9), nn.Tanh(), nn.Linear(9, size)).double()
    return lambda t, y: net(y.flatten(1)).view_as(y) * (1 + t), list(net.parameters())


def states(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def jacobian_traces(f, t, y):
    def trace(row):
        jacobian = torch.autograd.functional.jacobian(lambda z: f(t, z[None])[0].flatten(), row)
        return jacobian.reshape(row.numel(), row.numel()).trace()

    return torch.stack([trace(row) for row in y])


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (4, 5), (2, 3, 2, 2), (0, 3)])
def test_exact_methods_are_the_trace_of_the_jacobian(method, shape):
    f, _ = network(math.prod(shape[1:]))
    y = states(*shape)
    value, trace = divergence(f, 0.5, y, method=method)
    assert torch.allclose(value, f(0.5, y), rtol=1e-14)
    assert trace.shape == (shape[0],)
    if len(y):
        assert torch.allclose(trace, jacobian_traces(f, 0.5, y), rtol=1e-12)


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_every_grad_mode_gives_the_same_numbers_and_graphs_only_when_asked(method, mode):
    f, parameters = network(3)
    y = states(4, 3)
    expected = jacobian_traces(f, 0.0, y)
    with mode():
        value, trace = divergence(f, 0.0, y, method=method)
        wanted = torch.is_grad_enabled()
    assert torch.allclose(trace, expected, rtol=1e-12)
    assert value.requires_grad == trace.requires_grad == wanted
    assert all(p.grad is None for p in parameters)


@pytest.mark.parametrize("method", [*EXACT, "hutchinson"])
def test_trace_can_be_differentiated_twice(method):
    f, parameters = network(3)
    y = states(2, 3).requires_grad_()
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    probes = draw_probes(y, 2, generator=torch.Generator().manual_seed(0)) if method == "hutchinson" else None

    def both(t, y, *_):
        value, trace = divergence(f, t, y, method=method, probes=probes)
        return value.sum(0), trace

    assert torch.autograd.gradcheck(both, (t, y, *parameters))
    assert torch.autograd.gradgradcheck(both, (t, y, *parameters), atol=1e-6)


@pytest.mark.parametrize("method", [*EXACT, "hutchinson"])
def test_nothing_to_differentiate_leaves_no_graph(method):
    value, trace = divergence(lambda t, y: y**2, 0.0, states(2, 3), method=method)
    assert not value.requires_grad
    assert not trace.requires_grad


def test_batched_and_looped_products_agree_on_both_sides_of_the_switch(monkeypatch):
    f, parameters = network(4)
    y = states(3, 4).requires_grad_()
    gradients = []
    for rows in (0, 10_000):
        monkeypatch.setattr(sys.modules["fingerpost.ode.divergence"], "_BATCHED_ROWS", rows)
        trace = divergence(f, 0.0, y)[1]
        gradients.append([trace, *torch.autograd.grad(trace.sum(), [y, *parameters], allow_unused=True)])
    for a, b in zip(*gradients):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, rtol=1e-13)


class _Unbatchable(torch.autograd.Function):
    """Its backward reads a number, which no batching rule allows."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, *grads):
        (x,) = ctx.saved_tensors
        if not math.isfinite(float(grads[0].sum())):
            raise AssertionError
        return 2 * x * grads[0]


def test_an_operator_without_a_batching_rule_falls_back_to_the_loop():
    y = states(2, 5)
    assert torch.allclose(divergence(lambda t, y: _Unbatchable.apply(y), 0.0, y)[1], 2 * y.sum(1))


def test_fields_may_close_over_one_condition_per_sample():
    condition = states(4, 3, seed=5)
    y = states(4, 3)
    assert torch.allclose(divergence(lambda t, y: condition * y**2, 0.0, y)[1], (2 * condition * y).sum(1))


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("size", [2, 5])
def test_times_may_differ_by_sample(method, size):
    t, y = torch.arange(4, dtype=torch.float64), states(4, size)
    trace = divergence(lambda t, y: t[:, None] * y**2, t, y, method=method)[1]
    assert torch.allclose(trace, 2 * t * y.sum(1))


@pytest.mark.parametrize("method", [*EXACT, "hutchinson"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_field_that_ignores_the_state_has_no_divergence(method, size):
    y = states(3, size)
    weight = torch.ones(1, size, dtype=torch.float64, requires_grad=True)
    for f in (lambda t, y: torch.ones_like(y), lambda t, y: weight * 2 + torch.zeros_like(y)):
        assert torch.equal(divergence(f, 0.0, y, method=method)[1], y.new_zeros(3))


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_hutchinson_is_unbiased_with_the_variance_its_page_states(distribution):
    matrix = states(3, 3)
    y, count = torch.zeros(1, 3, dtype=torch.float64), 6_000
    probes = draw_probes(y, count, distribution=distribution, generator=torch.Generator().manual_seed(0))
    each = torch.einsum("kbi,ij,kbj->k", probes, matrix, probes)
    trace = divergence(lambda t, y: y @ matrix.T, 0.0, y, method="hutchinson", probes=probes)[1]
    symmetric = (matrix + matrix.T) / 2
    off = symmetric.square().sum() - symmetric.diagonal().square().sum()
    variance = 2 * (off if distribution == "rademacher" else symmetric.square().sum())
    assert torch.allclose(trace, each.mean(), rtol=1e-10)
    assert abs(trace.item() - matrix.trace()) < 4 * (variance / count).sqrt()
    assert each.var() == pytest.approx(variance.item(), rel=0.08)


def test_probes_are_reproducible_and_may_be_a_number_or_a_tensor():
    f, _ = network(3)
    y = states(2, 3)
    probes = draw_probes(y, 2, generator=torch.Generator().manual_seed(7))
    by_count = divergence(
        f, 0.0, y, method="hutchinson", probes=2, generator=torch.Generator().manual_seed(7)
    )
    assert torch.equal(by_count[1], divergence(f, 0.0, y, method="hutchinson", probes=probes)[1])
    one = divergence(f, 0.0, y, method="hutchinson", probes=probes[0])[1]
    assert torch.equal(one, divergence(f, 0.0, y, method="hutchinson", probes=probes[:1])[1])


@pytest.mark.parametrize(
    ("keywords", "y", "error", "match"),
    [
        ({"method": "exakt"}, torch.ones(2, 2), InvalidValueError, "did you mean 'exact'"),
        ({"probes": 1}, torch.ones(2, 2), InvalidValueError, "method='hutchinson'"),
        ({"method": "hutchinson", "probes": 0}, torch.ones(2, 2), InvalidValueError, "at least 1"),
        ({"method": "hutchinson", "probes": torch.ones(3)}, torch.ones(2, 2), ShapeError, r"\(3,\)"),
        ({}, torch.ones(3), ShapeError, "batch axis"),
        ({}, torch.ones(2, 2, dtype=torch.int64), InvalidTypeError, "int64"),
        ({}, torch.ones(2, 2, dtype=torch.complex64), InvalidTypeError, "complex64"),
    ],
)
def test_bad_arguments_are_named(keywords, y, error, match):
    with pytest.raises(error, match=match):
        divergence(lambda t, y: y, 0.0, y, **keywords)


def test_bad_fields_and_distributions_are_named():
    y = torch.ones(2, 3)
    with pytest.raises(ShapeError, match=r"\(2, 2\)"):
        divergence(lambda t, y: y[:, :2], 0.0, y)
    with pytest.raises(InvalidTypeError, match="tuple"):
        divergence(lambda t, y: (y, y), 0.0, y)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidValueError, match="did you mean 'gaussian'"):
        draw_probes(y, distribution="gausian")
