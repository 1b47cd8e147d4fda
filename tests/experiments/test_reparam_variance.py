"""reparam-variance in small: its paths, its claims, and that it ends the same every time."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _reparam_fit as fit
from fingerpost.experiments import _reparam_paths as paths
from fingerpost.experiments import load_experiment

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {"samples": 12_000, "steps": 60, "fits": 8, "draws": 2}
CASES = pytest.mark.parametrize("case", paths.CASES, ids=lambda case: case.name)


def test_its_claims_hold_in_small_and_it_repeats_to_the_bit(tmp_path):
    first = carry_out("reparam-variance", tmp_path / "first", **TINY)
    carry_out("reparam-variance", tmp_path / "second", **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in first.claims()}
    loose = {
        "accepted-noise-is-not-noise",
        "fit-against-rejection",
        "fit-against-score",
        "path-alone",
    }  # need more samples
    assert len(claims) == 12
    for name in claims.keys() - loose:
        assert claims[name].holds, (name, claims[name].measured, claims[name].note)


@CASES
def test_a_quadrature_holds_all_mass_and_the_score_has_mean_zero(case):
    nodes, weights = paths.quadrature(case.support)
    mass = weights * case.make(**case.tensors()).log_prob(nodes).exp()
    assert float(mass.sum()) == pytest.approx(1, abs=1e-12)
    for score in case.score(nodes).values():
        assert float((mass * score).sum()) == pytest.approx(0, abs=1e-10)


@CASES
def test_the_velocity_gives_the_exact_gradient_by_quadrature(case):
    """∫ f′ v p = ∫ f ∂_θ p, with no sample drawn, for all four functions."""
    nodes, weights = paths.quadrature(case.support)
    mass = weights * case.make(**case.tensors()).log_prob(nodes).exp()
    kept = mass > 1e-30
    z, mass = nodes[kept], mass[kept]
    velocity, score = case.velocity(z), case.score(z)
    for function in paths.functions(case):
        for name in case.parameters:
            found = float((mass * function.slope(z) * velocity[name]).sum())
            true = float((mass * function.value(z) * score[name]).sum())
            assert found == pytest.approx(true, abs=2e-7 if case.name == "StudentT" else 1e-9)


@CASES
def test_explicit_paths_draw_from_the_distribution(case):
    """Kolmogorov's distance of 20,000 drawn numbers, below what one draw in a thousand exceeds."""
    for explicit in case.explicit:
        torch.manual_seed(0)
        z = explicit.draw(case.tensors(), 20_000).z.sort().values
        nodes, weights = paths.quadrature(case.support)
        order = nodes.argsort()
        mass = (weights * case.make(**case.tensors()).log_prob(nodes).exp())[order]
        cdf = mass.cumsum(0) - mass / 2
        place = torch.searchsorted(nodes[order], z).clamp(max=len(cdf) - 1)
        ranks = (torch.arange(len(z)) + 0.5) / len(z)
        assert float((cdf[place] - ranks).abs().max()) < 1.95 / math.sqrt(len(z)) + float(mass.max())


@CASES
def test_slopes_of_the_test_functions_are_their_derivatives(case):
    z = case.make(**case.tensors()).sample((20,)).requires_grad_()
    for function in paths.functions(case):
        (slope,) = torch.autograd.grad(function.value(z).sum(), z)
        torch.testing.assert_close(function.slope(z.detach()), slope)


def test_the_fits_gradients_are_of_one_divergence():
    """Each estimator's mean gradient, over 200,000 samples, against the divergence's own."""
    logs = torch.tensor([[1.4], [0.3]], dtype=torch.float64)
    leaves = logs.exp().clone().requires_grad_()
    gamma = torch.distributions.Gamma(leaves[0], leaves[1])
    (true,) = torch.autograd.grad(torch.distributions.kl_divergence(gamma, fit.posterior()).sum(), leaves)
    for name, estimate in fit.ESTIMATORS.items():
        torch.manual_seed(1)
        found = torch.stack([estimate(logs, 10_000, fit.posterior()) for _ in range(20)])
        error = found.std(0) / math.sqrt(20) + 1e-12
        assert bool(((found.mean(0) - true).abs() < 5 * error).all()), name


def test_path_alone_has_no_noise_at_the_posterior():
    target = fit.posterior()
    logs = torch.stack([target.concentration, target.rate])[:, None].log()
    torch.manual_seed(0)
    spread = {
        name: float(torch.stack([estimate(logs, 4, target) for _ in range(20)]).std())
        for name, estimate in fit.ESTIMATORS.items()
    }
    assert spread[fit.ALONE] < 1e-10
    assert spread[fit.IMPLICIT] > 1e-2


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"dtype": "float32"}, "float64"),
        ({"device": "cuda"}, "cpu"),
        ({"samples": 1000}, "samples"),
        ({"bins": 2}, "bins"),
        ({"fits": 1}, "fits"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, word):
    module = load_experiment("reparam-variance")
    with pytest.raises(ConfigError, match=word):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))
