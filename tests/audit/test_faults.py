"""Faults written by hand elsewhere are recognised, with the layers that have them."""

import pytest
import torch

from audit.subjects import Layered, examine  # isort: skip
from fingerpost.audit import TEMPLATES, audit_gradients
from fingerpost.experiments._faulty import FAULTS, previous_states, random_net, with_noise

PARTIAL = {
    "sign": lambda g: -g,
    "sign only": torch.sign,
    "unit norm": lambda g: g / g.norm(dim=1, keepdim=True),
}
WHOLE_EXCEPT_TOP = {
    "transposed weights", "missing φ′", "missing skip", "double skip", "wrong block (above)",
    "wrong block (below)", "stale activations", "unconverged", "scale decaying with depth",
}  # fmt: skip


def largest(report):
    return max(report.faults, key=lambda fault: len(fault.layers), default=None)


def all_but_one_row_have_one_length(net):
    lengths = [a.norm(dim=1) for a in FAULTS["clipped"](net)]
    return all(int((n < 0.999 * n.max()).sum()) <= 1 for n in lengths)


def test_every_hand_written_fault_has_a_template():
    assert set(FAULTS) <= {template.name for template in TEMPLATES}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_named_at_64_samples_with_noise(name, seed):
    net = random_net(seed, 64)
    signals = with_noise(FAULTS[name](net), 0.1, seed)
    previous = previous_states(net) if name == "stale activations" else None
    report = examine(Layered(net), signals, previous=previous)
    fault = largest(report)
    assert fault is not None
    if name == "clipped" and all_but_one_row_have_one_length(net):
        name = "unit norm"  # clipping every row is normalising it
    assert fault.name == name
    assert fault.explained >= 0.5
    assert fault.sentence in report.verdict.reason
    assert fault.descends == (report.verdict.name == "ALIGNED")
    depth = len(net.weights)
    expected = {str(i + 1) for i in range(depth)}
    if name == "zeroed":
        assert set(fault.layers) == {str(depth // 2 + 1)}
    elif name in WHOLE_EXCEPT_TOP:
        assert str(depth) not in fault.layers or name == "unconverged"
        assert len(fault.layers) >= (depth - 1) / 2
    else:
        assert len(set(fault.layers) & expected) >= depth - 2


@pytest.mark.parametrize("name", PARTIAL)
def test_a_fault_in_some_layers_names_only_these(name):
    net = random_net(3, 64, depth=6)
    signals = net.backward()
    for i in (1, 2, 4):
        signals[i] = PARTIAL[name](signals[i])
    report = examine(Layered(net), with_noise(signals, 0.05, 0))
    assert [(fault.name, fault.layers) for fault in report.faults] == [(name, ("2", "3", "5"))]
    assert [layer.verdict == "FAULT" for layer in report.layers] == [False, True, True, False, True, False]
    assert str(report.verdict) == f"FAULT({name}, layers 2, 3, 5)"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3])
def test_healthy_signals_pass_without_a_fault_name(share):
    for seed in range(3):
        net = random_net(100 + seed, 64)
        report = examine(Layered(net), with_noise(net.backward(), share, seed))
        assert report.passed
        assert report.faults == ()
        assert report.verdict.name == ("EXACT" if share == 0 else "ALIGNED")


def test_two_faults_in_different_layers_are_told_apart():
    net = random_net(4, 64, depth=6)
    signals = net.backward()
    signals[0], signals[5] = -signals[0], signals[5].sign()
    report = examine(Layered(net), signals)
    assert {(f.name, f.layers) for f in report.faults} == {("sign", ("1",)), ("sign only", ("6",))}


def test_the_full_audit_names_what_the_quick_one_names():
    net = random_net(5, 64)
    signals = with_noise(FAULTS["transposed weights"](net), 0.1, 0)
    report = examine(Layered(net), signals, quick=False)
    assert largest(report).name == "transposed weights"
    assert report.layers[0].figures["rho_exact"].value > 0.9999


def test_a_flipped_sign_with_a_fault_beneath_names_both():
    net = random_net(3, 64, depth=6)
    report = examine(Layered(net), [-a for a in FAULTS["unconverged"](net)])
    assert largest(report).name == "sign + unconverged"
    assert "flip the sign, and then" in report.verdict.reason


def test_layers_that_nothing_reached_are_zeroed_whatever_sign_rounding_left_them():
    net = random_net(4, 64, depth=8)
    signals = FAULTS["unconverged"](net)
    noise = torch.randn(2, *signals[0].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradient = net.backward()
    for layer in (0, 1):
        signals[layer] = 1e-19 * gradient[layer].norm(dim=1, keepdim=True) * noise[layer]
    faults = {fault.name: fault.layers for fault in examine(Layered(net), signals).faults}
    assert faults["zeroed"] == ("1", "2")
    assert set(faults["unconverged"]) >= {"3", "4", "5"}


def test_a_mask_of_minus_infinity_before_an_activation_is_no_trouble():
    class Masked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = torch.nn.Linear(4, 3), torch.nn.Linear(3, 1)

        def forward(self, x):
            return self.outer(torch.sigmoid(self.inner(x).masked_fill(x[:, :3] > 1, -torch.inf)))

    def loss(model, batch):
        return (model(batch[0]) - batch[1]).square().sum(1)

    def signal(model, batch):
        found = torch.autograd.grad(loss(model, batch).mean(), list(model.parameters()))
        return {name: -g for (name, _), g in zip(model.named_parameters(), found)}

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, batch = Masked().double(), (torch.randn(32, 4).double(), torch.randn(32, 1).double())
    report = audit_gradients(model, signal, batch, loss=loss, perturbations=4, cost=False)
    assert "flip the sign" in report.verdict.reason
