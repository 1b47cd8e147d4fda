"""ppc-breaks in small: that it repeats, that its claims can fail, and that its scenes are what they say."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _ppc_breaks as breaks
from fingerpost.experiments import _ppc_theory as theory
from fingerpost.experiments import load_experiment, ppc_breaks

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {"trials": 300, "points": 101}


def setting(trials=200, points=201, gains=(1.0, 3.0), seed=0):
    return breaks.Setting(trials, gains, points, torch.Generator().manual_seed(seed))


def total_variation(first, second):
    return float(0.5 * (torch.softmax(first, 1) - torch.softmax(second, 1)).abs().sum(1).max())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return carry_out("ppc-breaks", tmp_path_factory.mktemp("ppc-breaks") / "run", **TINY)


def test_it_repeats_to_the_bit_and_every_break_breaks_and_is_repaired(folder, tmp_path):
    carry_out("ppc-breaks", tmp_path / "again", **TINY)
    assert results_of(folder.directory) == results_of(tmp_path / "again")
    claims = {claim.name: claim for claim in folder.claims()}
    assert {f"{'holds' if b.name == 'shared-gain' else 'breaks'}-{b.name}" for b in breaks.BREAKS} < set(
        claims
    )
    for name, claim in claims.items():
        if not name.startswith("size-"):  # sizes need more trials for their intervals
            assert claim.holds, claim


def test_a_repair_that_repairs_nothing_and_a_break_that_is_none_are_refuted(tmp_path, monkeypatch):
    def unbroken(one_setting, strength):
        scene = breaks.shifted(one_setting, 0.0)
        return scene._replace(readings={breaks.SUM: scene.true, breaks.REPAIR: scene.true + 0.1 * scene.grid})

    chosen = tuple(
        one._replace(strengths=(one.shown,), make=unbroken if one.name == "shifted" else one.make)
        for one in breaks.BREAKS
    )
    monkeypatch.setattr(breaks, "BREAKS", chosen)
    claims = {claim.name: claim for claim in carry_out("ppc-breaks", tmp_path / "run", **TINY).claims()}
    assert not claims["breaks-shifted"].holds
    assert not claims["repairs"].holds
    assert claims["breaks-widths"].holds


@pytest.mark.parametrize("one", breaks.BREAKS, ids=[one.name for one in breaks.BREAKS])
def test_the_true_posterior_is_calibrated_and_no_reading_is_better(one):
    config = dataclasses.replace(ppc_breaks.PRESETS["quick"], trials=2_000)
    found = ppc_breaks.measure(config, one, one.shown)
    value, low, high = found["true posterior"]["calibration"]
    assert low - 0.02 < 1 < high + 0.02, value
    for name, figures in found.items():
        assert figures["ratio"][2] > 0.999, name
        assert figures["kl"][0] > -1e-12, name


@pytest.mark.parametrize(
    ("name", "none"),
    [
        ("widths", 1.0),
        ("shifted", 0.0),
        ("wrong-tuning", 1.0),
        ("fano", 1.0),
        ("gaussian", 1.0),
        ("tiling", 0.0),
    ],
)
def test_a_break_of_no_strength_leaves_the_sum_optimal(name, none):
    one = next(b for b in breaks.BREAKS if b.name == name)
    scene = one.make(setting(), none)
    assert total_variation(scene.readings[breaks.SUM], scene.true) < 1e-8


def test_the_negative_binomials_true_posterior_is_scipys():
    from scipy import stats

    s = setting(trials=5)
    state = s.generator.get_state()
    scene = breaks.negative_binomial(s, 0.5)
    s.generator.set_state(state)
    stimuli, tuning, expected = s.stimuli(), s.tuning(), 0.0
    for gain in s.gains:
        mean = gain * tuning(stimuli)
        rate = torch._standard_gamma(torch.full_like(mean, 2.0), generator=s.generator) * mean / 2
        counts = s.poisson(rate).numpy()[:, None]
        curves = gain * tuning(s.grid).numpy()
        expected = expected + stats.nbinom.logpmf(counts, 2.0, 2.0 / (2.0 + curves)).sum(-1)
    assert total_variation(torch.from_numpy(expected), scene.true) < 1e-10


def test_transfer_finds_the_weights_of_a_shifted_map():
    s = setting()
    basis, kernel = s.tuning()(s.grid).log(), s.tuning(shift=1.0)(s.grid).log()
    found = breaks.transfer(kernel, basis)
    left = kernel - basis @ found.T
    assert float((left - left.mean(0)).abs().max()) < 1e-9


def test_theory_is_what_many_spikes_give():
    gains = (10.0, 30.0)
    config = ppc_breaks.Config(trials=1_500, points=401, first_gain=gains[0], second_gain=gains[1])
    for name, strength in (("fano", 2.0), ("widths", 1.5), ("wrong-tuning", 0.8), ("common-noise", 0.25)):
        one = next(b for b in breaks.BREAKS if b.name == name)
        found = ppc_breaks.measure(config, one, strength)[breaks.SUM]
        ratio, calibration = theory.THEORY[name](strength, gains)
        assert found["ratio"][0] == pytest.approx(ratio, rel=0.08), name
        assert found["calibration"][0] == pytest.approx(calibration, rel=0.08), name


def test_theory_agrees_with_hand_calculation():
    assert theory.gaussian(4.0, (1.0, 3.0)) == (pytest.approx(1.36), 1.0)
    ratio, calibration = theory.shifted(1.0, (1.0, 3.0))
    assert calibration == pytest.approx(1 / ratio)
    assert theory.tiling(0.0, (1.0, 1.0)) == (1.0, 1.0)
    assert math.isclose(theory.SPIKES, np.exp(-0.5 * (np.arange(-60, 61) / 3.0) ** 2).sum(), rel_tol=1e-12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "float32"}, "float64"),
        ({"device": "cuda"}, "cpu"),
        ({"trials": 20}, "at least 100"),
        ({"points": 20}, "at least 101"),
        ({"second_gain": 0.0}, "above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        ppc_breaks.check(dataclasses.replace(load_experiment("ppc-breaks").PRESETS["quick"], **changes))
