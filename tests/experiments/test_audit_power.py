"""The audit's validation in small, and the independence of what it is validated on."""

import dataclasses

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _faulty as faulty
from fingerpost.experiments import audit_power
from fingerpost.lab import RunFolder, run_experiment


def test_the_handwritten_backward_pass_is_autograds():
    net = faulty.random_net(3, 32)
    loss = faulty.NetLoss(net)
    point = [h.clone().requires_grad_() for h in loss.point]
    exact = torch.autograd.grad(loss(point).sum(), point)
    for ours, theirs in zip(net.backward(), exact):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_a_relaxation_that_goes_on_ends_at_the_gradient():
    net = faulty.random_net(4, 16, depth=3)
    for ours, theirs in zip(faulty.relaxed(net, steps=3000, step_size=0.1), net.backward()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(faulty.FAULTS))
def test_every_injected_fault_differs_from_the_gradient(name):
    net = faulty.random_net(5, 32)
    distance = sum(float((a - g).norm() / g.norm()) for a, g in zip(faulty.FAULTS[name](net), net.backward()))
    assert distance > 0.05


def test_noise_has_the_share_that_was_asked_for():
    signals = faulty.random_net(6, 32).backward()
    noisy = faulty.with_noise(signals, 0.1, seed=0)
    for a, b in zip(signals, noisy):
        torch.testing.assert_close((b - a).norm(dim=1), 0.1 * a.norm(dim=1))


def test_the_wilson_interval_agrees_with_the_textbook():
    low, high = audit_power.wilson(9, 10)
    assert (low, high) == pytest.approx((0.5958, 0.9821), abs=1e-4)


def test_the_experiment_states_its_seven_claims(tmp_path):
    config = dataclasses.replace(audit_power.PRESETS["quick"], repeats=4, healthy=4, nets=1)
    run_experiment(audit_power, config, tmp_path / "run", name="audit-power")
    claims = {claim.name: claim for claim in RunFolder(tmp_path / "run").claims()}
    assert {"coverage-gamma", "coverage-batch-gamma", "coverage-rho", "coverage-scale"} < set(claims)
    assert claims["false-names"].measured == 0
    assert claims["detection"].measured > 90
    assert claims["naming"].measured > 80


@pytest.mark.parametrize("changes", [{"samples": (32,)}, {"repeats": 0}, {"coverage_samples": (4,)}])
def test_settings_that_cannot_work_are_refused(changes):
    with pytest.raises(ConfigError):
        audit_power.check(dataclasses.replace(audit_power.PRESETS["quick"], **changes))
