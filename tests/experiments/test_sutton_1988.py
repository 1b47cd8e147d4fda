"""sutton-1988 in small: that it repeats, that its statistics can reject, and that its limits are what the paper says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _td_sutton_results as results
from fingerpost.experiments import load_experiment, sutton_1988
from fingerpost.td import OutcomeSequence, RandomWalk, sweep

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {"repetitions": 16, "counts": (5, 10), "presentations": 3_000}


def test_it_repeats_to_the_bit_and_five_sequences_agree_where_ten_do_not(tmp_path):
    first = carry_out("sutton-1988", tmp_path / "first", **TINY)
    carry_out("sutton-1988", tmp_path / "second", **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in first.claims()}
    assert len(claims) == 17
    refuted = {name for name, claim in claims.items() if not claim.holds}
    printed = {f"figure-{figure}-10-sequences" for figure in (3, 4, 5)}
    assert printed | {"always-one-limit"} <= refuted
    assert not any("5-sequences" in name for name in refuted)
    for name in ("certainty-equivalence", "least-squares", "expected-rule-is-unbiased"):
        assert claims[name].measured < 1e-12, claims[name]


def test_a_z_score_counts_the_printed_figures_own_sampling_error_and_the_reading():
    generator = np.random.default_rng(0)
    printed = np.asarray([results.PRINTED[5][lam] for lam in results.LAMBDAS])
    means = printed + 0.01 * generator.normal(size=(400, 11))
    z = np.asarray(results.z_scores(5, means + 0.03))
    np.testing.assert_allclose(z, -3.0, atol=0.5)
    exact = np.broadcast_to(printed + 0.001, (400, 11))
    np.testing.assert_allclose(results.z_scores(5, exact), -np.sqrt(3))


def test_the_joint_test_is_uniform_on_what_agrees_and_sees_a_shift_along_a_quiet_direction():
    generator = np.random.default_rng(0)
    chosen = [results.LAMBDAS.index(lam) for lam in results.PRINTED[3]]
    printed = np.asarray(list(results.PRINTED[3].values()))
    p, shifted = [], []
    for _ in range(200):
        rows = np.zeros((41, 11))
        noise = 0.02 * generator.normal(size=(41, 1)) + 0.004 * generator.normal(size=(41, 7))
        rows[:, chosen] = printed + noise - noise[-1]
        p.append(results.joint_p(3, rows[:-1]))
        rows[:, chosen[::2]] += 0.02
        shifted.append(results.joint_p(3, rows[:-1]))
    assert 0.4 < np.mean(p) < 0.6
    assert np.mean(np.asarray(p) < 0.05) < 0.11
    assert np.median(shifted) < 0.05


def test_roots_over_sets_have_the_root_of_the_mean_square_as_their_mean():
    squares = np.random.default_rng(0).uniform(0.5, 1.5, size=(50, 3))
    np.testing.assert_allclose(results._roots(squares).mean(0), np.sqrt(squares.mean(0)))


def test_the_means_by_repetition_are_those_of_each_training_set_alone():
    config = sutton_1988.Config(repetitions=2)
    found = sutton_1988.simulate(config, 3)
    walk = RandomWalk(5)
    generator = torch.Generator().manual_seed(sutton_1988.derive_seed(0, "walks", 3))
    sets = sutton_1988.training_sets(walk, generator, 200, 3)
    lam, alpha, errors = 0.3, 0.15, []
    for rows in sets[:100]:
        w = torch.full((5,), 0.5, dtype=torch.float64)
        for x, z, _ in rows:
            values, trace, change = torch.cat([x @ w, z[None]]), torch.zeros(5, dtype=torch.float64), 0
            for t, row in enumerate(x):
                trace = lam * trace + row
                change = change + alpha * (values[t + 1] - values[t]) * trace
            w = w + change
        errors.append(float(walk.rms_error(w)))
    rms = walk.rms_error(sweep(sets[:100], [lam], sutton_1988.ALPHAS, w0=0.5))
    first = sutton_1988._figures([torch.zeros(2, 2, 11)], [torch.stack([rms, rms])])
    assert first["mean"][0][results.ALPHAS.index(alpha)] == pytest.approx(np.mean(errors), rel=1e-12)
    assert np.shape(found["limit"]) == np.shape(found["best"]) == np.shape(found["alpha"]) == (2, 11)
    assert found["unseen"] == np.mean([not sutton_1988.seen_all(rows) for rows in sets])
    assert np.all(np.asarray(found["best_fine"]) <= found["best"])


def test_an_unvisited_state_is_seen():
    eye = torch.eye(5, dtype=torch.float64)
    assert sutton_1988.seen_all([OutcomeSequence(eye[:3], 0.0), OutcomeSequence(eye[3:], 1.0)])
    assert not sutton_1988.seen_all([OutcomeSequence(eye[:4], 0.0)])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"counts": (5,)}, "5 and 10"),
        ({"counts": (0, 5, 10)}, "at least 1"),
        ({"repetitions": 10}, "at least 16"),
        ({"presentations": 0}, "at least 1"),
        ({"small_alpha": 0.0}, "above 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        sutton_1988.check(dataclasses.replace(load_experiment("sutton-1988").PRESETS["quick"], **changes))
