"""The adjoint experiment in small, and the forms that it judges against autograd."""

import dataclasses

import pytest
import torch

from fingerpost.errors import ConfigError
from fingerpost.experiments import _adjoint_forms as forms
from fingerpost.experiments import load_experiment
from fingerpost.lab import RunFolder, run_experiment

TIGHT = {"method": "dop853", "rtol": 1e-10, "atol": 1e-11}
NEURAL = forms.neural_problems(0, 5, 4)
CUBIC = forms.cubic_problems(0, 5)


def distance(found, exact):
    found, exact = (torch.cat([part.flatten() for part in g.values()]) for g in (found, exact))
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("loss", NEURAL)
def test_the_right_form_equals_autograd_through_the_solver(loss):
    problem = NEURAL[loss]
    exact = forms.gradient_by(problem, gradient="tape", **TIGHT)
    assert distance(forms.gradient_of_form(problem, forms.RIGHT, **TIGHT), exact) < 1e-8


@pytest.mark.parametrize("loss", CUBIC)
def test_loss_and_right_form_equal_the_closed_form(loss):
    problem, closed = CUBIC[loss]
    rate = problem.parameters["rate"].clone().requires_grad_()
    value = closed(rate)
    (exact,) = torch.autograd.grad(value.sum(), rate)
    torch.testing.assert_close(problem.loss(**TIGHT), value.detach(), rtol=1e-8, atol=1e-8)
    assert distance(forms.gradient_of_form(problem, forms.RIGHT, **TIGHT), {"rate": exact}) < 1e-8


@pytest.mark.parametrize(
    ("loss", "form", "expected"),
    [
        ("running", forms.Form(drive=1.0, weight=-1.0), 1.0),
        ("running", forms.Form(drive=1.0, weight=1.0), -1.0),
        ("observed", forms.Form(weight=-1.0), -1.0),
    ],
)
def test_each_reading_of_the_source_has_the_sign_that_the_page_says(loss, form, expected):
    exact = forms.gradient_of_form(NEURAL[loss], forms.RIGHT, **TIGHT)
    found = forms.gradient_of_form(NEURAL[loss], form, **TIGHT)
    assert distance(found, {name: expected * value for name, value in exact.items()}) < 1e-8


def test_an_assigned_adjoint_forgets_all_observations_but_the_next():
    problem = NEURAL["observed"]
    exact = forms.gradient_of_form(problem, forms.RIGHT, **TIGHT)
    assigned = forms.gradient_of_form(problem, forms.Form(adds=False), **TIGHT)
    assert distance(assigned, exact) > 0.1


def test_the_experiment_holds_its_claims_in_small(tmp_path):
    module = load_experiment("adjoint-three-losses")
    config = dataclasses.replace(
        module.PRESETS["quick"], samples=16, width=4, tolerances=(1e-3, 1e-5), directions=1
    )
    run_experiment(module, config, tmp_path / "run", name="adjoint-three-losses", preset="quick")
    claims = {claim.name: claim for claim in RunFolder(tmp_path / "run").claims()}
    for name in ("ours-tape", "ours-checkpoint", "ours-backsolve", "running-constraint", "running-field",
                 "observed-field", "observed-constraint", "no-one-reading", "closed-forms", "finite-differences",
                 "checkpoint-is-tape", "likelihood-minus"):  # fmt: skip
        assert claims[name].holds, (name, claims[name].measured, claims[name].note)


@pytest.mark.parametrize(
    "changes", [{"dtype": "float32"}, {"samples": 4}, {"tolerances": (1e-3,)}, {"device": "cuda"}]
)
def test_settings_that_cannot_work_are_refused(changes):
    module = load_experiment("adjoint-three-losses")
    with pytest.raises(ConfigError, match=next(iter(changes))):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))
