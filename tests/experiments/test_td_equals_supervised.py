"""td-equals-supervised in small: that it repeats, and that each part measures what it says."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import load_experiment
from fingerpost.experiments import td_equals_supervised as module
from fingerpost.td import td_gradients

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "sequences": 24, "units": 12, "length": 8, "width": 5, "trials": 8, "lambdas": (0.0, 0.5, 1.0),
    "alphas": (0.001, 0.002, 0.2), "steps": 30, "sets": 12, "walk_alphas": (0.04, 0.16),
}  # fmt: skip


def config(**changes):
    return dataclasses.replace(
        load_experiment("td-equals-supervised").PRESETS["quick"], **{**TINY, **changes}
    )


def test_it_repeats_to_the_bit_and_refutes_only_that_the_update_is_independent_of_the_outcome(tmp_path):
    first = carry_out("td-equals-supervised", tmp_path / "first", **TINY)
    carry_out("td-equals-supervised", tmp_path / "second", **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in first.claims()}
    assert len(claims) == 21
    refuted = {name for name, claim in claims.items() if not claim.holds}
    assert "independent-of-z" in refuted
    left_open_by_few = {"walks-accumulating-online", "td-0-points-elsewhere"}
    assert refuted <= {"independent-of-z"} | left_open_by_few
    assert claims["all-but-the-last-independent-of-z"].measured == 0


def test_audits_are_exact_at_lambda_1_alone_and_name_the_sign_of_the_added_change():
    found = module.audits(config())
    for (kind, state, lam), report in found.items():
        if math.isnan(lam):
            assert str(report.verdict).startswith("FAULT(sign")
        else:
            assert (report.verdict.name == "EXACT") == (lam == 1), (kind, state, lam)


def test_the_loss_of_padded_sequences_is_that_of_the_sequences():
    small = config()
    part, model = module.batch(small), module.predictor(small, "network")
    losses = module.supervised_loss(model, part)
    for (x, z), loss, length in zip(module.cut(part), losses, part[2].tolist()):
        assert len(x) == length
        with torch.no_grad():
            assert float((z - model(x)[:, 0]).square().sum() / 2) == pytest.approx(loss.item(), rel=1e-12)


def test_a_rule_that_forgets_the_outcome_is_not_taken_for_the_gradient():
    small = config()
    x, z = module.cut(module.batch(small))[0]
    model = module.predictor(small, "network")
    right, wrong = td_gradients(model, x, z, 1.0), td_gradients(model, x, model(x)[-1, 0].detach(), 1.0)
    assert max(float((right[name] - wrong[name]).norm() / right[name].norm()) for name in right) > 0.1


def test_changes_apart_are_over_the_lengths_of_all_changes():
    one = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    other = torch.tensor([[0.0, 0.0], [3.0, -4.0]])
    assert module.apart(one, other) == pytest.approx(8 / 5)


def test_training_lowers_the_supervised_loss_and_the_matrix_is_symmetric_at_lambda_1_alone():
    small = config()
    part, model = module.batch(small), module.predictor(small, "network")
    before = module.supervised_loss(model, part).mean().item()
    module.train(small, model, part)
    assert module.supervised_loss(model, part).mean().item() < before
    found = module.asymmetries(small)
    assert found[1.0] < 1e-14
    assert found[0.0] > found[0.5] > 0.01


def test_online_changes_at_a_vanishing_step_are_the_offline_ones():
    found = module.deviations(config(alphas=(1e-9, 1e-6, 0.1), sequences=12))
    for rule in ("accumulating", "network"):
        tiny, small, large = (sum(values) / len(values) for values in found[rule]["offline"])
        assert tiny < 1e-6
        assert small / tiny == pytest.approx(1000, rel=1e-2)
        assert large > 0.01
    assert max(max(values) for values in found["true online"]["online"]) < 1e-12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lambdas": (0.0, 0.5)}, "0 and 1 among them"),
        ({"lambdas": (0.0, 1.0, 2.0)}, r"\[0, 1\]"),
        ({"alphas": (0.1,)}, "at least three"),
        ({"alphas": (0.0, 0.1, 0.2)}, "above 0"),
        ({"walk_alphas": ()}, "at least one"),
        ({"units": 4}, "8 parts"),
        ({"sequences": 10}, "a sequence in each"),
        ({"length": 1}, "length at least 2"),
        ({"sets": 2}, "at least 8"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        module.check(config(**changes))
