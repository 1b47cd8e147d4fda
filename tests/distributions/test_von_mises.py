"""Von Mises: velocity, density and distribution function against 20 digits, draws on the circle, and divergences."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch.distributions import kl_divergence

from distributions.tables import columns, worst
from fingerpost.distributions import VonMises

PARAMETERS = ("loc", "concentration")
CONCENTRATIONS = [1e-3, 0.1, 0.999, 1.0, 17.0, 1e3, 1e6]


def reference(float32: bool = False):
    table = columns("von_mises", float32)
    dtype = torch.float32 if float32 else torch.float64
    parameters = {name: table[name].to(dtype).requires_grad_() for name in PARAMETERS}
    return table, parameters, table["value"].to(dtype).requires_grad_()


def angle(x: float, **options) -> torch.Tensor:
    return torch.tensor([x], dtype=torch.float64, **options)


@pytest.mark.parametrize(("float32", "bound"), [(False, 1e-13), (True, 1.2e-7)])
def test_velocity_is_right_to_thirteen_digits_and_to_rounding_in_float32(float32, bound):
    table, parameters, value = reference(float32)
    for name, found in VonMises(**parameters).velocity(value).items():
        assert worst(found, table[f"d_{name}"]) < bound


def test_second_derivatives_are_right_to_twelve_digits():
    table, parameters, value = reference()
    found = VonMises(**parameters).velocity(value)["concentration"]
    along, *slopes = torch.autograd.grad(found.sum(), [value, *parameters.values()])
    total = slopes[1] + along * found.detach()
    assert worst(total, table["dd_concentration_concentration"]) < 1e-12
    assert torch.equal(slopes[0], -along)  # so that the mixed one is 0


@pytest.mark.parametrize("kappa", [0.99, 1.01, 5.0, 10.0, 17.0, 18.0, 40.0])
@pytest.mark.parametrize("spreads", [1e-3, 0.9, 1.01, 1.2, 2.0])
def test_velocity_and_tail_hold_where_the_side_of_integration_changes(kappa, spreads):
    x = spreads / math.sqrt(kappa)
    with mpmath.workdps(30):
        mean = mpmath.besseli(1, kappa) / mpmath.besseli(0, kappa)

        def ratio(u):
            return mpmath.exp(kappa * (mpmath.cos(u) - mpmath.cos(x)))

        points = mpmath.linspace(mpmath.mpf(x), mpmath.pi, 8)
        expected = mpmath.quad(lambda u: (mpmath.cos(u) - mean) * ratio(u), points)
        tail = mpmath.quad(ratio, points) * mpmath.exp(kappa * mpmath.cos(x))
        tail /= 2 * mpmath.pi * mpmath.besseli(0, kappa)
    law = VonMises(angle(0.0), angle(kappa))
    assert law.velocity(angle(x))["concentration"].item() == pytest.approx(float(expected), rel=2e-12)
    assert law.cdf(angle(-x)).item() == pytest.approx(float(tail), rel=2e-12)


def test_log_prob_and_cdf_are_right_to_rounding_in_float32():
    table, parameters, value = reference(float32=True)
    law = VonMises(**parameters)
    assert worst(law.log_prob(value), table["log_prob"], 1e-6) < 2e-7
    assert worst(law.cdf(value), table["cdf"], torch.finfo(torch.float32).tiny) < 2e-7


def test_log_prob_and_cdf_are_right_over_the_whole_table():
    table, parameters, value = reference()
    law = VonMises(**parameters)
    assert worst(law.log_prob(value), table["log_prob"], 1.0) < 1e-13
    assert worst(law.cdf(value), table["cdf"]) < 1e-13
    theirs = torch.distributions.VonMises(**parameters).log_prob(value)
    assert worst(theirs, table["log_prob"], 1.0) > 1e-8


def test_the_cdf_moves_at_the_density_times_the_velocity_twice():
    leaves = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.3, [0.4, 6.0], [1.0, -0.2])
    ]

    def cdf(loc, kappa, value):
        return VonMises(loc, kappa).cdf(value)

    assert torch.autograd.gradcheck(cdf, leaves)
    assert torch.autograd.gradgradcheck(cdf, leaves)


def test_velocity_is_odd_and_vanishes_at_the_centre_and_at_the_cut():
    law = VonMises(angle(0.0), torch.tensor([0.2, 4.0, 50.0], dtype=torch.float64))
    ends = torch.tensor([[0.0], [math.pi]], dtype=torch.float64)
    assert float(law.velocity(ends)["concentration"].abs().max()) < 1e-14
    x = torch.linspace(0.1, 3.1, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(law.velocity(x)["concentration"], -law.velocity(-x)["concentration"])


def test_velocity_near_the_cut_is_as_if_the_difference_of_angles_had_not_been_rounded():
    """It is proportional to the distance from the cut there, which is known to 16 digits where z − loc is not."""
    value, loc = -2.641592, 0.5
    with mpmath.workdps(40):
        gap = mpmath.mpf(value) - mpmath.mpf(loc) + mpmath.pi
    assert 0 < gap < 1e-6
    found = VonMises(angle(loc), angle(0.5)).velocity(angle(value))["concentration"]
    slope = VonMises(angle(0.0), angle(0.5)).velocity(angle(math.pi - 2.0**-20))["concentration"]
    assert found.item() / float(gap) == pytest.approx(-slope.item() / 2.0**-20, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kappa", CONCENTRATIONS)
def test_draws_lie_in_the_half_open_circle_with_the_moments_of_the_law(dtype, kappa):
    torch.manual_seed(0)
    count = 200_000
    law = VonMises(torch.tensor(3.0, dtype=dtype), torch.tensor(kappa, dtype=dtype))
    z = law.sample(torch.Size((count,)))
    assert z.dtype == dtype
    assert bool(((z.double() >= -math.pi) & (z.double() < math.pi)).all())
    spread = 2 * ((z.double() - 3) / 2).sin().square()
    error = float(spread.std()) / math.sqrt(count)
    assert float(spread.mean()) == pytest.approx(float(law.variance), abs=5 * error)
    assert float((z.double() - 3).sin().mean()) == pytest.approx(
        0, abs=5 * math.sqrt(float(spread.mean()) * 2 / count)
    )


def test_draws_of_mixed_concentrations_follow_their_own_distribution_functions():
    torch.manual_seed(1)
    law = VonMises(torch.tensor(-2.0).double(), torch.tensor(CONCENTRATIONS, dtype=torch.float64))
    rank = law.cdf(law.sample(torch.Size((4000,)))).sort(0).values
    grid = torch.arange(4000, dtype=torch.float64)[:, None] / 4000
    gap = torch.maximum((rank - grid).abs(), (rank - grid - 1 / 4000).abs()).amax(0)
    assert float(gap.max()) < math.sqrt(-math.log(1e-4 / 2) / 2 / 4000)


def test_the_gradient_of_a_circular_moment_is_unbiased():
    """E cos(z − μ) = A(κ), whose derivative is 1 − A/κ − A²."""
    torch.manual_seed(2)
    kappa = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    z = VonMises(torch.tensor(2.5).double(), kappa.expand(40_000)).rsample()
    (slopes,) = torch.autograd.grad((z - 2.5).cos().sum(), kappa)
    with mpmath.workdps(20):
        mean = mpmath.besseli(1, 1.7) / mpmath.besseli(0, 1.7)
        expected = float(1 - mean / 1.7 - mean**2)
    assert float(slopes) / 40_000 == pytest.approx(expected, abs=5 * 0.2 / 200)


@pytest.mark.parametrize("factor", [1 + 1e-7, 1.5, 3.0, 0.2])
@pytest.mark.parametrize("turn", [0.0, 1e-3, 3.0])
def test_kl_is_that_of_the_closed_form_in_forty_digits(factor, turn):
    kappas = [1e-3, 0.5, 3.0, 100.0, 1e4, 1e6]
    p = VonMises(angle(0.3), torch.tensor(kappas, dtype=torch.float64))
    q = VonMises(p.loc + turn, p.concentration * factor)
    rows = zip(p.loc.tolist(), p.concentration.tolist(), q.loc.tolist(), q.concentration.tolist())
    expected = torch.tensor([_divergence(*map(mpmath.mpf, row)) for row in rows], dtype=torch.float64)
    assert worst(kl_divergence(p, q), expected) < 1e-14


def _divergence(loc, kappa, other_loc, other) -> float:
    with mpmath.workdps(40):
        mean = mpmath.besseli(1, kappa) / mpmath.besseli(0, kappa)
        apart = mpmath.log(mpmath.besseli(0, other)) - mpmath.log(mpmath.besseli(0, kappa))
        return float(kappa * mean - other * mean * mpmath.cos(loc - other_loc) + apart)


def test_kl_passes_gradgradcheck_on_both_sides_of_its_branch():
    leaves = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for x in (0.2, [0.4, 6.0, 6.0], 0.5, [1.0, 5.0, 90.0])
    ]
    assert torch.autograd.gradgradcheck(
        lambda a, b, c, d: kl_divergence(VonMises(a, b), VonMises(c, d)), leaves
    )


def test_it_is_a_drop_in_for_torch_s():
    law = VonMises(0.5, torch.tensor([1.0, 2.0]))
    assert isinstance(law, torch.distributions.VonMises)
    assert law.batch_shape == (2,)
    assert torch.equal(law.mean, law.mode)
    theirs = torch.distributions.VonMises(0.1, torch.tensor([3.0, 4.0]))
    assert torch.equal(
        kl_divergence(law, theirs), kl_divergence(law, VonMises(0.1, torch.tensor([3.0, 4.0])))
    )
    with pytest.raises(ValueError, match="concentration"):
        VonMises(0.0, -1.0)


@pytest.mark.parametrize("kappa", [*CONCENTRATIONS, 8.5])
def test_entropy_and_variance_and_their_derivatives_are_right(kappa):
    leaf = torch.tensor(kappa, dtype=torch.float64, requires_grad=True)
    law = VonMises(0.0, leaf)
    (slope,) = torch.autograd.grad(law.entropy(), leaf)
    (turn,) = torch.autograd.grad(law.variance, leaf)
    with mpmath.workdps(40):
        k = mpmath.mpf(kappa)
        i0, mean = mpmath.besseli(0, k), mpmath.besseli(1, k) / mpmath.besseli(0, k)
        gain = 1 - mean / k - mean**2
        expected = mpmath.log(2 * mpmath.pi * i0) - k * mean
        assert law.entropy().item() == pytest.approx(float(expected), rel=1e-14, abs=1e-15)
        assert law.variance.item() == pytest.approx(float(1 - mean), rel=1e-14)
        assert slope.item() == pytest.approx(float(-k * gain), rel=1e-12)
        assert turn.item() == pytest.approx(float(-gain), rel=1e-12)


def test_icdf_inverts_the_cdf_to_the_rounding_of_angles():
    tails = torch.logspace(-13, -0.31, 40, dtype=torch.float64)
    level = torch.cat([tails, 1 - tails, torch.tensor([0.5, 0.5 - 1e-9], dtype=torch.float64)])[:, None]
    law = VonMises(angle(0.0), torch.tensor([*CONCENTRATIONS, 5.0, 30.0], dtype=torch.float64))
    value = law.icdf(level)
    resolution = law.log_prob(value).exp() * value.abs() * 2.0**-52
    error = (law.cdf(value) - level).abs()
    assert bool((error <= 1e-12 * torch.minimum(level, 1 - level) + 2 * resolution + 2e-16).all())
    assert VonMises(angle(3.0), angle(2.0)).icdf(angle(0.5)).item() == 3.0
    turned = VonMises(angle(3.0), angle(2.0)).icdf(angle(0.9)) - VonMises(angle(0.0), angle(2.0)).icdf(
        angle(0.9)
    )
    assert turned.item() == pytest.approx(3 - 2 * math.pi, rel=1e-14)


def test_icdf_moves_at_the_velocity_and_the_inverse_density_twice():
    leaves = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for x in ([0.3, 0.7, 0.04], 0.4, [0.5, 3.0, 90.0])
    ]

    def icdf(level, loc, kappa):
        return VonMises(loc, kappa).icdf(level)

    assert torch.autograd.gradcheck(icdf, leaves)
    assert torch.autograd.gradgradcheck(icdf, leaves)
