"""Truncated normal: velocities, densities and moments against high precision, in narrow windows and 300 scales out."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch.distributions import Normal, biject_to, kl_divergence

from distributions.tables import columns, second_derivatives, worst
from fingerpost.distributions import TruncatedNormal
from fingerpost.experiments.references.make_truncated_normal import evaluate

PARAMETERS = ("loc", "scale", "low", "high")
INF = math.inf
WINDOWS = [  # (loc, scale, low, high): around every border between two ways of computing
    (0.0, 1.0, -1.9, INF), (0.0, 1.0, -1.99, 30.0), (0.0, 1.0, -2.01, 30.0), (0.0, 1.0, -0.4, 0.59), (0.0, 1.0, -0.4, 0.61),
    (0.0, 1.0, 0.0, 1e-9), (0.0, 1.0, -1e-9, 1e-9), (0.0, 1.0, 5.0, 5 + 1e-9), (0.0, 1.0, -INF, 1.9), (0.0, 1.0, -9.5, 0.3),
    (0.0, 1.0, -30.0, -0.01), (0.0, 1.0, 1e-8, INF), (0.0, 1.0, 300.0, 300.001), (3.0, 2.0, -INF, INF),
    (50.0, 0.5, -INF, -100.0), (-300.0, 1.0, 0.0, 1 / 64),
]  # fmt: skip


def reference(float32: bool = False):
    table = columns("truncated_normal", float32)
    dtype = torch.float32 if float32 else torch.float64
    parameters = {name: table[name].to(dtype).requires_grad_() for name in PARAMETERS}
    return table, parameters, table["value"].to(dtype).requires_grad_()


def windows(**options) -> TruncatedNormal:
    return TruncatedNormal(*torch.tensor(WINDOWS, dtype=torch.float64).T, **options)


@pytest.mark.parametrize(("float32", "bound"), [(False, 1e-11), (True, 2e-7)])
def test_velocity_is_right_to_eleven_digits_and_to_rounding_in_float32(float32, bound):
    table, parameters, value = reference(float32)
    for name, found in TruncatedNormal(**parameters).velocity(value).items():
        smallest = torch.finfo(found.dtype).tiny
        assert worst(found, table[f"d_{name}"], smallest) < bound, name


def test_second_derivatives_are_right_to_twelve_digits_of_their_parts():
    """The curvature in loc changes sign at the middle of a narrow window: an error of 1e-24/scale is let pass there."""
    table, parameters, value = reference()
    found = second_derivatives(TruncatedNormal(**parameters).velocity(value), parameters, value)
    assert len(found) == 10
    for key, (second, parts) in found.items():
        scale = parts + 1e-12 / table["scale"] if key == "dd_loc_loc" else parts
        assert worst(second, table[key], scale) < 1e-12, key


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("level", [1e-6, 0.2, 0.6, 0.999])
def test_velocity_holds_around_the_borders_between_methods(window, level):
    law = TruncatedNormal(*(torch.tensor([x], dtype=torch.float64) for x in window))
    value = law.icdf(torch.tensor([level], dtype=torch.float64))
    with mpmath.workdps(100):
        expected = evaluate(*map(mpmath.mpf, window), mpmath.mpf(value.item()))
    for name, found in law.velocity(value).items():
        assert found.item() == pytest.approx(float(expected[f"d_{name}"]), rel=5e-13, abs=1e-300), name
    assert law.log_prob(value).item() == pytest.approx(float(expected["log_prob"]), rel=1e-12, abs=1e-14)


def test_log_prob_and_cdf_are_right_to_rounding_in_float32():
    table, parameters, value = reference(float32=True)
    law = TruncatedNormal(**parameters)
    assert worst(law.log_prob(value), table["log_prob"], 1e-6) < 2e-7
    assert worst(law.cdf(value), table["cdf"], torch.finfo(torch.float32).tiny) < 2e-7


def test_log_prob_and_cdf_are_right_over_the_whole_table():
    table, parameters, value = reference()
    law = TruncatedNormal(**parameters)
    assert worst(law.log_prob(value), table["log_prob"], 1.0) < 1e-13
    assert worst(law.cdf(value), table["cdf"], 1e-300) < 1e-11
    assert worst(1 - law.cdf(value), table["sf"], 1.0) < 1e-13


def test_moments_and_entropy_are_those_of_the_closed_forms_in_260_digits():
    law = windows()
    rows = [_moments(*map(mpmath.mpf, window)) for window in WINDOWS]
    for found, expected, scale in zip(
        (law.mean, law.variance, law.entropy()), zip(*rows), ((law.high - law.low).clamp(max=1.0), 0.0, 1.0)
    ):
        assert worst(found, torch.tensor(expected, dtype=torch.float64), scale) < 1e-13


def _moments(loc, scale, low, high) -> tuple[float, ...]:
    """Mean, variance and entropy by Φ and φ."""
    with mpmath.workdps(260):
        ends = (low - loc) / scale, (high - loc) / scale
        near, far = (-ends[1], -ends[0]) if ends[1] <= 0 else ends
        mass = mpmath.ncdf(-near) - mpmath.ncdf(-far)
        densities = [mpmath.npdf(x) if mpmath.isfinite(x) else 0 for x in ends]
        slopes = [x * mpmath.npdf(x) if mpmath.isfinite(x) else 0 for x in ends]
        mean, turn = (densities[0] - densities[1]) / mass, (slopes[0] - slopes[1]) / mass
        entropy = mpmath.log(mpmath.sqrt(2 * mpmath.pi * mpmath.e) * scale * mass) + turn / 2
        return float(loc + scale * mean), float(scale**2 * (1 + turn - mean**2)), float(entropy)


def test_derivatives_of_moments_pass_gradgradcheck():
    leaves = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for x in ([0.0, 0.2, -9.0], [1.0, 0.7, 2.0], [-3.0, 0.1, 2.0], [4.0, 0.5, 3.0])
    ]
    for name in ("mean", "variance", "entropy"):

        def moment(*parameters, which=name):
            found = getattr(TruncatedNormal(*parameters), which)
            return found() if callable(found) else found

        assert torch.autograd.gradcheck(moment, leaves)
        assert torch.autograd.gradgradcheck(moment, leaves)


def test_icdf_inverts_the_cdf_at_every_distance():
    level = torch.tensor([1e-9, 1e-3, 0.3, 0.5, 0.9, 0.999], dtype=torch.float64)[:, None]
    law = windows()
    value = law.icdf(level)
    resolution = law.log_prob(value).exp() * value.abs() * 2.0**-52  # of F, by the rounding of z
    error = (law.cdf(value) - level).abs()
    assert bool((error <= 1e-12 * level + 2 * resolution).all())
    ends = law.icdf(torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    assert torch.equal(ends[0], law.low)
    assert torch.equal(ends[1], law.high)


def test_cdf_and_icdf_move_at_density_and_velocity_twice():
    leaves = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True)
        for x in ([0.6, 0.3, 2.2], [0.0, 0.2, -9.0], [1.0, 0.7, 2.0], [-3.0, 0.1, 2.0], [4.0, 0.5, 3.0])
    ]

    def cdf(value, *parameters):
        return TruncatedNormal(*parameters).cdf(value)

    def icdf(value, *parameters):
        return TruncatedNormal(*parameters).icdf(value / 3)

    for function in (cdf, icdf):
        assert torch.autograd.gradcheck(function, leaves)
        assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_lie_in_the_window_and_follow_the_distribution_function(dtype):
    torch.manual_seed(0)
    count = 2000
    law = TruncatedNormal(*torch.tensor(WINDOWS, dtype=dtype).T, validate_args=False)
    value = law.sample(torch.Size((count,)))
    assert value.dtype == dtype
    assert bool(law.support.check(value).all())
    rank = windows().cdf(value.double()).sort(0).values
    grid = torch.arange(count, dtype=torch.float64)[:, None] / count
    gap = torch.maximum((rank - grid).abs(), (rank - grid - 1 / count).abs()).amax(0)
    fine = (
        ((law.high - law.low) > 1e-4)
        if dtype == torch.float32
        else torch.ones(len(WINDOWS), dtype=torch.bool)
    )
    assert float(gap[fine].max()) < math.sqrt(-math.log(1e-5 / 2) / 2 / count)


@pytest.mark.parametrize("tail", [8.0, 40.0, 300.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_far_out_on_either_side(dtype, tail):
    torch.manual_seed(0)
    bounds = torch.tensor([[tail, -INF], [INF, -tail]], dtype=dtype)
    leaves = [torch.zeros(2, dtype=dtype, requires_grad=True), torch.ones(2, dtype=dtype, requires_grad=True)]
    value = TruncatedNormal(*leaves, *bounds).rsample(torch.Size((500,)))
    slopes = torch.autograd.grad(value.sum(), leaves)
    for slope in slopes:
        assert bool(torch.isfinite(slope).all())
    assert bool((slopes[0] >= 0).all())


def test_without_bounds_it_is_the_normal_distribution():
    law, normal = TruncatedNormal(1.0, 2.0, -INF, INF), Normal(torch.tensor(1.0), torch.tensor(2.0))
    value = torch.linspace(-9.0, 12.0, 7)
    torch.testing.assert_close(law.log_prob(value), normal.log_prob(value))
    velocity = law.velocity(value)
    assert torch.equal(velocity["loc"], torch.ones(7))
    assert torch.equal(velocity["scale"], (value - 1) / 2)
    assert torch.equal(velocity["low"], torch.zeros(7))
    torch.testing.assert_close(kl_divergence(law, normal), torch.tensor(0.0))


@pytest.mark.parametrize("window", [w for w in WINDOWS if w[3] - w[2] > 1e-6], ids=str)
def test_kl_is_the_integral_of_the_difference_of_log_densities(window):
    p = TruncatedNormal(*(torch.tensor(x, dtype=torch.float64) for x in window))
    q = TruncatedNormal(p.loc + 0.1, p.scale * 1.25, p.low - 0.2, p.high + 0.1)
    level = torch.from_numpy(_LEVELS)
    value = p.icdf(level)
    for other in (q, Normal(q.loc, q.scale)):
        expected = (torch.from_numpy(_WEIGHTS) * (p.log_prob(value) - other.log_prob(value))).sum()
        assert kl_divergence(p, other).item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-9)


def _levels():
    """A rule in u on (0, 1) that is fine at both ends, for integrands with logarithms there."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(200)
    y = 6 * nodes
    u = 1 / (1 + np.exp(-2 * np.sinh(y / 2)))
    return u, 6 * weights * u * (1 - u) * np.cosh(y / 2)


_LEVELS, _WEIGHTS = _levels()


def test_kl_is_infinite_where_the_second_window_does_not_contain_the_first():
    p = TruncatedNormal(0.0, 1.0, -1.0, 1.0)
    assert kl_divergence(p, TruncatedNormal(0.0, 1.0, -1.0, 0.9)).item() == INF
    assert kl_divergence(TruncatedNormal(0.0, 1.0, -INF, 1.0), p).item() == INF
    assert kl_divergence(p, p).item() == pytest.approx(0, abs=1e-7)


def test_windows_that_are_empty_and_values_outside_are_refused():
    with pytest.raises(ValueError, match="low >= high"):
        TruncatedNormal(0.0, 1.0, 1.0, 1.0, validate_args=True)  # torch.compile turns the default off
    law = TruncatedNormal(0.0, 1.0, torch.tensor([0.0, -INF]), INF, validate_args=True)
    for outside in (-1.0, INF):
        with pytest.raises(ValueError, match="support"):
            law.log_prob(torch.tensor(outside))
    assert TruncatedNormal(0.0, 1.0, 0.0, 2.0, validate_args=False).log_prob(torch.tensor(3.0)).item() == -INF
    assert bool(law.support.check(law.mode).all())


@pytest.mark.parametrize("bounds", [(-1.0, 2.0), (1.0, INF), (-INF, 1.0), (-INF, INF)])
def test_the_line_maps_onto_the_support(bounds):
    law = TruncatedNormal(torch.zeros(2), 1.0, *bounds)
    line = torch.linspace(-3, 3, 10).reshape(5, 2)
    value = biject_to(law.support)(line)
    assert bool(law.support.check(value).all())
    torch.testing.assert_close(biject_to(law.support).inv(value), line, rtol=1e-4, atol=1e-4)


def test_a_mixture_of_kinds_of_bounds_has_no_transform():
    law = TruncatedNormal(0.0, 1.0, torch.tensor([0.0, -INF]), torch.tensor([INF, 0.0]))
    with pytest.raises(NotImplementedError, match="different sides"):
        biject_to(law.support)


def test_the_gradient_of_a_moment_is_unbiased():
    """Derivatives of E z² = variance + mean² by samples, within five standard errors."""
    torch.manual_seed(4)
    values = {"loc": 0.3, "scale": 0.8, "low": 0.1, "high": 2.0}
    leaves = {key: torch.tensor(x, dtype=torch.float64, requires_grad=True) for key, x in values.items()}
    law = TruncatedNormal(**leaves)
    exact = torch.autograd.grad(law.variance + law.mean.square(), list(leaves.values()))
    value = law.sample(torch.Size((40_000,)))
    for expected, found in zip(exact, law.velocity(value).values()):
        slopes = 2 * value * found
        assert float(slopes.mean()) == pytest.approx(float(expected), abs=5 * float(slopes.std()) / 200)
