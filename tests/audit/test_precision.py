"""Losses run in float64, whatever they do inside, and nothing of the user's is changed by that."""

import copy

import pytest
import torch
from torch import nn

from audit.subjects import build, normal, quartic, slope_of  # isort: skip
from fingerpost.audit import audit
from fingerpost.audit._precision import DoublePrecision

NET = build(lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1)))


class Cube(torch.autograd.Function):
    """x³ with its derivative by hand."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


def with_autocast(x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return NET(x)[:, 0].float() + quartic(x)


LOSSES = {
    "float": lambda x: NET(x.float()).float()[:, 0] + quartic(x),
    "to float32": lambda x: NET(x.to(torch.float32))[:, 0] + quartic(x.to(dtype=torch.float32)),
    "to other": lambda x: quartic(x.to(NET[0].weight)),
    "type": lambda x: quartic(x.type(torch.float32)),
    "zeros": lambda x: (torch.zeros(len(x), 6, dtype=torch.float32) + x).pow(2).sum(1) + quartic(x),
    "constants": lambda x: quartic(x * torch.tensor([1.0, 2, 3, 4, 5, 6]) + torch.linspace(0, 1, 6)),
    "in place": lambda x: quartic(torch.zeros(len(x), 6).add_(x).mul_(2.0)),
    "assigned": lambda x: quartic(assigned(x)),
    "item": lambda x: quartic(x * (1 + NET[0].weight.max().item())),
    "custom function": lambda x: Cube.apply(x).sum(1) + quartic(x),
    "vmap": lambda x: torch.func.vmap(lambda row: NET(row)[0])(x) + quartic(x),
    "jvp": lambda x: torch.func.jvp(NET, (x,), (torch.ones_like(x),))[1][:, 0] + quartic(x),
    "softmax dtype": lambda x: torch.softmax(x, 1, dtype=torch.float32).square().sum(1) + quartic(x),
    "autocast": with_autocast,
    "mixed list": lambda x: torch.cat([x, torch.ones(len(x), 1)], 1).pow(3).sum(1),
}


def assigned(x):
    out = torch.empty(len(x), 6)
    out[:, :3] = x[:, :3]
    out[:, 3:] = 2 * x[:, 3:]
    return out


@pytest.mark.parametrize("name", LOSSES)
def test_a_float32_loss_is_read_in_float64(name):
    loss = LOSSES[name]
    x = normal(48, 6).float()
    report = audit(slope_of(loss), loss, x, cost=False, perturbations=4)
    assert report.layers[0].figures["rho_exact"].value > 0.99999
    assert report.passed if name == "autocast" else report.verdict.name == "EXACT"


def test_the_loss_under_the_mode_equals_the_loss_of_a_float64_model():
    x = normal(16, 6).float()
    with DoublePrecision():
        mixed = NET(x)
    wide = build(lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))).double()
    torch.testing.assert_close(mixed, wide(x.double()), rtol=1e-14, atol=1e-14)
    assert mixed.dtype == torch.float64


def test_dtypes_are_seen_as_they_are_used():
    x = torch.ones(2)
    with DoublePrecision():
        assert x.dtype == torch.float64
        assert torch.zeros(2, dtype=x.dtype).dtype == torch.float64
        assert torch.arange(2).dtype == torch.int64
    assert x.dtype == torch.float32


def test_batch_statistics_of_the_users_model_stay_as_they_were():
    norm = nn.BatchNorm1d(6)
    mean, count = norm.running_mean.clone(), norm.num_batches_tracked.clone()
    x = normal(32, 6).float()

    def loss(x):
        return norm(x).pow(3).sum(1)

    assert audit(slope_of(loss), loss, x, cost=False, quick=True).verdict.name == "EXACT"
    assert torch.equal(norm.running_mean, mean)
    assert torch.equal(norm.num_batches_tracked, count)


def test_a_parameter_changed_between_calls_is_widened_anew():
    weight = torch.ones(3)
    with DoublePrecision():
        assert (weight * 2).sum() == 6
        weight.fill_(2.0)
        assert (weight * 2).sum() == 12


def test_a_compiled_model_is_read_or_refused_clearly():
    model, wide = torch.compile(NET, backend="eager"), copy.deepcopy(NET).double()
    x = normal(24, 6)

    def loss(x):
        return model(x)[:, 0] + quartic(x)

    report = audit(lambda x: torch.autograd.grad(wide(x).sum() + quartic(x).sum(), x), loss, x, cost=False)
    assert report.verdict.name == "EXACT"


def test_turning_double_off_keeps_the_points_precision():
    seen = []

    def loss(x):
        seen.append(x.dtype)
        return quartic(x)

    report = audit(slope_of(quartic), loss, normal(24, 3).float(), cost=False, quick=True, double=False)
    assert set(seen) == {torch.float32}
    assert report.settings["precision"] == "the point's own"
