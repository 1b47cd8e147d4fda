"""The experiment on flows in small: what it judges, that it learns and repeats, and what it refuses."""

import dataclasses
import math

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import cnf_2d

from experiments.carrying import carry_out  # isort: skip

TINY = {
    "densities": ("soft-moons",),
    "steps": 40,
    "batch_size": 64,
    "width": 16,
    "held_out": 200,
    "rtol": 1e-3,
}


@pytest.fixture(autouse=True)
def coarse_pictures(monkeypatch):
    monkeypatch.setattr(cnf_2d, "CELLS", 40)


def tiny(**changes):
    return dataclasses.replace(cnf_2d.PRESETS["quick"], **{**TINY, **changes})


def claims_of(folder):
    return {claim.name: claim for claim in carry_out("cnf-2d", folder, **TINY).claims()}


def test_a_flow_that_does_not_move_scores_as_the_scaled_normal():
    flow = cnf_2d.Flow(tiny(dtype="float64"), "soft-moons")
    for parameter in flow.net.parameters():
        torch.nn.init.zeros_(parameter)
    x = flow.samples(7, "a test")
    normal = torch.distributions.Normal(torch.zeros(2, dtype=torch.float64), flow.scale)
    torch.testing.assert_close(flow.log_prob(x), normal.log_prob(x).sum(1))


def test_training_comes_nearer_to_the_density_than_a_gaussian_and_repeats_to_the_bit(tmp_path):
    claims = claims_of(tmp_path / "first")
    assert claims["likelihood-soft-moons"].measured > 0.0
    assert claims["mass"].holds, claims["mass"].measured
    assert claims["round-trip"].holds, claims["round-trip"].measured
    claims_of(tmp_path / "second")
    for name in ("claims.json", "metrics.jsonl", "stages/fit-soft-moons.json", "figures/soft-moons.svg"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_histogram_is_a_density():
    x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    cells = cnf_2d._histogram(x, 1.0, cells=4)
    assert math.isclose(float(cells.sum()) * 0.5**2, 1.0)
    assert float(cells[0].sum()) == 0.0


@pytest.mark.parametrize(
    "changes",
    [{"densities": ("moon",)}, {"densities": ()}, {"held_out": 5}, {"gradient": "adjoint"}, {"rtol": 0.0}],
)
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        cnf_2d.check(tiny(**changes))
