"""reparam-audit in small: its truth, its claims, its planted mistakes, and that it ends the same every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _reparam_quantiles as quantiles
from fingerpost.experiments import load_experiment

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {"rows": 10, "columns": 4, "draws": 24, "redraws": 32}
SUBJECTS = pytest.mark.parametrize("subject", quantiles.SUBJECTS, ids=lambda subject: subject.name)


def point_of(subject, shape=(6, 4), seed=0):
    return subject.draw_parameters(shape, torch.Generator().manual_seed(seed))


def drawn(subject, point, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return subject.make(**point).sample()


def test_its_claims_hold_in_small(tmp_path):
    folder = carry_out("reparam-audit", tmp_path / "run", **TINY)
    claims = {claim.name: claim for claim in folder.claims()}
    assert len(claims) == 9
    for name in claims.keys() - {"rsample-is-unbiased"}:  # needs more redraws
        assert claims[name].holds, (name, claims[name].measured, claims[name].note)
    assert "FAULT(sign" in claims["wrong-sign-is-named"].note


def test_it_repeats_to_the_bit(tmp_path, monkeypatch):
    few = tuple(subject for subject in quantiles.SUBJECTS if subject.name in ("Rice", "Gamma"))
    monkeypatch.setattr(quantiles, "SUBJECTS", few)
    for name in ("first", "second"):
        carry_out("reparam-audit", tmp_path / name, **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")


@SUBJECTS
def test_the_truths_density_is_the_slope_of_its_distribution_function(subject):
    point = {name: x.numpy() for name, x in point_of(subject).items()}
    z = drawn(subject, point_of(subject)).numpy()
    if subject.periodic:
        z = point["loc"] + np.remainder(z - point["loc"] + np.pi, 2 * np.pi) - np.pi
    step = 1e-5 * np.minimum(1, np.abs(z))
    below, above, density = subject.law(z, point)
    slope = (subject.law(z + step, point)[0] - subject.law(z - step, point)[0]) / (2 * step)
    np.testing.assert_allclose(below + above, 1, atol=1e-12)
    np.testing.assert_allclose(slope, density, rtol=2e-5, atol=1e-9)


@SUBJECTS
def test_the_truths_log_density_has_the_same_slope(subject):
    """The two truths, of paths and of means, are of one distribution."""
    point = point_of(subject)
    z = drawn(subject, point).requires_grad_()
    (found,) = torch.autograd.grad(subject.log_density(z, **point).sum(), z)
    (ours,) = torch.autograd.grad(subject.make(**point).log_prob(z).sum(), z)
    torch.testing.assert_close(found, ours, rtol=1e-8, atol=1e-8)


@SUBJECTS
def test_the_path_starts_at_the_sample_and_holds_its_rank(subject):
    point = point_of(subject)
    path = quantiles.Path(subject, drawn(subject, point), point)
    np.testing.assert_allclose(path(point).numpy(), path.start, rtol=1e-10)
    moved = {name: x + 0.01 for name, x in point.items()}
    below, _, _ = subject.law(path(moved).numpy(), {name: x.numpy() for name, x in moved.items()})
    np.testing.assert_allclose(below, path.below, rtol=1e-9, atol=1e-13)


@SUBJECTS
def test_expectations_are_means_of_samples(subject):
    point = point_of(subject, shape=(2, 4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        value = quantiles.function(subject, subject.make(**point).sample((4000,)))
    error = value.std(0) / 4000**0.5
    assert bool(((value.mean(0) - quantiles.expectation(subject, point)).abs() < 5 * error).all())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"dtype": "float32"}, "float64"),
        ({"device": "cuda"}, "cpu"),
        ({"rows": 4}, "rows"),
        ({"redraws": 8}, "redraws"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, word):
    module = load_experiment("reparam-audit")
    with pytest.raises(ConfigError, match=word):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))
