"""Noncentral chi, Rice and folded normal against 20-digit references and against integrals of their densities."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from scipy import integrate, stats
from torch.distributions import HalfNormal, kl_divergence

from fingerpost.distributions import FoldedNormal, NoncentralChi, Rice
from fingerpost.experiments.references import Reference, load

RATIOS = (0.0, 1e-3, 0.3, 1.0, 3.0, 8.9, 9.1, 30.0, 1e3, 1e4, 1e6)


def table(name: str) -> Reference:
    """The references of one class."""
    found = load("noncentral_chi")
    return found.where(
        {"Rice": found["df"] == 2, "FoldedNormal": found["df"] == 1}.get(name, found["df"] > 0)
    )


def column(reference: Reference, name: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(reference[name], dtype=dtype)


def make(name: str, reference: Reference, loc: Any, scale: Any) -> Any:
    if name == "NoncentralChi":
        return NoncentralChi(column(reference, "df", loc.dtype), loc, scale)
    return {"Rice": Rice, "FoldedNormal": FoldedNormal}[name](loc, scale)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error; where the reference is 0, what is found must be."""
    error = (found.detach().double() - expected).abs()
    return float(torch.where(error == 0, 0.0, error / expected.abs().clamp(min=1e-300)).max())


ALL = pytest.mark.parametrize("name", ["Rice", "FoldedNormal", "NoncentralChi"])


@ALL
@pytest.mark.parametrize(("dtype", "target"), [(torch.float64, 1e-14), (torch.float32, 2e-7)])
def test_velocities_are_those_of_the_references_to_the_last_digits(name, dtype, target):
    rows = table(name)
    if dtype == torch.float32:
        rows = rows.where(rows.fits_float32)
    found = make(name, rows, column(rows, "loc", dtype), column(rows, "scale", dtype)).velocity(
        column(rows, "value", dtype)
    )
    target = 1e-12 if target == 1e-14 and name == "NoncentralChi" else target  # a zero of ∂z/∂σ at k = 5
    for parameter, velocity in found.items():
        expected = column(rows, f"d_{parameter}")
        kept = expected.abs() > torch.finfo(dtype).tiny
        assert relative(velocity[kept], expected[kept]) < target


@ALL
def test_second_derivatives_of_samples_are_those_of_the_references(name):
    """∂²z/∂θ∂θ′ at fixed rank is ∂v/∂θ′ + v′ ∂v/∂z; the one in σ twice is a sum that cancels by σ/ν at high SNR."""
    rows = table(name)
    value, loc, scale = (column(rows, key).requires_grad_() for key in ("value", "loc", "scale"))
    velocity = make(name, rows, loc, scale).velocity(value)
    for (first, second), target in {
        ("loc", "loc"): 1e-12,
        ("loc", "scale"): 1e-12,
        ("scale", "scale"): None,
    }.items():
        other = {"loc": loc, "scale": scale}[second]
        slope, by_value = torch.autograd.grad(velocity[first].sum(), (other, value), retain_graph=True)
        found = slope + by_value * velocity[second]
        expected = column(rows, f"dd_{first}_{second}")
        assert float(((found - expected).abs() * scale).detach().max()) < 5e-14
        kept = expected.abs() > 1e-290
        if target:
            assert relative(found[kept], expected[kept]) < target


@ALL
def test_densities_and_distribution_functions_are_those_of_the_references(name):
    rows = table(name)
    distribution = make(name, rows, column(rows, "loc"), column(rows, "scale"))
    value = column(rows, "value")
    error = (distribution.log_prob(value) - column(rows, "log_prob")).abs()
    assert float((error / (1 + column(rows, "log_prob").abs())).max()) < 1e-13
    found, expected = distribution.cdf(value), column(rows, "cdf")
    assert bool((expected > 0).all())
    assert relative(found, expected) < 1e-12


@ALL
def test_the_derivatives_of_the_distribution_function_are_density_and_flow(name):
    loc, scale, value = (
        torch.tensor(x, dtype=torch.float64) for x in ([0.3, 2.0, 9.0], 0.7, [0.2, 2.5, 8.0])
    )
    leaves = [x.expand(3).clone().requires_grad_() for x in (loc, scale, value)]

    def cdf(a, b, z):
        return {"Rice": Rice, "FoldedNormal": FoldedNormal}.get(name, lambda a, b: NoncentralChi(3.5, a, b))(
            a, b
        ).cdf(z)

    assert torch.autograd.gradcheck(cdf, leaves, rtol=1e-6)
    assert torch.autograd.gradgradcheck(cdf, leaves, rtol=1e-6)


def test_the_distribution_function_is_marcums_as_scipy_has_it():
    value = torch.linspace(0.05, 12, 40, dtype=torch.float64)[:, None]
    loc = torch.tensor([0.0, 0.5, 3.0, 7.0], dtype=torch.float64)
    for df in (1.0, 1.5, 2.0, 7.0, 60.0, 400.0):
        expected = stats.ncx2.cdf(value.numpy() ** 2, df, np.maximum(loc.numpy(), 1e-9) ** 2)
        found = NoncentralChi(df, loc, 1.0).cdf(value)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)
    assert Rice(3.0, 1.0).cdf(torch.tensor(math.inf)).item() == 1


def exact_moments(df: int, ratio: float) -> tuple[float, float]:
    """Mean − ν and variance at σ = 1, from Laguerre's function with digits that grow with the cancellation."""
    with mp.workdps(80):
        s, k = mpf(ratio), mpf(df)
        confluent = mp.hyp1f1(mpf(-1) / 2, k / 2, -s * s / 2, maxterms=10**7)
        mean = mp.sqrt(2) * mp.gamma((k + 1) / 2) / mp.gamma(k / 2) * confluent
        return float(mean - s), float(k + s * s - mean**2)


@pytest.mark.parametrize("df", [1, 2, 3, 10])
def test_mean_and_variance_hold_at_every_ratio_of_loc_to_scale(df):
    loc = torch.tensor(RATIOS, dtype=torch.float64)
    shift, variance = (
        torch.tensor(x, dtype=torch.float64) for x in zip(*(exact_moments(df, s) for s in RATIOS))
    )
    distributions = [NoncentralChi(float(df), loc, 1.0)]
    distributions += [{1: FoldedNormal, 2: Rice}[df](loc, 1.0)] if df < 3 else []
    for distribution in distributions:
        torch.testing.assert_close(distribution.mean, loc + shift, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(distribution.variance, variance, rtol=2e-13, atol=0)


def test_variance_in_single_precision_does_not_cancel():
    loc = torch.tensor([1e2, 1e4, 1e6])
    torch.testing.assert_close(Rice(loc, 1.0).variance, torch.ones(3), rtol=1e-4, atol=0)
    torch.testing.assert_close(FoldedNormal(loc, 1.0).variance, torch.ones(3), rtol=1e-6, atol=0)


def integral(distribution: Any, function: Any) -> float:
    """∫ p f dz by adaptive quadrature in pieces around the mode."""
    loc, scale = float(distribution.loc), float(distribution.scale)
    df = float(getattr(distribution, "df", torch.tensor({"Rice": 2.0}.get(type(distribution).__name__, 1.0))))
    middle = math.sqrt(loc**2 + (df - 1) * scale**2)
    edges = sorted({max(0.0, middle + k * scale) for k in (-10, -5, -3, -2, -1, 0, 1, 2, 3, 5, 10)})

    def integrand(z: float) -> float:
        x = torch.tensor(z, dtype=torch.float64)
        return float(distribution.log_prob(x).exp() * function(x))

    return sum(
        integrate.quad(integrand, a, b, epsabs=1e-13, epsrel=1e-13)[0] for a, b in itertools.pairwise(edges)
    )


PAIRS = [
    (Rice(0.4, 0.8), Rice(0.0, 1.3)),
    (Rice(5.0, 0.3), Rice(4.0, 0.6)),
    (FoldedNormal(0.9, 0.5), FoldedNormal(0.0, 1.1)),
    (FoldedNormal(3.0, 0.4), FoldedNormal(2.5, 0.9)),
    (NoncentralChi(4.5, 2.0, 0.7), NoncentralChi(4.5, 0.0, 1.0)),
    (Rice(1.0, 0.5), FoldedNormal(1.0, 0.9)),
]


def double(distribution: Any) -> Any:
    parts = {
        name: getattr(distribution, name).double() for name in (*distribution._held, *distribution._moved)
    }
    return type(distribution)(**parts)


@pytest.mark.parametrize("index", range(len(PAIRS)))
def test_divergence_and_entropy_are_integrals_of_the_densities(index):
    p, q = map(double, PAIRS[index])
    expected = integral(p, lambda z: p.log_prob(z) - q.log_prob(z))
    torch.testing.assert_close(float(kl_divergence(p, q)), expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(float(p.entropy()), -integral(p, p.log_prob), rtol=1e-10, atol=1e-11)


def test_entropy_tends_to_the_normal_ones():
    loc = torch.tensor([1e3, 1e6], dtype=torch.float64)
    normal = torch.full((2,), 0.5 * math.log(2 * math.pi * math.e), dtype=torch.float64)
    for distribution in (Rice(loc, 1.0), FoldedNormal(loc, 1.0), NoncentralChi(2.5, loc, 1.0)):
        torch.testing.assert_close(distribution.entropy(), normal, rtol=0, atol=1e-6)


def test_moments_entropy_and_divergence_can_be_differentiated_twice():
    leaves = [
        torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([0.2, 2.0, 12.0], [0.6, 0.9, 1.5])
    ]
    for kind in (Rice, FoldedNormal, lambda a, b: NoncentralChi(2.5, a, b)):  # the last by quadrature alone

        def summary(a, b, kind=kind):
            p, q = kind(a, b), kind(0.5 * a + 0.1, b + 0.5)
            return p.mean, p.variance, p.entropy(), kl_divergence(p, q)

        assert torch.autograd.gradcheck(summary, leaves, rtol=1e-5)
        assert torch.autograd.gradgradcheck(summary, leaves, rtol=1e-4, atol=1e-5)


def test_a_half_normal_is_wilsons_prior_of_a_centric_amplitude():
    p = FoldedNormal(torch.tensor(0.9, dtype=torch.float64), 0.5)
    prior = HalfNormal(torch.tensor(1.1, dtype=torch.float64))
    expected = kl_divergence(p, FoldedNormal(torch.tensor(0.0, dtype=torch.float64), 1.1))
    torch.testing.assert_close(kl_divergence(p, prior), expected)
    value = torch.tensor([0.1, 2.0], dtype=torch.float64)
    torch.testing.assert_close(
        FoldedNormal(torch.zeros(2).double(), 1.1).log_prob(value), prior.log_prob(value)
    )


def test_large_batches_are_integrated_in_parts_to_the_same_numbers():
    loc = torch.linspace(0, 5, 5000, dtype=torch.float64).reshape(2, 2500)
    whole, part = Rice(loc, 0.7), Rice(loc[:, :10], 0.7)
    torch.testing.assert_close(whole.entropy()[:, :10], part.entropy(), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(whole.cdf(loc + 0.1)[:, :10], part.cdf(loc[:, :10] + 0.1), rtol=1e-14, atol=0)
    value = (loc + 0.1)[:, None].expand(2, 8, 2500)
    torch.testing.assert_close(
        Rice(loc[:, None], 0.7).velocity(value)["loc"][:, 0, :10], part.velocity(value[:, 0, :10])["loc"]
    )


def test_degrees_of_freedom_move_the_density_and_not_the_samples():
    df = torch.tensor([1.5, 3.0, 200.0], dtype=torch.float64, requires_grad=True)
    loc = torch.tensor([0.5, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
    value = torch.tensor([0.8, 3.0, 14.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda k, a: NoncentralChi(k, a, 0.9).log_prob(value), (df, loc))
    (gradient,) = torch.autograd.grad(NoncentralChi(df.detach(), loc, 1.0).rsample().sum(), loc)
    assert bool((gradient > 0).all())
    with pytest.raises(NotImplementedError, match="detach"):
        NoncentralChi(df, loc, 1.0).rsample().sum().backward()
    with pytest.raises(NotImplementedError, match="df"):
        torch.autograd.grad(NoncentralChi(df, loc, 1.0).cdf(value).sum(), df)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_samples_and_gradients_are_finite_and_inside_the_support_at_the_extremes(dtype):
    ratios = torch.tensor([0.0, 1e-30, 1e-3, 1.0, 1e3, 1e6], dtype=dtype)
    for kind in (
        Rice,
        FoldedNormal,
        lambda a, b: NoncentralChi(1.0, a, b),
        lambda a, b: NoncentralChi(1e4, a, b),
    ):
        for size in (1e-15, 1.0, 1e15):
            scale = torch.full_like(ratios, size).requires_grad_()
            loc = (ratios * size).requires_grad_()
            torch.manual_seed(0)
            value = kind(loc, scale).rsample((500,))
            value.sum().backward()
            assert value.dtype == dtype
            assert bool((value > 0).all())
            for what in (value, loc.grad, scale.grad, kind(loc, scale).log_prob(value)):
                assert bool(what.isfinite().all())


def test_parameters_outside_their_range_are_refused():
    for bad in ({"loc": -1.0, "scale": 1.0}, {"loc": 1.0, "scale": 0.0}):
        for kind in (Rice, FoldedNormal):
            with pytest.raises(ValueError, match="constraint"):
                kind(**bad, validate_args=True)
    with pytest.raises(ValueError, match="df"):
        NoncentralChi(0.5, 1.0, 1.0, validate_args=True)
    with pytest.raises(ValueError, match="support"):
        Rice(1.0, 1.0, validate_args=True).log_prob(torch.tensor(-1.0))
    with pytest.raises(ValueError, match="support"):
        Rice(1.0, 1.0, validate_args=True).velocity(torch.tensor(0.0))
