"""Dirichlet: the flow solves the equation of transport, and first and second derivatives of expectations are unbiased."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import kl_divergence

from fingerpost.distributions import Beta, Dirichlet

CONCENTRATIONS = [
    [1.0, 2.0, 3.0],
    [0.02, 0.5, 7.0],
    [300.0, 2.0, 0.1],
    [1e3, 1e3, 1e3],
    [0.3, 0.3, 0.3, 0.3, 5.0],
]


def leaf(values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("values", CONCENTRATIONS)
def test_each_column_of_the_velocity_solves_the_equation_of_transport(values):
    """∂_j log p + Σ_i V_ij ∂_i log p + Σ_i ∂_i V_ij = 0 in the first K − 1 coordinates."""
    torch.manual_seed(0)
    a = leaf(values)
    points = Dirichlet(a.detach()).sample(torch.Size((20,))).clamp(1e-6)
    for point in points / points.sum(-1, keepdim=True):
        free = point[:-1].clone().requires_grad_()
        x = torch.cat([free, 1 - free.sum(0, keepdim=True)])
        density = Dirichlet(a).log_prob(x)
        by_a, by_x = torch.autograd.grad(density, [a, free], retain_graph=True)
        flow = Dirichlet(a).velocity(x)["concentration"][:-1]
        for j in range(len(a)):
            divergence = sum(
                torch.autograd.grad(flow[i, j], free, retain_graph=True)[0][i] for i in range(len(free))
            )
            parts = [by_a[j], (flow[:, j] * by_x).sum(), divergence]
            parts = torch.stack(parts).detach()
            assert float(parts.sum().abs()) < 1e-10 * float(parts.abs().sum())


def test_two_components_are_a_beta_distribution():
    a = torch.tensor([[0.3, 2.0], [50.0, 0.01]], dtype=torch.float64)
    z = torch.tensor([0.2, 0.97], dtype=torch.float64)
    ours, beta = Dirichlet(a), Beta(a[:, 0], a[:, 1])
    x = torch.stack([z, 1 - z], -1)
    moved = torch.stack(list(beta.velocity(z).values()), -1)
    torch.testing.assert_close(ours.velocity(x)["concentration"][:, 0], moved, rtol=1e-13, atol=0)
    torch.testing.assert_close(ours.log_prob(x), beta.log_prob(z), rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(ours.entropy(), beta.entropy(), rtol=1e-13, atol=1e-14)


def test_samples_carry_the_jacobian_backwards_and_forwards():
    a = leaf([[0.3, 2.0, 5.0, 0.01], [1e3, 2e3, 1e-2, 40.0]])

    def draw(given):
        torch.manual_seed(1)
        return Dirichlet(given, validate_args=False).rsample(torch.Size((5,)))

    x, weights, tangent = draw(a), torch.randn(5, 2, 4).double(), torch.randn(2, 4).double()
    jacobian = Dirichlet(a.detach()).velocity(x.detach())["concentration"]
    (gradient,) = torch.autograd.grad((weights * x).sum(), a)
    torch.testing.assert_close(
        gradient, torch.einsum("sbi,sbij->bj", weights, jacobian), rtol=1e-12, atol=1e-14
    )
    _, pushed = torch.func.jvp(draw, (a.detach(),), (tangent,))
    torch.testing.assert_close(
        pushed, torch.einsum("sbij,bj->sbi", jacobian, tangent), rtol=1e-12, atol=1e-14
    )
    single = torch.func.grad(lambda given: (weights * draw(given)).sum())(a.detach())
    assert torch.equal(single, gradient)


def test_vmap_gives_each_concentration_a_draw_of_its_own():
    a = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).expand(6, 3)

    def gradient(given):
        return torch.func.grad(
            lambda c: Dirichlet(c, validate_args=False).rsample(torch.Size((4,)))[..., 0].sum()
        )(given)

    found = torch.func.vmap(gradient, randomness="different")(a)
    assert found.shape == (6, 3)
    assert len(torch.unique(found[:, 0])) == 6


def test_the_velocity_has_the_derivatives_of_finite_differences():
    a, x = leaf([0.8, 2.0, 5.0]), leaf([0.2, 0.35, 0.45])

    def velocity(given, point):
        return Dirichlet(given, validate_args=False).velocity(point / point.sum())["concentration"]

    assert torch.autograd.gradcheck(velocity, (a, x))


def moment(a, powers):
    """E Π x_i^n_i = Π (a_i)_n_i/(A)_N."""
    rising = [torch.lgamma(c + n) - torch.lgamma(c) for c, n in zip(a, powers)]
    return torch.exp(sum(rising) - torch.lgamma(a.sum() + sum(powers)) + torch.lgamma(a.sum()))


def second_derivatives_of_a_polynomial(count):
    """Per draw, ∂_i of V_j·∇f for f = x₁² x₂ − 2 x₁ x₃ + x₃³: shapes (count, 3) and (count, 3, 3)."""
    a = torch.tensor([0.7, 1.5, 3.0], dtype=torch.float64).expand(count, 3).clone().requires_grad_()
    x1, x2, x3 = Dirichlet(a).rsample().unbind(-1)
    value = x1**2 * x2 - 2 * x1 * x3 + x3**3
    (first,) = torch.autograd.grad(value.sum(), a, create_graph=True)
    rows = [torch.autograd.grad(first[:, j].sum(), a, retain_graph=True)[0] for j in range(3)]
    return first.detach(), torch.stack(rows, 1)


def test_gradient_and_hessian_of_an_expectation_are_unbiased():
    torch.manual_seed(4)
    count = 60_000
    first, second = second_derivatives_of_a_polynomial(count)
    a = leaf([0.7, 1.5, 3.0])

    def expectation(c):
        return moment(c, (2, 1, 0)) - 2 * moment(c, (1, 0, 1)) + moment(c, (0, 0, 3))

    gradient = torch.autograd.functional.jacobian(expectation, a)
    hessian = torch.autograd.functional.hessian(expectation, a)
    for found, expected in ((first, gradient), (second, hessian)):
        error = found.std(0) / math.sqrt(count)
        assert bool(((found.mean(0) - expected).abs() < 4.5 * error).all())
        assert bool((error < 0.05 * expected.abs().max()).all())


def test_the_flows_do_not_commute_so_that_one_draw_s_hessian_is_not_symmetric():
    torch.manual_seed(0)
    _, second = second_derivatives_of_a_polynomial(100)
    gap = (second - second.transpose(1, 2)).abs().amax((1, 2))
    assert float(gap.median()) > 0.01 * float(second.abs().amax((1, 2)).median())


def test_third_derivatives_raise():
    a = leaf([1.0, 2.0, 3.0])
    x = Dirichlet(a).rsample()
    (first,) = torch.autograd.grad(x[0], a, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), a, create_graph=True)
    with pytest.raises(NotImplementedError, match="derivative"):
        torch.autograd.grad(second.sum(), a)


def test_log_prob_is_torch_s_where_that_does_not_cancel_and_also_off_the_simplex():
    a = leaf([[0.7, 1.5, 3.0], [2.0, 0.1, 9.0]])
    x = torch.tensor([[0.2, 0.3, 0.5000004], [1e-9, 0.6, 0.4]], dtype=torch.float64)
    theirs = torch.distributions.Dirichlet(a, validate_args=False).log_prob(x)
    ours = Dirichlet(a, validate_args=False).log_prob(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)
    for mine, other in zip(torch.autograd.grad(ours.sum(), a), torch.autograd.grad(theirs.sum(), a)):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("a", [1e-2, 1.0, 1e3])
@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_samples_and_gradients_are_finite_and_in_the_support(dtype, a, count):
    torch.manual_seed(0)
    concentration = torch.full((500, count), a, dtype=dtype, requires_grad=True)
    distribution = Dirichlet(concentration, validate_args=count > 1)
    x = distribution.rsample()
    assert bool(distribution.support.check(x).all())
    assert bool((x > 0).all())
    (slope,) = torch.autograd.grad((x * torch.arange(1.0, count + 1)).sum(), concentration)
    assert bool(torch.isfinite(slope).all())


def test_float32_gradients_are_those_of_float64_rounded():
    torch.manual_seed(0)
    a = torch.tensor([0.05, 1.0, 400.0])
    x = Dirichlet(a).sample(torch.Size((200,)))
    single = Dirichlet(a).velocity(x)["concentration"]
    double = Dirichlet(a.double(), validate_args=False).velocity(x.double())["concentration"]
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-6, atol=1e-38)


def test_kl_divergence_is_that_of_torch():
    p, q = torch.tensor([2.0, 3.0, 0.5]), torch.tensor([1.5, 0.5, 1.0])
    theirs = kl_divergence(torch.distributions.Dirichlet(p), torch.distributions.Dirichlet(q))
    assert torch.equal(kl_divergence(Dirichlet(p), Dirichlet(q)), theirs)


def test_an_empty_batch_gives_empty_samples():
    a = torch.ones(0, 3, requires_grad=True)
    x = Dirichlet(a).rsample(torch.Size((4,)))
    assert x.shape == (4, 0, 3)
    x.sum().backward()
    assert a.grad is not None
    assert a.grad.shape == (0, 3)


def test_the_density_on_an_edge_is_that_of_torch():
    a = torch.tensor([[0.5, 1.0, 2.0], [1.0, 1.0, 2.0], [2.0, 1.0, 2.0]], dtype=torch.float64)
    x = torch.tensor([0.0, 0.25, 0.75], dtype=torch.float64)
    theirs = torch.distributions.Dirichlet(a).log_prob(x)
    torch.testing.assert_close(Dirichlet(a).log_prob(x), theirs, rtol=1e-12, atol=1e-12)
