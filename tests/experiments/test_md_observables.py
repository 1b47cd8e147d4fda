"""The ring of beads and its observables, and the experiment on them in small."""

import dataclasses
import math

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _molecules as molecules
from fingerpost.experiments import load_experiment
from fingerpost.lab import RunFolder, run_experiment

RING = molecules.Ring(8)
THETA = torch.tensor([40.0, 1.0, 1.0, 1.0], dtype=torch.float64)
START = RING.starts((4,), 0.2, "test")


@pytest.fixture(scope="module")
def observables():
    return molecules.Observables(RING, torch.arange(8, 33, dtype=torch.float64) * 0.1, 2)


def test_the_force_is_minus_the_gradient_of_the_energy():
    x = START[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(RING.energy(x, START[1], THETA).sum(), x)
    torch.testing.assert_close(RING.force(START[0], THETA), -slope, rtol=1e-12, atol=1e-11)


def test_the_energy_of_two_known_pairs_is_their_sum():
    ring = molecules.Ring(6)
    angle = torch.arange(6, dtype=torch.float64) * (math.pi / 3)
    x = torch.stack([angle.cos(), angle.sin(), torch.zeros(6, dtype=torch.float64)])  # neighbours 1 apart
    theta = torch.tensor([40.0, 0.9, 0.7, 1.1], dtype=torch.float64)
    pairs = sum(n * ((1.1 / r) ** 12 - (1.1 / r) ** 6) for n, r in ((6, math.sqrt(3)), (3, 2.0)))
    expected = 6 * 0.5 * 40.0 * 0.1**2 + 4 * 0.7 * pairs
    assert float(ring.energy(x, torch.zeros_like(x), theta)) == pytest.approx(expected, rel=1e-12)


def test_parameters_of_each_copy_act_on_that_copy_alone():
    rows = torch.stack([THETA, 1.1 * THETA, 0.9 * THETA, THETA])
    together = RING.force(START[0], rows)
    for i, theta in enumerate(rows):
        torch.testing.assert_close(together[i], RING.force(START[0][i], theta), rtol=1e-12, atol=1e-12)


def test_starts_repeat_rest_at_the_origin_and_differ_by_label():
    again, other = RING.starts((4,), 0.2, "test"), RING.starts((4,), 0.2, "another")
    assert torch.equal(again[0], START[0])
    assert not torch.equal(other[0], START[0])
    assert max(float(part.mean(-1).abs().max()) for part in START) < 1e-14


def test_soft_bins_hold_every_pair_once(observables):
    xs, _ = molecules.watch(RING, THETA, START, [0.0, 0.1, 0.2], 0.02)
    rows = observables(xs[1:])
    assert rows.shape == (2, 4, 27)
    held = rows[..., 2:].sum(-1) * observables.spacing
    torch.testing.assert_close(held, torch.ones_like(held), rtol=0, atol=0.02)


def test_observables_are_the_mean_and_variance_of_bonds(observables):
    xs = torch.stack([START[0], START[0]])
    mean, variance = observables.reduced(observables(xs).mean(-2))[0, :2]
    bonds, _ = RING.distances(START[0])
    assert float(mean) == pytest.approx(float(bonds.mean()), rel=1e-12)
    assert float(variance) == pytest.approx(float(bonds.var(unbiased=False)), rel=1e-9)


def test_the_mismatch_of_the_target_with_itself_is_zero(observables):
    rows = observables(molecules.watch(RING, THETA, START, [0.0, 0.1, 0.2], 0.02)[0][1:])
    target = observables.reduced(rows.mean(-2))
    mismatch = molecules.Mismatch(observables, target, observables.errors(rows))
    assert float(mismatch.of(target)) == 0
    assert float(mismatch.of(target + mismatch.scale)) == pytest.approx(1)


def test_a_cold_small_oscillation_has_no_positive_exponent():
    """A ring of stiff bonds near rest, with the attraction off, is all but linear."""
    theta = torch.tensor([40.0, 1.05, 1e-9, 1e-3], dtype=torch.float64)
    x, v = RING.starts((2,), 1e-8, "cold")
    stretched = RING.distances(x)[0].mean()
    theta[1] = stretched
    rate = molecules.lyapunov(RING, theta.expand(2, 4), (x, 0 * v), (2.0, 6.0), 0.02)
    hot = molecules.lyapunov(RING, THETA.expand(4, 4), START, (2.0, 6.0), 0.02)
    assert float(rate.max()) < 0.7 * float(hot.mean())


def test_the_experiment_holds_its_claims_in_small(tmp_path):
    module = load_experiment("md-observables")
    config = dataclasses.replace(
        module.PRESETS["quick"], seeds=3, beads=6, audit_copies=8, copies=4, target_copies=32, steps=3, length=0.4,
        windows=2, chaos_length=6, chaos_copies=8, energy_length=2.0,
    )  # fmt: skip
    run_experiment(module, config, tmp_path / "run", name="md-observables", preset="quick")
    claims = {claim.name: claim for claim in RunFolder(tmp_path / "run").claims()}
    for name in (
        "finite-differences",
        "checkpoint-is-tape",
        "audited",
        "audited-exact-trajectory",
        "energy-order",
    ):
        assert claims[name].holds, (name, claims[name].measured, claims[name].note)
    assert not claims["recovers-k"].holds  # three steps recover nothing: the claim can fail


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float32"}, {"device": "cuda"}, {"seeds": 2}, {"beads": 7}, {"chaos_length": 3}, {"windows": 99},
        {"audit_copies": 4}, {"step_size": 0.0}, {"interval": 5.0},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(changes):
    module = load_experiment("md-observables")
    with pytest.raises(ConfigError, match=next(iter(changes))):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))
