"""Every verdict can be reached, and says why."""

import pytest
import torch

from audit.subjects import normal, quartic, slope_of  # isort: skip
from fingerpost.audit import PASSING, audit

exact = slope_of(quartic)


def noisy(share, seed=3):
    """The gradient plus noise that does not depend on it: a direction that is mostly right."""

    def signal(x):
        g = exact(x)
        return g + share * normal(*x.shape, seed=seed) * g.norm(dim=1, keepdim=True) / x.shape[1] ** 0.5

    return signal


def stochastic(share):
    def signal(x):
        return exact(x) + share * torch.randn_like(x)

    return signal


def rough(x):
    return quartic(x) + 1e-2 * torch.sin(1e6 * x).sum(1)


SIGNALS = {
    "EXACT": (exact, quartic, {}, "equal to the gradient"),
    "ALIGNED": (noisy(0.5), quartic, {}, "points the right way"),
    "UNBIASED_NOISY": (stochastic(0.5), quartic, {"redraws": 32}, "right on average"),
    "BIASED": (noisy(3.0), quartic, {}, "no known fault"),
    "NULL": (lambda x: normal(*x.shape, seed=9), quartic, {}, "random direction"),
    "FAULT": (lambda x: -exact(x), quartic, {}, "flip the sign"),
    "INSTRUMENT_FAIL": (exact, rough, {}, "nothing can be said of the signal"),
    "INSUFFICIENT": (noisy(0.5), quartic, {"rows": 4}, "too few usable samples"),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_verdict_is_reached_with_a_reason(name):
    signal, loss, options, words = SIGNALS[name]
    rows = options.pop("rows", 96) if "rows" in options else 96
    report = audit(signal, loss, normal(rows, 12), cost=False, **options)
    assert report.verdict.name == name
    assert words in report.verdict.reason
    assert report.passed == (name in PASSING)


def test_a_wrong_reference_is_the_instruments_failure_not_the_signals():
    report = audit(exact, quartic, normal(64, 12), reference=lambda x: normal(64, 12, seed=4), cost=False)
    assert report.verdict.name == "INSTRUMENT_FAIL"
    assert "the reference is wrong" in report.verdict.reason


def test_a_stochastic_signal_is_noticed_and_redrawn_by_a_full_audit():
    report = audit(stochastic(1.0), quartic, normal(64, 12), cost=False)
    assert report.settings["redraws"] == 32
    assert report.verdict.name == "UNBIASED_NOISY"
    figures = report.layers[0].figures
    assert figures["bias"].low < 0.01
    g = exact(normal(64, 12).requires_grad_())
    assert figures["variance"].value == pytest.approx(12 / float(g.square().sum(1).mean()), rel=0.1)
    assert figures["snr"].value == pytest.approx(1 / figures["variance"].value, rel=0.1)


def test_a_biased_stochastic_signal_does_not_pass():
    def signal(x):
        return exact(x) + 0.5 * torch.randn_like(x) + 1.5

    report = audit(signal, quartic, normal(96, 12), cost=False)
    assert report.verdict.name in ("BIASED", "FAULT")
    assert report.layers[0].figures["bias"].low > 0.0025


def test_minus_a_random_feedback_signal_is_not_called_a_sign_error():
    feedback = torch.linalg.qr(normal(12, 12, seed=2))[0]
    feedback = feedback + 0.6 * torch.eye(12, dtype=torch.float64)

    def against(x):
        return -exact(x) @ feedback.T

    report = audit(against, quartic, normal(96, 12), cost=False)
    opposite = audit(lambda x: -against(x), quartic, normal(96, 12), cost=False)
    passes = opposite.passed
    assert ("sign" in [f.name for f in report.faults]) == passes
    far = audit(lambda x: -exact(x) @ normal(12, 12, seed=2), quartic, normal(96, 12), cost=False)
    assert "sign" not in [f.name for f in far.faults]


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_few_samples_are_insufficient_unless_exact(rows):
    x = normal(rows, 3)
    assert audit(exact, quartic, x, cost=False).verdict.name == "EXACT"
    assert audit(noisy(0.7), quartic, x, cost=False).verdict.name == "INSUFFICIENT"


def test_equal_rows_are_no_evidence_of_a_permutation():
    x = normal(1, 6).expand(32, 6).clone()
    assert audit(exact, quartic, x, cost=False).verdict.name == "EXACT"
    assert [f.name for f in audit(lambda x: -exact(x), quartic, x, cost=False).faults] == ["sign"]


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e3, 1e6])
def test_points_of_any_size_are_read_with_steps_of_their_own_size(size):
    x = size * normal(48, 6)

    def loss(x):
        return quartic(x / size)

    report = audit(slope_of(loss), loss, x, cost=False)
    assert report.verdict.name == "EXACT"
    assert report.layers[0].figures["rho_exact"].value > 0.9999


def test_a_point_at_the_origin_is_read():
    x = torch.zeros(48, 6, dtype=torch.float64)
    assert audit(exact, quartic, x, cost=False).verdict.name == "EXACT"


def test_a_point_where_every_gradient_vanishes_is_insufficient():
    x = torch.zeros(16, 3, dtype=torch.float64)
    report = audit(lambda x: 2 * x, lambda x: x.square().sum(1), x, cost=False)
    assert report.verdict.name == "INSUFFICIENT"
    assert "vanishes" in report.verdict.reason


def test_quick_mode_gives_the_same_verdicts_without_perturbations():
    for name in ("EXACT", "ALIGNED", "BIASED", "NULL", "FAULT"):
        signal, loss, _, _ = SIGNALS[name]
        report = audit(signal, loss, normal(96, 12), cost=False, quick=True)
        assert report.verdict.name == name
        assert report.settings["perturbations"] == 0
        assert report.settings["n"] == 64
        assert "rho" not in report.layers[0].figures


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_a_right_direction_in_few_dimensions_is_not_called_random(dimension):
    x = (
        1 + normal(64, dimension).abs()
    )  # every row points nearly the same way, as a random rotation might too
    assert audit(noisy(0.3), quartic, x, cost=False, quick=True).verdict.name == "ALIGNED"
    assert [f.name for f in audit(lambda x: -exact(x), quartic, x, cost=False, quick=True).faults] == ["sign"]
