"""Gamma: velocity, densities and distribution function against 20 digits, and what torch's own gets wrong."""

from __future__ import annotations

import mpmath
import pytest
import torch
from torch.distributions import kl_divergence

from distributions.tables import columns, second_derivatives, worst
from fingerpost.distributions import Gamma
from fingerpost.distributions._gamma_expansion import expansion
from fingerpost.distributions._incomplete_gamma import _velocity_integral

PARAMETERS = ("concentration", "rate")


def reference(float32: bool = False):
    table = columns("gamma", float32)
    dtype = torch.float32 if float32 else torch.float64
    parameters = {name: table[name].to(dtype).requires_grad_() for name in PARAMETERS}
    return table, parameters, table["value"].to(dtype).requires_grad_()


@pytest.mark.parametrize(("float32", "bound"), [(False, 1e-12), (True, 2e-7)])
def test_velocity_is_right_to_twelve_digits_and_to_rounding_in_float32(float32, bound):
    table, parameters, value = reference(float32)
    for name, found in Gamma(**parameters).velocity(value).items():
        assert worst(found, table[f"d_{name}"]) < bound


def test_torch_s_own_gradient_is_wrong_by_a_percent_on_the_same_table():
    table, parameters, value = reference()
    unit = parameters["rate"] == 1
    theirs = torch._standard_gamma_grad(parameters["concentration"].detach(), value.detach())
    assert worst(theirs[unit], table["d_concentration"][unit]) > 1e-2


def test_second_derivatives_are_right_to_ten_digits_of_their_parts():
    table, parameters, value = reference()
    found = second_derivatives(Gamma(**parameters).velocity(value), parameters, value)
    assert len(found) == 3
    for key, (second, parts) in found.items():
        assert worst(second, table[key], parts) < 1e-11, key


def points(least, decades, width):
    generator = torch.Generator().manual_seed(0)
    u, v = torch.rand(2, 20_000, dtype=torch.float64, generator=generator)
    a = least * 10 ** (decades * u)
    return a * torch.exp(width * (2 * v - 1)), a


def test_the_series_in_one_over_a_is_the_integral_where_that_is_exact():
    z, a = points(10.0, 1.0, 1.5)
    integral = _velocity_integral(z, a, torch.digamma(a), 40)
    assert worst(expansion(z, a, (z / a).log(), 12, 24), integral) < 3e-13


@pytest.mark.parametrize(
    ("least", "width", "orders", "count"),
    [(2500, 0.2, 4, 10), (400, 0.4, 5, 12), (100, 0.7, 6, 16), (10, 1.5, 12, 24)],
)
def test_the_series_in_one_over_a_has_enough_terms_where_it_is_used(least, width, orders, count):
    z, a = points(least, 3.0, width)
    ratio = (z / a).log()
    assert worst(expansion(z, a, ratio, orders, count), expansion(z, a, ratio, 16, 34)) < 1e-13


def test_a_batch_of_all_sizes_has_the_velocities_of_each_alone():
    torch.manual_seed(0)
    a = 10 ** torch.linspace(-3, 5, 400, dtype=torch.float64)
    z = Gamma(a, 1.0).sample()
    together = Gamma(a, 1.0).velocity(z)["concentration"]
    alone = torch.stack([Gamma(x, 1.0).velocity(y)["concentration"] for x, y in zip(a, z)])
    assert worst(together, alone) < 2e-12


def test_log_prob_and_cdf_are_right_over_the_whole_table():
    table, parameters, value = reference()
    distribution = Gamma(**parameters)
    assert worst(distribution.log_prob(value), table["log_prob"], 1.0) < 1e-13
    assert worst(distribution.cdf(value), table["cdf"]) < 1e-12


def test_the_cdf_moves_at_the_density_times_the_velocity():
    table, parameters, value = reference()
    slopes = torch.autograd.grad(Gamma(**parameters).cdf(value).sum(), [*parameters.values(), value])
    density = table["log_prob"].exp()
    for name, slope in zip((*PARAMETERS, "value"), slopes):
        expected = density if name == "value" else -density * table[f"d_{name}"]
        assert worst(slope, expected) < 1e-12, name


def test_cdf_passes_gradgradcheck():
    a, rate, z = (
        torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for x in ([0.3, 2.0, 70.0], 1.5, [0.2, 3.0, 50.0])
    )
    assert torch.autograd.gradgradcheck(lambda *x: Gamma(x[0], x[1]).cdf(x[2]), (a, rate, z))


@pytest.mark.parametrize("a", [1e-3, 0.5, 11.9, 12.1, 1e5, 1e12])
def test_entropy_and_its_derivatives_do_not_cancel(a):
    leaf = torch.tensor(a, dtype=torch.float64, requires_grad=True)
    entropy = Gamma(leaf, 2.0).entropy()
    (slope,) = torch.autograd.grad(entropy, leaf, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, leaf)
    with mpmath.workdps(60):
        x = mpmath.mpf(a)
        expected = x - mpmath.log(2) + mpmath.loggamma(x) + (1 - x) * mpmath.psi(0, x)
        first = 1 + (1 - x) * mpmath.psi(1, x)
        second = -mpmath.psi(1, x) + (1 - x) * mpmath.psi(2, x)
        assert entropy.item() == pytest.approx(float(expected), rel=1e-13)
        assert slope.item() == pytest.approx(float(first), rel=1e-10)
        assert curvature.item() == pytest.approx(float(second), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("a", [1e-3, 1e-2, 1.0, 1e5])
@pytest.mark.parametrize("rate", [1e-3, 1e3])
def test_samples_and_gradients_are_finite_inside_the_support_at_extreme_parameters(dtype, a, rate):
    torch.manual_seed(0)
    concentration = torch.full((2000,), a, dtype=dtype, requires_grad=True)
    z = Gamma(concentration, torch.tensor(rate, dtype=dtype)).rsample()
    assert bool((z > 0).all())
    assert bool(torch.isfinite(z).all())
    (slope,) = torch.autograd.grad(z.log().sum() if a > 0.1 else z.sum(), concentration)
    assert bool(torch.isfinite(slope).all())


def test_kl_divergence_is_that_of_torch():
    ours = kl_divergence(Gamma(2.0, 3.0), Gamma(1.5, 0.5))
    theirs = kl_divergence(torch.distributions.Gamma(2.0, 3.0), torch.distributions.Gamma(1.5, 0.5))
    assert torch.equal(ours, theirs)


def test_the_gradient_of_a_mean_is_unbiased():
    """E z = α/β and E z² = α(α + 1)/β²: derivatives from samples within five standard errors."""
    torch.manual_seed(3)
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    z = Gamma(a.expand(40_000), 2.0).rsample()
    moment = z.square()
    (slopes,) = torch.autograd.grad(moment.sum(), a)
    per_sample = 2 * z.detach() * Gamma(a.detach(), 2.0).velocity(z.detach())["concentration"]
    error = float(per_sample.std()) / 200
    assert float(slopes) / 40_000 == pytest.approx((2 * 0.7 + 1) / 4, abs=5 * error)


def test_the_density_at_zero_is_that_of_torch():
    a = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    theirs = torch.distributions.Gamma(a, 3.0).log_prob(zero)
    torch.testing.assert_close(Gamma(a, 3.0).log_prob(zero), theirs, rtol=1e-12, atol=1e-12)
    assert bool(torch.isfinite(Gamma(a, 3.0).velocity(zero)["concentration"]).all())
