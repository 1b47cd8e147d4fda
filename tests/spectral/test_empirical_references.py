"""The tangent kernel of networks written in torch.nn equals neural-tangents' of the same networks in JAX."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fingerpost.spectral import empirical_ntk
from spectral.references.empirical_kernels import draws

TABLE = json.loads((Path(__file__).parent / "references" / "empirical_kernels.json").read_text())
Weights = dict[str, nn.Parameter]


def dense(weight: nn.Parameter, bias: nn.Parameter | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    layer.weight, layer.bias = weight, bias
    return layer


def conv(
    weight: nn.Parameter, bias: nn.Parameter | None, stride: int, padding: int, groups: int
) -> nn.Conv2d:
    out, each, *size = weight.shape
    layer = nn.Conv2d(each * groups, out, size, stride, padding, groups=groups, bias=bias is not None)  # type: ignore[arg-type]
    layer.weight, layer.bias = weight, bias
    return layer


class Residual(nn.Module):
    def __init__(self, p: Weights) -> None:
        super().__init__()
        self.first, self.second, self.third = dense(p["w1"], p["b1"]), dense(p["w2"]), dense(p["w3"])
        self.norm = nn.LayerNorm(6)
        self.norm.weight, self.norm.bias = p["gain"], p["shift"]

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.third(h + torch.tanh(self.second(self.norm(h))))


class Tied(nn.Module):
    def __init__(self, p: Weights) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.table.weight = p["table"]
        self.mix, self.read = dense(p["w1"]), dense(p["table"])

    def forward(self, tokens: Tensor) -> Tensor:
        return self.read(torch.tanh(self.mix(self.table(tokens))).mean(1))[:, :2]


class Attention(nn.Module):
    def __init__(self, p: Weights) -> None:
        super().__init__()
        self.q, self.k, self.v, self.w = (dense(p[name]) for name in "qkvw")

    def forward(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.q(x) @ self.k(x).transpose(1, 2) / 2, -1)
        return self.w((weights @ self.v(x)).mean(1))


def mlp(p: Weights) -> nn.Module:
    first, second, third = (dense(p[f"w{i}"], p[f"b{i}"]) for i in (1, 2, 3))
    return nn.Sequential(first, nn.ReLU(), second, nn.Tanh(), third)


def convolutions(p: Weights) -> nn.Module:
    first, second = conv(p["w1"], p["b1"], 2, 1, 1), conv(p["w2"], None, 1, 0, 2)
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Flatten(), dense(p["w3"], p["b3"]))


def shared(p: Weights) -> nn.Module:
    layer = dense(p["w1"], p["b1"])
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), layer, nn.Tanh(), dense(p["w2"]))


NETWORKS: dict[str, Callable[[Weights], nn.Module]] = {
    "mlp": mlp,
    "conv": convolutions,
    "norm": Residual,
    "shared": shared,
    "tied": Tied,
    "attention": Attention,
}


def test_every_network_of_the_table_is_tested():
    assert set(TABLE) == set(NETWORKS)


@pytest.mark.parametrize("reduce", ["full", "trace"])
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_neural_tangents(name, reduce):
    arrays, x1, x2 = draws(name)
    model = NETWORKS[name]({key: nn.Parameter(torch.from_numpy(value)) for key, value in arrays.items()})
    found = empirical_ntk(model, torch.from_numpy(x1), torch.from_numpy(x2), reduce=reduce)
    expected = np.array(TABLE[name][reduce])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11, atol=1e-12 * abs(expected).max())
