"""Beta: velocity, densities and distribution function against 20 digits, and what torch's own gets wrong."""

from __future__ import annotations

import mpmath
import pytest
import torch
from mpmath import mpf
from torch.distributions import kl_divergence

from distributions.tables import columns, second_derivatives, worst
from fingerpost.distributions import Beta

PARAMETERS = ("concentration1", "concentration0")


def reference(float32: bool = False):
    table = columns("beta", float32)
    dtype = torch.float32 if float32 else torch.float64
    parameters = {name: table[name].to(dtype).requires_grad_() for name in PARAMETERS}
    return table, parameters, table["value"].to(dtype).requires_grad_()


@pytest.mark.parametrize(("float32", "bound"), [(False, 1e-13), (True, 2e-7)])
def test_velocity_is_right_to_thirteen_digits_and_to_rounding_in_float32(float32, bound):
    table, parameters, value = reference(float32)
    for name, found in Beta(**parameters).velocity(value).items():
        assert worst(found, table[f"d_{name}"]) < bound


def test_torch_s_own_gradient_is_wrong_in_the_third_digit_on_the_same_table():
    table, parameters, value = reference()
    a, b = (parameters[name].detach() for name in PARAMETERS)
    z, wide = value.detach(), table["concentration1"] >= 0.1
    point = torch.stack([z, 1 - z], -1)
    theirs = torch._dirichlet_grad(point, torch.stack([a, b], -1), (a + b)[:, None].expand(-1, 2))
    moved = theirs[:, 0] * (1 - z)
    assert worst(moved[wide], table["d_concentration1"][wide]) > 1e-3


def test_second_derivatives_are_right_to_twelve_digits_of_their_parts():
    table, parameters, value = reference()
    found = second_derivatives(Beta(**parameters).velocity(value), parameters, value)
    assert len(found) == 3
    for key, (second, parts) in found.items():
        assert worst(second, table[key], parts) < 1e-12, key


def test_log_prob_and_cdf_are_right_over_the_whole_table():
    table, parameters, value = reference()
    distribution = Beta(**parameters)
    assert worst(distribution.log_prob(value), table["log_prob"], 1.0) < 1e-13
    assert worst(distribution.cdf(value), table["cdf"]) < 1e-12


def test_the_cdf_moves_at_the_density_times_the_velocity():
    table, parameters, value = reference()
    slopes = torch.autograd.grad(Beta(**parameters).cdf(value).sum(), [*parameters.values(), value])
    density = table["log_prob"].exp()
    for name, slope in zip((*PARAMETERS, "value"), slopes):
        expected = density if name == "value" else -density * table[f"d_{name}"]
        assert worst(slope, expected) < 1e-12, name


def test_velocity_between_the_table_s_rows_solves_the_equation_of_transport():
    """∂_z v = −∂_a log p − v ∂_z log p at 4000 points, over concentrations from 1e-3 to 1e4 and logits in reach of each."""
    generator = torch.Generator().manual_seed(0)
    a, b, x = torch.rand(3, 4000, dtype=torch.float64, generator=generator)
    a, b = (10 ** (7 * u - 3) for u in (a, b))
    z = torch.sigmoid((a / b).log() + (x - 0.5) * 12 * (1 / a + 1 / b).sqrt().clamp(max=3)).clamp(
        1e-20, 1 - 1e-12
    )
    a, b, z = (u.detach().requires_grad_() for u in (a, b, z))
    distribution = Beta(a, b)
    by_a, by_b, by_z = torch.autograd.grad(distribution.log_prob(z).sum(), [a, b, z])
    for name, score in zip(PARAMETERS, (by_a, by_b)):
        velocity = distribution.velocity(z)[name]
        (slope,) = torch.autograd.grad(velocity.sum(), z)
        scale = score.abs() + (velocity * by_z).abs()
        assert worst(slope, -score - velocity * by_z, scale.detach()) < 3e-12, name


def test_swapping_the_concentrations_mirrors_the_velocity():
    a, b, z = (torch.tensor(x, dtype=torch.float64) for x in ([0.02, 3.0], [5.0, 0.4], [0.25, 0.75]))
    here, there = Beta(a, b).velocity(z), Beta(b, a).velocity(1 - z)
    assert torch.equal(here["concentration1"], -there["concentration0"])


@pytest.mark.parametrize(("a", "b"), [(1e-2, 3e-2), (0.5, 11.9), (12.1, 1e5), (1e8, 1e9)])
def test_entropy_and_its_derivatives_do_not_cancel(a, b):
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (a, b)]
    entropy = Beta(*leaves).entropy()
    slopes = torch.autograd.grad(entropy, leaves)
    with mpmath.workdps(60):
        x, y = mpf(a), mpf(b)
        expected = (
            mpmath.log(mpmath.beta(x, y)) - (x - 1) * mpmath.psi(0, x) - (y - 1) * mpmath.psi(0, y)
            + (x + y - 2) * mpmath.psi(0, x + y)
        )  # fmt: skip
        common = (x + y - 2) * mpmath.psi(1, x + y)
        assert entropy.item() == pytest.approx(float(expected), rel=1e-13)
        for slope, u in zip(slopes, (x, y)):
            assert slope.item() == pytest.approx(float(common - (u - 1) * mpmath.psi(1, u)), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("a", "b"), [(1e-2, 1e-2), (1e-2, 1e3), (1e3, 1e-2), (1e3, 1e3)])
def test_samples_and_gradients_are_finite_inside_the_open_interval(dtype, a, b):
    torch.manual_seed(0)
    leaves = [torch.full((5000,), x, dtype=dtype, requires_grad=True) for x in (a, b)]
    z = Beta(*leaves).rsample()
    assert bool(((z > 0) & (z < 1)).all())
    for slope in torch.autograd.grad(z.sum(), leaves):
        assert bool(torch.isfinite(slope).all())


def test_tiny_concentrations_are_sampled_at_both_ends_in_the_right_proportion():
    torch.manual_seed(0)
    z = Beta(torch.full((40_000,), 0.01), torch.tensor(0.03)).sample()
    assert float(z.mean()) == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / 40_000) ** 0.5)


def test_kl_divergence_is_that_of_torch():
    ours = kl_divergence(Beta(2.0, 3.0), Beta(1.5, 0.5))
    theirs = kl_divergence(torch.distributions.Beta(2.0, 3.0), torch.distributions.Beta(1.5, 0.5))
    assert torch.equal(ours, theirs)


def test_densities_at_the_ends_are_those_of_torch_and_velocities_are_finite():
    a = torch.tensor([0.5, 1.0, 2.0, 1.0], dtype=torch.float64)
    b = a.flip(0)
    for end in (0.0, 1.0):
        z = torch.full((4,), end, dtype=torch.float64)
        theirs = torch.distributions.Beta(a, b).log_prob(z)
        torch.testing.assert_close(Beta(a, b).log_prob(z), theirs, rtol=1e-12, atol=1e-12)
        for velocity in Beta(a, b).velocity(z).values():
            assert bool(torch.isfinite(velocity).all())
