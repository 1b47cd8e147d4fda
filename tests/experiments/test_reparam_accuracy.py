"""The experiment reparam-accuracy in small: its errors are errors, its claims can fail, and it repeats to the bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fingerpost.errors import ConfigError
from fingerpost.experiments import _reparam_families as families
from fingerpost.experiments import _reparam_peers as peers
from fingerpost.experiments import load_experiment

from experiments.carrying import carry_out, results_of  # isort: skip

SMALL = {"stride": 12, "repeats": 0}


def test_velocities_reach_their_targets_and_the_run_repeats_to_the_bit(tmp_path):
    first = carry_out("reparam-accuracy", tmp_path / "first", **SMALL)
    carry_out("reparam-accuracy", tmp_path / "second", **SMALL)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in first.claims()}
    for family in families.FAMILIES:
        assert claims[f"{family.name.lower()}-float64"].holds
    assert claims["all-finite"].measured == 0
    assert claims["second-derivatives"].holds
    assert claims["gamma-against-torch"].holds


def test_a_wrong_velocity_shows_as_an_error():
    module = load_experiment("reparam-accuracy")
    family = next(f for f in families.FAMILIES if f.name == "Rice")
    table = family.load()
    right = {name: table[f"d_{name}"] for name in ("loc", "scale")}
    assert module.worst(module.relative(right, table, ("loc", "scale"))) == 0
    wrong = {**right, "scale": right["scale"] * (1 + 1e-6)}
    assert module.worst(module.relative(wrong, table, ("loc", "scale"))) == pytest.approx(1e-6, rel=1e-3)
    broken = {**right, "loc": np.full(len(table), np.nan)}
    assert np.isinf(module.worst(module.relative(broken, table, ("loc", "scale"))))


def test_a_peer_that_is_missing_is_named_and_not_guessed(tmp_path, monkeypatch):
    absent = dataclasses.replace(peers.PEERS[0], name="nobody", module="no_such_library")
    monkeypatch.setattr(peers, "PEERS", (absent,))
    folder = carry_out("reparam-accuracy", tmp_path / "run", **SMALL)
    table = (tmp_path / "run" / "tables" / "errors.csv").read_text(encoding="utf-8")
    assert "No module named 'no_such_library'" in table
    assert not any("nobody" in claim.name for claim in folder.claims())


@pytest.mark.parametrize("change", [{"stride": 0}, {"samples": 0}, {"repeats": -1}])
def test_settings_that_cannot_work_are_refused(change):
    module = load_experiment("reparam-accuracy")
    with pytest.raises(ConfigError, match=next(iter(change))):
        module.check(dataclasses.replace(module.PRESETS["quick"], **change))
