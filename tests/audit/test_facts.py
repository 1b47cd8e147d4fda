"""The facts the audit is built on (docs/audit.md)."""

import math

import pytest
import torch

from audit.subjects import normal, quartic, seeded, slope_of  # isort: skip
from fingerpost.audit import audit
from fingerpost.audit._instrument import perturb
from fingerpost.audit._point import flatten
from fingerpost.audit._problem import Problem
from fingerpost.audit._statistics import cosine_of, fixed_rotation_null


def mixed_signal(x, angle=0.9):
    g = slope_of(quartic)(x)
    noise = normal(*x.shape, seed=5)
    return math.cos(angle) * g + math.sin(angle) * noise * g.norm(dim=1, keepdim=True) / x.shape[1] ** 0.5


def test_per_sample_rho_is_the_cosine_and_pooled_rho_the_batch_cosine():
    x = normal(6, 4).requires_grad_()
    a, g = mixed_signal(x), slope_of(quartic)(x)
    problem = Problem(quartic, flatten(x), None)
    readings, plateau = perturb(problem, [a], [g], 1500, seeded(1))
    rows = readings[0].clustered("signal", 6)
    cosines = torch.nn.functional.cosine_similarity(a, g, dim=1)
    torch.testing.assert_close(cosine_of(rows), cosines, atol=0.05, rtol=0)
    batch = (a * g).sum() / (a.norm() * g.norm())
    assert abs(float(cosine_of(rows.sum(0)) - batch)) < 0.03
    assert plateau > 0.999999


def test_independent_random_credit_has_a_null_of_one_over_root_dn():
    samples, dimension = 40, 10
    g = normal(samples, dimension)
    gammas = [
        torch.nn.functional.cosine_similarity(normal(samples, dimension, seed=1 + s), g, dim=1).mean()
        for s in range(400)
    ]
    spread = float(torch.stack(gammas).std()) * (samples * dimension) ** 0.5
    assert 0.88 < spread < 1.12  # ± 3.4 standard errors of a standard deviation over 400 draws


def test_fixed_rotation_null_matches_redrawn_rotations_and_is_wider_than_the_independent_null():
    samples, dimension = 64, 8
    common = normal(1, dimension)
    a, g = normal(samples, dimension, seed=1) + common, normal(samples, dimension, seed=2) + common
    gammas = []
    for seed in range(600):
        rotation, triangle = torch.linalg.qr(normal(dimension, dimension, seed=100 + seed))
        rotation = rotation * triangle.diagonal().sign()
        gammas.append(torch.nn.functional.cosine_similarity(a @ rotation.T, g, dim=1).mean())
    null = fixed_rotation_null(a, g)
    assert float(torch.stack(gammas).std()) == pytest.approx(null, rel=0.1)
    assert null > 3 / (samples * dimension) ** 0.5


@pytest.mark.parametrize(("samples", "dimension"), [(5, 40), (40, 5)])
def test_both_forms_of_the_null_are_the_frobenius_norm(samples, dimension):
    a, g = normal(samples, dimension, seed=3), normal(samples, dimension, seed=4)
    unit_a, unit_g = (torch.nn.functional.normalize(t, dim=1) for t in (a, g))
    expected = (unit_g.T @ unit_a / samples).norm() / dimension**0.5
    assert fixed_rotation_null(a, g) == pytest.approx(float(expected), rel=1e-12)


def test_a_signal_through_a_fixed_random_rotation_is_null_not_biased():
    x = normal(128, 6) + 1.5
    verdicts = []
    for seed in range(8):
        rotation = torch.linalg.qr(normal(6, 6, seed=seed))[0]
        report = audit(lambda x: slope_of(quartic)(x) @ rotation.T, quartic, x, cost=False, quick=True)
        verdicts.append(report.verdict.name)
    assert verdicts.count("NULL") >= 5, verdicts


def saturated(x):
    return 100 + torch.nn.functional.softplus(-x - 9).sum(1)


def test_float32_differences_on_a_saturated_loss_make_even_the_exact_gradient_look_bad():
    x = 0.3 * normal(64, 16).float()
    coarse = audit(slope_of(saturated), saturated, x, cost=False, double=False)
    fine = audit(slope_of(saturated), saturated, x, cost=False)
    assert coarse.layers[0].figures["rho_exact"].value < 0.7
    assert coarse.verdict.name == "INSTRUMENT_FAIL"
    assert fine.layers[0].figures["rho_exact"].value > 0.999
    assert fine.verdict.name == "EXACT"


def test_samples_whose_true_gradient_vanishes_are_set_aside_and_counted():
    x = normal(40, 5)

    def loss(x):
        return quartic(x) * (torch.arange(40) >= 7)

    report = audit(slope_of(loss), loss, x, cost=False)
    assert (report.layers[0].samples, report.layers[0].set_aside) == (33, 7)
    assert report.verdict.name == "EXACT"
    assert report.layers[0].figures["gamma"].value == pytest.approx(1)


def test_a_layer_whose_gradient_vanishes_everywhere_is_set_aside_whole():
    point = [normal(40, 5), normal(40, 3, seed=1)]

    def loss(p):
        return quartic(p[0]) + 0 * p[1].sum(1)

    report = audit(slope_of(loss), loss, point, cost=False)
    assert report.layers[1].verdict == "VANISHED"
    assert (report.layers[1].samples, report.layers[1].set_aside) == (0, 40)
    assert report.verdict.name == "EXACT"


def test_the_probe_reads_the_signed_length_that_the_signal_lacks():
    x = normal(30, 5)
    report = audit(lambda x: -2 * slope_of(quartic)(x), quartic, x, cost=False, quick=True)
    assert report.layers[0].figures["probe"].value == pytest.approx(-0.5, abs=1e-4)


def test_scale_and_norm_slope_are_what_they_say():
    x = normal(60, 5)

    def signal(x):
        g = slope_of(quartic)(x)
        return g * g.norm(dim=1, keepdim=True)

    figures = audit(signal, quartic, x, cost=False).layers[0].figures
    assert figures["norm_slope"].value == pytest.approx(2, abs=1e-9)
    g = slope_of(quartic)(x.requires_grad_())
    expected = g.norm(dim=1).pow(3).sum() / g.square().sum()
    assert figures["scale"].value == pytest.approx(float(expected), rel=1e-9)
    assert figures["scale"].low < figures["scale"].value < figures["scale"].high
