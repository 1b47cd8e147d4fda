"""ppc-cues in small: that it repeats, that its claims can fail, and that its parts measure what they say."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _ppc_cues as cues
from fingerpost.experiments import _ppc_measures as measures
from fingerpost.experiments import load_experiment, ppc_cues

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {"trials": 3, "observed": 1_200, "varied": 1_500}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return carry_out("ppc-cues", tmp_path_factory.mktemp("ppc-cues") / "run", **TINY)


def test_it_repeats_to_the_bit_and_what_must_be_exact_is(folder, tmp_path):
    carry_out("ppc-cues", tmp_path / "again", **TINY)
    assert results_of(folder.directory) == results_of(tmp_path / "again")
    claims = {claim.name: claim for claim in folder.claims()}
    for name in ("sum-is-product", "formula-mean", "formula-precision", "resultants-add"):
        assert claims[name].holds, claims[name]
        assert claims[name].high == 1e-12
    for name in ("circle", "baseline", "clipped"):
        assert claims[f"formulas-approximate-{name}"].holds


def test_a_sum_with_a_spike_too_many_is_refuted(tmp_path, monkeypatch):
    from fingerpost import population

    real = population.combine

    def careless(*counts, **options):
        total = real(*counts, **options).clone()
        total[..., len(total[0]) // 2] += 1
        return total

    monkeypatch.setattr(population, "combine", careless)
    claims = {claim.name: claim for claim in carry_out("ppc-cues", tmp_path / "run", **TINY).claims()}
    for name in ("sum-is-product", "formula-mean", "formula-precision"):
        assert not claims[name].holds


def test_the_gaussian_codes_posterior_is_normal_with_the_spikes_mean():
    code = cues.gaussian_code()
    rows = cues.cells(code, ((1.0, 4.0),), (0.0, 1.0), 4)
    r1, _ = cues.encode(code, rows, generator())
    from fingerpost import population

    level = population.PoissonCode(code.tuning).log_likelihood(r1, code.grid, gain=None)
    posterior = population.Posterior(code.grid, level)
    preferred = torch.linspace(-60, 60, 121, dtype=torch.float64)
    torch.testing.assert_close(posterior.mean, r1 @ preferred / r1.sum(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(posterior.variance, cues.WIDTH**2 / r1.sum(1), rtol=1e-12, atol=0)


def test_mean_inverse_is_the_expectation_over_nonzero_counts():
    draws = np.random.default_rng(0).poisson(3.0, 400_000)
    assert cues.mean_inverse(3.0) == pytest.approx((1 / draws[draws > 0]).mean(), rel=0.01)


def test_an_observers_figures_are_near_their_predictions():
    found = cues.trials(8.0, 4.0, 6.0, 20_000, generator())
    assert found["bias"][0] == pytest.approx(found["bias_predicted"], abs=0.03)
    assert found["variance"][0] == pytest.approx(found["variance_predicted"], rel=0.05)
    assert found["variance_predicted"] > 1.5
    assert found["claimed"][0] < 0.7


def test_coverage_is_counted_right_when_the_posterior_is_and_when_it_is_too_narrow(monkeypatch):
    inside, count = cues.covered(4_000, generator())
    low, high = measures.wilson(inside, count)
    assert low < 0.95 < high
    real = cues.population.combine
    monkeypatch.setattr(cues.population, "combine", lambda *counts: 2 * real(*counts))
    inside, count = cues.covered(4_000, generator())
    assert inside / count < 0.9


def test_conflicts_and_gains_come_in_rows():
    code = cues.gaussian_code()
    rows = cues.cells(code, ((1.0, 2.0), (3.0, 4.0)), (0.0, 1.0), 2)
    assert rows.g1.tolist() == [1.0] * 4 + [3.0] * 4
    assert (rows.second - rows.first).tolist() == [0.0, 0.0, cues.WIDTH, cues.WIDTH] * 2
    assert math.isclose(float((rows.first + rows.second).abs().max()), 0.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "float32"}, "float64"),
        ({"device": "cuda"}, "cpu"),
        ({"trials": 1}, "at least 2"),
        ({"observed": 100}, "at least 400"),
        ({"varied": 100}, "at least 400"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        ppc_cues.check(dataclasses.replace(load_experiment("ppc-cues").PRESETS["quick"], **changes))
