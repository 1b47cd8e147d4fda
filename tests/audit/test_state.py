"""Whatever is audited is left as it was, and any module, signal and point will do."""

import functools
import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from audit.subjects import Recurrent, SelfAttention, TiedNet, build, convolutional, normal, quartic, slope_of  # isort: skip
from fingerpost.audit import audit, audit_gradients
from fingerpost.errors import NumericalError, ShapeError

MODULES = {
    "conv and batch norm": (convolutional, (2, 4, 4), 3),
    "attention": (SelfAttention, (5, 8), 3),
    "attention with dropout": (lambda: SelfAttention(0.2), (5, 8), 3),
    "lstm": (Recurrent, (4, 5), 3),
    "tied weights and buffer": (TiedNet, (6,), 0),
    "unequal widths": (lambda: nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.Linear(7, 2)), (5,), 2),
}


def case(name, samples=48, dtype=torch.float64):
    make, shape, classes = MODULES[name]
    model = build(make).to(dtype)
    x = normal(samples, *shape).to(dtype)
    y = torch.arange(samples) % classes if classes else normal(samples, 6, seed=1).to(dtype)
    return model, x, y


def default(model, batch):
    x, y = batch
    return F.mse_loss(model(x), y) if y.is_floating_point() else F.cross_entropy(model(x), y)


def backward(model, batch):
    default(model, batch).backward()


def photograph(model):
    tensors = [*model.parameters(), *model.buffers()]
    return {
        "modes": [m.training for m in model.modules()],
        "values": [t.detach().clone() for t in tensors],
        "grads": [None if t.grad is None else (id(t.grad), t.grad.clone()) for t in tensors],
        "wanted": [t.requires_grad for t in tensors],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
    }


def assert_same(before, after):
    assert before["modes"] == after["modes"]
    assert before["wanted"] == after["wanted"]
    assert all(torch.equal(a, b) for a, b in zip(before["values"], after["values"]))
    for a, b in zip(before["grads"], after["grads"]):
        assert (a is None) == (b is None)
        assert a is None or (a[0] == b[0] and torch.equal(a[1], b[1]))
    assert torch.equal(before["torch"], after["torch"])
    assert before["numpy"] == after["numpy"]
    assert before["python"] == after["python"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", MODULES)
def test_backward_is_exact_on_any_module_and_minus_backward_is_a_sign_fault(name, dtype):
    model, x, y = case(name, dtype=dtype)

    def against(model, batch):
        default(model, batch).backward()
        return {n: -p.grad for n, p in model.named_parameters()}

    if "dropout" in name:
        report = audit_gradients(model, backward, (x, y), cost=False, quick=True, units=12)
        assert report.verdict.name != "EXACT"  # two masks are two losses
        return
    report = audit_gradients(model, backward, (x, y), cost=False, units=12, perturbations=2)
    assert report.verdict.name == "EXACT", report
    assert {layer.verdict for layer in report.layers} <= {"EXACT", "VANISHED"}
    fault = audit_gradients(model, against, (x, y), cost=False, quick=True, units=12).faults
    assert [f.name for f in fault] == ["sign"]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_everything_is_left_as_it_was(name, fails):
    model, x, y = case(name)
    model.train()
    list(model.modules())[-1].eval()
    parameters = list(model.parameters())
    parameters[0].grad = torch.ones_like(parameters[0])
    parameters[-1].requires_grad_(False)
    before = photograph(model)

    def signal(model, batch):
        model.eval()
        backward(model, batch)
        model.train()
        _ = torch.rand(3), np.random.rand(3), random.random()
        with torch.no_grad():
            parameters[0].add_(1e-9)
        parameters[0].requires_grad_(True)
        if fails:
            raise ZeroDivisionError("from the signal")
        return {n: torch.ones_like(p) for n, p in model.named_parameters() if p is not parameters[-1]}

    if fails:
        with pytest.raises(ZeroDivisionError, match="from the signal"):
            audit_gradients(model, signal, (x, y), quick=True, units=8)
    else:
        audit_gradients(model, signal, (x, y), quick=True, units=8)
    assert_same(before, photograph(model))


def test_state_is_kept_when_the_loss_raises():
    model, x, y = case("conv and batch norm")
    model.train()
    before = photograph(model)
    calls = []

    def loss(model, batch):
        calls.append(1)
        value = default(model, batch)
        if len(calls) > 10:
            raise ZeroDivisionError("from the loss")
        return value

    with pytest.raises(ZeroDivisionError):
        audit_gradients(model, backward, (x, y), loss=loss, cost=False, units=8)
    assert_same(before, photograph(model))


class Holder:
    """Signals of every kind of callable, on one network with batch norm."""

    def __init__(self):
        self.net = build(lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh())).double()

    def loss(self, x):
        return self.net(x).sum(1) + 0.1 * quartic(x)

    def bound(self, x):
        self.net[0].weight.grad = torch.ones_like(self.net[0].weight)
        return torch.autograd.grad(self.loss(x).sum(), x)

    def __call__(self, x):
        return self.bound(x)


@pytest.mark.parametrize("kind", ["bound", "partial", "closure", "object", "nested"])
def test_signals_of_every_kind_of_callable_leave_their_network_as_it_was(kind):
    holder = Holder()
    net = holder.net
    signal = {
        "bound": holder.bound,
        "partial": functools.partial(Holder.bound, holder),
        "closure": lambda x: holder.bound(x),
        "object": holder,
        "nested": functools.partial(lambda pair, x: pair["a"][0].bound(x), {"a": [holder]}),
    }[kind]
    before = photograph(net)
    report = audit(signal, holder.loss, normal(32, 4), quick=True)
    assert report.verdict.name == "EXACT"
    assert_same(before, photograph(net))


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


def leaves_of(point):
    return list(torch.utils._pytree.tree_leaves(point))


POINTS = {
    "tensor": (normal(24, 3), ("point",)),
    "list": ([normal(24, 3), normal(24, 5)], ("1", "2")),
    "tuple": ((normal(24, 3), normal(24, 5)), ("1", "2")),
    "named tuple": (Pair(normal(24, 3), normal(24, 2, 2)), ("1", "2")),
    "dictionary": ({"w": normal(24, 3), "b": normal(24, 1)}, ("w", "b")),
    "nested": ({"a": [normal(24, 3), (normal(24, 2),)], "b": normal(24, 4)}, ("a.1", "a.2.1", "b")),
    "images": (normal(24, 2, 3, 3), ("point",)),
    "one number per sample": (normal(24), ("point",)),
}


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("name", POINTS)
def test_points_of_any_structure(name, per_sample):
    point, names = POINTS[name]

    def loss(p):
        assert type(p) is type(point)
        value = sum(quartic(leaf.reshape(24, -1)) for leaf in leaves_of(p))
        return value if per_sample else value.sum()

    def signal(p):
        leaves, spec = torch.utils._pytree.tree_flatten(p)
        return torch.utils._pytree.tree_unflatten(torch.autograd.grad(loss(p).sum(), leaves), spec)

    report = audit(signal, loss, point, cost=False)
    assert report.verdict.name == "EXACT"
    assert tuple(layer.name for layer in report.layers) == names
    assert report.settings["per_sample"] == per_sample
    assert report.layers[0].samples == (24 if per_sample else 1)


def test_scalar_parameters_and_wide_ones_in_one_point():
    point = {"gain": torch.tensor(0.7, dtype=torch.float64), "w": normal(300_000)}
    x = normal(8, seed=3)

    def loss(p):
        return torch.tanh(p["gain"] * x).sum() + p["w"].square().sum() / 1e3 + p["gain"] * p["w"].mean()

    def signal(p):
        return dict(zip(p, torch.autograd.grad(loss(p), list(p.values()))))

    assert audit(signal, loss, point, cost=False, perturbations=4).verdict.name == "EXACT"


def test_parameters_with_as_many_rows_as_samples_are_not_taken_for_samples():
    x, weight = normal(20, 6), normal(20, 6, seed=1)

    def loss(w):
        return torch.tanh(x @ w.T).sum(1)

    report = audit(slope_of(loss), loss, weight, cost=False)
    assert report.settings["per_sample"] is False
    assert report.verdict.name == "EXACT"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_points_of_every_precision(dtype):
    x = normal(64, 6).to(dtype)
    report = audit(slope_of(quartic), quartic, x, cost=False)
    assert report.verdict.name == "EXACT"
    assert [f.name for f in audit(lambda x: -slope_of(quartic)(x), quartic, x, cost=False).faults] == ["sign"]


def test_the_point_itself_is_not_written_to():
    x = normal(24, 3)
    kept = x.clone()

    def signal(x):
        g = slope_of(quartic)(x)
        x.data.zero_()
        return g

    audit(signal, quartic, x, cost=False)
    assert torch.equal(x, kept)
    assert not x.requires_grad


@pytest.mark.parametrize("error", [ShapeError, NumericalError])
def test_state_is_kept_when_the_signal_is_refused(error):
    model, x, y = case("unequal widths")
    before = photograph(model)

    def signal(model, batch):
        backward(model, batch)
        wrong = {n: p.grad * torch.nan for n, p in model.named_parameters()}
        return {n: g[:1] for n, g in wrong.items()} if error is ShapeError else wrong

    with pytest.raises(error, match=r"0\.weight"):
        audit_gradients(model, signal, (x, y), quick=True)
    assert_same(before, photograph(model))
