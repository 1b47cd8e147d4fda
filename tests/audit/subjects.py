"""Networks and losses that the audit's tests share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fingerpost.audit import AuditReport, audit
from fingerpost.experiments._faulty import ResidualNet


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


class Layered:
    """A faulty residual net's loss as a function of its states, which shows its blocks."""

    def __init__(self, net: ResidualNet) -> None:
        states = net.states()
        self.net, self.inputs, self.point = net, states[0], states[1:]
        self.blocks = [self._block(w, b) for w, b in zip(net.weights, net.biases)]

    def _block(self, weight: Tensor, bias: Tensor):
        return lambda x: x + self.net.scale * torch.tanh(F.linear(x, weight, bias))

    def __call__(self, point: Sequence[Tensor]) -> Tensor:
        h = self.inputs
        for block, given, free in zip(self.blocks, point, self.point):
            h = block(h) + (given - free)
        return F.cross_entropy(h @ self.net.readout.T, self.net.labels, reduction="none")


def examine(loss: Layered, signals: Sequence[Tensor], **options) -> AuditReport:
    """Audits fixed covectors at the states of a layered loss, quickly and without timing."""
    options = {"cost": False, "quick": True, **options}
    return audit(lambda point: list(signals), loss, loss.point, **options)


def quartic(x: Tensor) -> Tensor:
    """Σ x + x⁴/4 + coupling, per row: smooth, with no symmetry."""
    return (x + x**4 / 4).sum(-1) + 0.3 * (x * x.roll(1, -1)).sum(-1)


def slope_of(loss):
    """The exact gradient of a loss, by autograd."""

    def signal(point):
        single = isinstance(point, Tensor)
        found = torch.autograd.grad(loss(point).sum(), [point] if single else list(point))
        return found[0] if single else list(found)

    return signal


class TiedNet(nn.Module):
    """An encoder whose decoder is its own transpose, with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(6, 4)
        self.register_buffer("shift", torch.full((6,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.encoder(x)) @ self.encoder.weight + self.shift


class SelfAttention(nn.Module):
    """One transformer layer, its first token read out."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[:, 0])


class Recurrent(nn.Module):
    """An LSTM's last state read out."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(5, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(x)[0][:, -1])


def convolutional() -> nn.Module:
    """Convolution, batch norm in train mode, unequal widths."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Tanh(),
        nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip


def build(make) -> nn.Module:
    """Makes a module with seeded weights, leaving the random state alone."""
    state = torch.get_rng_state()
    torch.manual_seed(7)
    model = make()
    torch.set_rng_state(state)
    return model
