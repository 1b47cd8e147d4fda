"""StudentT: velocity, densities, distribution function and divergence against 20 digits and against mpmath."""

from __future__ import annotations

import mpmath
import pytest
import torch
from mpmath import mpf
from torch.distributions import kl_divergence

from distributions.tables import columns, second_derivatives, worst
from fingerpost.distributions import StudentT
from fingerpost.distributions._incomplete_t import score_at_zero
from fingerpost.distributions._t_expansion import recurrence, series

PARAMETERS = ("df", "loc", "scale")


def reference(float32: bool = False):
    table = columns("student_t", float32)
    dtype = torch.float32 if float32 else torch.float64
    parameters = {name: table[name].to(dtype).requires_grad_() for name in PARAMETERS}
    return table, parameters, table["value"].to(dtype).requires_grad_()


@pytest.mark.parametrize(("float32", "bound"), [(False, 1e-14), (True, 2e-7)])
def test_velocity_is_right_to_fourteen_digits_and_to_rounding_in_float32(float32, bound):
    table, parameters, value = reference(float32)
    for name, found in StudentT(**parameters).velocity(value).items():
        assert worst(found, table[f"d_{name}"]) < bound


def test_second_derivatives_are_right_to_thirteen_digits():
    table, parameters, value = reference()
    found = second_derivatives(StudentT(**parameters).velocity(value), parameters, value)
    assert len(found) == 6
    for key, (second, _) in found.items():
        assert worst(second, table[key], 1e-300) < 1e-13, key


def test_log_prob_and_cdf_are_right_over_the_whole_table():
    table, parameters, value = reference()
    distribution = StudentT(**parameters)
    assert worst(distribution.log_prob(value), table["log_prob"], 1.0) < 1e-14
    assert worst(distribution.cdf(value), table["cdf"]) < 1e-12


def test_the_cdf_moves_at_the_density_times_the_velocity():
    table, parameters, value = reference()
    slopes = torch.autograd.grad(StudentT(**parameters).cdf(value).sum(), [*parameters.values(), value])
    density = table["log_prob"].exp()
    for name, slope in zip((*PARAMETERS, "value"), slopes):
        expected = density if name == "value" else -density * table[f"d_{name}"]
        assert worst(slope, expected, 1e-300) < 1e-12, name


@pytest.mark.parametrize("nu", [0.005, 0.1, 2.0, 1e6])
def test_velocity_between_the_table_s_rows_is_minus_the_slope_of_the_cdf_over_the_density(nu):
    """The slope in ν by a central difference of mpmath's incomplete beta function."""
    with mpmath.workdps(60):
        for quantile in (0.5001, 0.8, 0.93, 0.97):
            half = mpf(nu) / 2
            t = float(_t_quantile(mpf(nu), mpf(quantile)))
            step = mpf(nu) * mpf(10) ** -20
            slope = (_t_cdf(mpf(t), mpf(nu) + step) - _t_cdf(mpf(t), mpf(nu) - step)) / (2 * step)
            log_density = (
                mpmath.loggamma(half + 0.5) - mpmath.loggamma(half) - mpmath.log(mpf(nu) * mpmath.pi) / 2
                - (half + 0.5) * mpmath.log1p(mpf(t) ** 2 / nu)
            )  # fmt: skip
            found = StudentT(torch.tensor(nu, dtype=torch.float64)).velocity(
                torch.tensor(t, dtype=torch.float64)
            )
            expected = float(-slope / mpmath.exp(log_density))
            assert found["df"].item() == pytest.approx(expected, rel=1e-13)


def _t_cdf(t, nu):
    """½ + ½ I_w(½, ν/2) with w = t²/(ν + t²), for t > 0."""
    w = t**2 / (nu + t**2)
    if w < mpf("0.9"):
        return mpf(1) / 2 + mpmath.betainc(mpf(1) / 2, nu / 2, 0, w, regularized=True) / 2
    return 1 - mpmath.betainc(nu / 2, mpf(1) / 2, 0, nu / (nu + t**2), regularized=True) / 2


def _t_quantile(nu, level):
    low, high = mpf(-60), mpf(400)  # of log t
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(mpmath.exp(middle), nu) < level else (low, middle)
    return mpmath.exp(low)


@pytest.mark.parametrize(("least", "widest", "orders", "count"), [(40, 0.9, 12, 34), (400, 0.3, 6, 16)])
def test_the_series_in_one_over_nu_is_what_the_recurrence_leads_to_where_it_is_used(
    least, widest, orders, count
):
    generator = torch.Generator().manual_seed(0)
    u, v = torch.rand(2, 5000, dtype=torch.float64, generator=generator)
    nu, length = least * 10 ** (4 * u**2), widest * v
    slow = recurrence(length, nu, score_at_zero(nu + 40))
    assert worst(series(length, nu, orders, count), slow) < 2e-14


def test_the_recurrence_takes_the_same_way_on_both_sides_of_where_it_forgets_its_start():
    length = torch.tensor([0.9, 0.9 + 1e-15], dtype=torch.float64)
    nu = torch.tensor([[0.1], [3.0], [39.0]], dtype=torch.float64).expand(3, 2).reshape(-1)
    found = recurrence(length.repeat(3), nu, score_at_zero(nu + 40)).reshape(3, 2)
    torch.testing.assert_close(found[:, 0], found[:, 1], rtol=1e-14, atol=0)


def test_velocity_and_its_slope_are_odd_and_smooth_through_the_middle():
    t = torch.tensor([-1e-3, 0.0, 1e-3], dtype=torch.float64, requires_grad=True)
    velocity = StudentT(torch.tensor(4.0, dtype=torch.float64)).velocity(t)["df"]
    (slope,) = torch.autograd.grad(velocity.sum(), t)
    assert velocity[1] == 0
    assert velocity[0] == -velocity[2]
    torch.testing.assert_close(slope[1], velocity[2] / 1e-3, rtol=1e-5, atol=0)


@pytest.mark.parametrize("nu", [0.1, 1.0, 30.0, 1e6])
def test_entropy_and_its_derivative_do_not_cancel(nu):
    leaf = torch.tensor(nu, dtype=torch.float64, requires_grad=True)
    entropy = StudentT(leaf, 0.0, 2.0).entropy()
    (slope,) = torch.autograd.grad(entropy, leaf)

    def expected(x):
        wide = (x + 1) / 2
        return (
            wide * (mpmath.psi(0, wide) - mpmath.psi(0, x / 2)) + mpmath.log(x) / 2
            + mpmath.log(mpmath.beta(x / 2, mpf(1) / 2)) + mpmath.log(2)
        )  # fmt: skip

    with mpmath.workdps(50):
        assert entropy.item() == pytest.approx(float(expected(mpf(nu))), rel=1e-14)
        assert slope.item() == pytest.approx(float(mpmath.diff(expected, mpf(nu))), rel=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("nu", [0.1, 1.0, 1e6])
def test_samples_are_finite_at_extreme_degrees_of_freedom(dtype, nu):
    torch.manual_seed(0)
    df = torch.full((50_000,), nu, dtype=dtype, requires_grad=True)
    z = StudentT(df, 1.0, 100.0).rsample()
    assert bool(torch.isfinite(z).all())
    if nu == 0.1 and dtype == torch.float32:
        assert z.abs().max() == torch.finfo(dtype).max
    (slope,) = torch.autograd.grad(torch.asinh(z).sum(), df)
    assert bool(torch.isfinite(slope).all())


DIVERGENCES = [
    (3, 0, 1, 5, 0.5, 2),
    (0.1, 0, 1, 0.1, 3, 0.01),
    (0.1, 0, 1, 1e6, 0, 1e3),
    (1e6, 0, 1, 0.1, 0.3, 1e-3),
    (1, 0, 1, 2, 1e4, 1),
    (30, 0, 1, 30, 1, 1e-4),
]


@pytest.mark.parametrize("inputs", DIVERGENCES)
def test_divergence_is_the_integral(inputs):
    df, loc, scale, df2, loc2, scale2 = (torch.tensor(float(x), dtype=torch.float64) for x in inputs)
    found = kl_divergence(StudentT(df, loc, scale), StudentT(df2, loc2, scale2))
    assert found.item() == pytest.approx(float(_divergence(*map(mpf, inputs))), rel=3e-9)


def _divergence(df, loc, scale, df2, loc2, scale2):
    """∫ p (log p − log q) in y with z = loc + scale √df sinh y, on panels that halve towards where p and q bend."""
    width = scale * mpmath.sqrt(df)

    def log_prob(z, df, loc, scale):
        peak = mpmath.loggamma((df + 1) / 2) - mpmath.loggamma(df / 2) - mpmath.log(df * mpmath.pi) / 2
        return peak - mpmath.log(scale) - (df + 1) / 2 * mpmath.log1p(((z - loc) / scale) ** 2 / df)

    def integrand(y):
        z = loc + width * mpmath.sinh(y)
        here = log_prob(z, df, loc, scale)
        return mpmath.exp(here) * (here - log_prob(z, df2, loc2, scale2)) * width * mpmath.cosh(y)

    end = mpmath.acosh(mpmath.exp(50 / df))
    other = mpmath.asinh((loc2 - loc) / width)
    narrow = scale2 * mpmath.sqrt(df2) / (width * mpmath.cosh(other))
    points = {-end, end, mpf(0), other}
    for centre, size in ((mpf(0), 1 / mpmath.sqrt(df)), (mpf(0), mpf(1)), (other, narrow)):
        points |= {centre + sign * size * 2**k for k in range(-2, 16) for sign in (-1, 1)}
    with mpmath.workdps(20):
        return mpmath.quad(integrand, sorted(x for x in points if -end <= x <= end), maxdegree=4)


def test_divergence_has_the_derivatives_of_finite_differences():
    inputs = tuple(
        torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 0.2, 1.0, 5.0, 0.5, 2.0)
    )

    def divergence(df, loc, scale, df2, loc2, scale2):
        return kl_divergence(StudentT(df, loc, scale), StudentT(df2, loc2, scale2))

    assert torch.autograd.gradcheck(divergence, inputs)
    assert torch.autograd.gradgradcheck(divergence, inputs)
