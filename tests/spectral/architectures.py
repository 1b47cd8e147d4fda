"""Networks of every kind that the tangent kernel's rules meet, and the kernel by one row of the Jacobian at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def by_rows(model: nn.Module, x1: Any, x2: Any, n1: int, n2: int) -> Tensor:
    """J(x1) J(x2)ᵀ, shape (n1, n2, o, o), one sample and one output at a time."""
    return torch.einsum("nap,mbp->nmab", jacobian(model, x1, n1), jacobian(model, x2, n2))


def jacobian(model: nn.Module, x: Any, n: int) -> Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    each = []
    for i in range(n):
        output = run(model, take(x, i)).reshape(-1)
        for value in output:
            found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
            flat = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters)]
            each.append(torch.cat([g.reshape(-1) for g in flat]))
    return torch.stack(each).view(n, -1, each[0].numel())


def take(x: Any, i: int) -> Any:
    if isinstance(x, Tensor):
        return x[i : i + 1]
    if isinstance(x, dict):
        return {key: take(part, i) for key, part in x.items()}
    return tuple(take(part, i) for part in x)


def run(model: nn.Module, x: Any) -> Tensor:
    if isinstance(x, dict):
        return model(**x)
    return model(*x) if isinstance(x, tuple) else model(x)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 7, bias=False), nn.Tanh(), nn.Linear(7, 3))


def overwriting() -> nn.Module:
    layers = [nn.Linear(4, 9), nn.ReLU(inplace=True), nn.LayerNorm(9), nn.SiLU(inplace=True), nn.Linear(9, 3)]
    return nn.Sequential(*layers)


def scalar() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 9), nn.GELU(), nn.Linear(9, 1), nn.Flatten(0))


def conv2d() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 6, (3, 1), padding="same", dilation=2, groups=2, padding_mode="circular"),
        nn.Tanh(),
        nn.Conv2d(6, 5, 2, bias=False),
        nn.GroupNorm(5, 5),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 2),
    )


def conv1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=2, padding_mode="reflect", stride=2),
        nn.BatchNorm1d(4),
        nn.Tanh(),
        nn.Conv1d(4, 4, 2, groups=4, dilation=2),
        nn.InstanceNorm1d(4, affine=True),
        nn.Flatten(),
        nn.LazyLinear(2),
    )


class Tokens(nn.Module):
    """An embedding read out by its own transpose, one use in two kinds of layer."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6, padding_idx=2)
        self.place = nn.Embedding(5, 6)
        self.mix = nn.Linear(6, 6)
        self.read = nn.Linear(6, 11)
        if tied:
            self.read.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.table(tokens) + self.place(torch.arange(tokens.shape[1]))
        return self.read(torch.tanh(self.mix(h)).mean(1))[:, :3]


class Block(nn.Module):
    """A transformer block, its batch along dimension 0 or 1."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.first = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.second = nn.RMSNorm(8)
        self.widen, self.narrow = nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.batch_first else x.transpose(0, 1)
        a = self.first(h)
        h = h + self.attention(a, a, a, need_weights=False)[0]
        h = h + self.narrow(F.gelu(self.widen(self.second(h))))
        return self.head(h).mean(1 if self.batch_first else 0)


class TiedAutoencoder(nn.Module):
    """The decoder reads the encoder's weight without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(4, 3)
        self.shift = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.encode(x)) @ self.encode.weight + self.shift


class Recurrent(nn.Module):
    """One layer called five times, and another that has its weight but not its bias."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.other.weight = self.step.weight
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for _ in range(4):
            h = h + torch.tanh(self.step(h))
        return self.other(self.step(h))


class SharedConv(nn.Module):
    """One grouped convolution called on two sizes of picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        h = F.avg_pool2d(torch.tanh(self.conv(x)), 2)
        return self.conv(h).mean((2, 3))


class Folded(nn.Module):
    """Positions folded into the samples' dimension, behind or before them."""

    def __init__(self, samples_inside: bool) -> None:
        super().__init__()
        self.samples_inside = samples_inside
        self.layer, self.head = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        n, positions, size = x.shape
        if self.samples_inside:
            h = torch.tanh(self.layer(x.transpose(0, 1).reshape(-1, size))).view(positions, n, -1).mean(0)
        else:
            h = torch.tanh(self.layer(x.reshape(-1, size))).view(n, positions, -1).mean(1)
        return self.head(h)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(4, 5), nn.Linear(2, 5), nn.Linear(5, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out(torch.tanh(self.left(input=a) * self.right(b)))


class Gain(nn.Module):
    """A layer that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x * self.gain)


def weight_normed() -> nn.Module:
    return nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.PReLU(6), nn.Linear(6, 2)
    )


def frozen() -> nn.Module:
    model = mlp()
    model[0].requires_grad_(False)
    model[2].weight.requires_grad_(True)
    model[4].weight.requires_grad_(False)
    return model


def hooked() -> nn.Module:
    model = mlp()
    model[0].register_forward_hook(lambda _, __, output: 2 * output)
    model[2].register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    return model


def plain(n: int) -> Tensor:
    return torch.randn(n, 4, dtype=torch.float64)


def sequence(n: int) -> Tensor:
    return torch.randn(n, 3, 8, dtype=torch.float64)


def tokens(n: int) -> Tensor:
    return torch.randint(0, 11, (n, 5))


@dataclass(frozen=True)
class Case:
    """A network, its samples, and the parameters that torch.func is expected to take."""

    model: Callable[[], nn.Module]
    samples: Callable[[int], Any]
    by_func: tuple[str, ...] = ()


ATTENTION = tuple(
    f"attention.{name}" for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
)
CASES: dict[str, Case] = {
    "MLP": Case(mlp, plain),
    "layers that overwrite their input": Case(overwriting, plain),
    "output of shape (n,)": Case(scalar, plain),
    "Conv2d": Case(conv2d, lambda n: torch.randn(n, 3, 9, 8, dtype=torch.float64)),
    "Conv1d, BatchNorm in eval": Case(conv1d, lambda n: torch.randn(n, 2, 12, dtype=torch.float64)),
    "Conv3d": Case(
        lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 2)),
        lambda n: torch.randn(n, 2, 3, 3, 3, dtype=torch.float64),
    ),
    "embedding": Case(lambda: Tokens(tied=False), tokens, ("place.weight",)),
    "embedding tied to a dense layer": Case(Tokens, tokens, ("place.weight",)),
    "transformer block": Case(Block, sequence, ATTENTION),
    "transformer block, sequence first": Case(lambda: Block(False), sequence, ATTENTION),
    "tied autoencoder": Case(TiedAutoencoder, plain, ("shift", "encode.weight")),
    "layer called often, weight shared": Case(Recurrent, plain),
    "convolution called twice": Case(SharedConv, lambda n: torch.randn(n, 4, 6, 6, dtype=torch.float64)),
    "positions folded into samples": Case(
        lambda: Folded(False), lambda n: torch.randn(n, 3, 4, dtype=torch.float64)
    ),
    "samples folded into positions": Case(
        lambda: Folded(True),
        lambda n: torch.randn(n, 3, 4, dtype=torch.float64),
        ("layer.weight", "layer.bias"),
    ),
    "tuple of inputs": Case(TwoInputs, lambda n: (plain(n), plain(n)[:, :2])),
    "dict of inputs": Case(TwoInputs, lambda n: {"b": plain(n)[:, :2], "a": plain(n)}),
    "layer without a rule": Case(
        lambda: nn.Sequential(nn.Linear(4, 4), Gain(), nn.Linear(4, 2)), plain, ("1.gain",)
    ),
    "weight norm": Case(
        weight_normed,
        plain,
        ("0.parametrizations.weight.original0", "0.parametrizations.weight.original1", "2.weight"),
    ),
    "some parameters frozen": Case(frozen, plain),
    "user's hooks": Case(hooked, plain),
}


def built(case: Case, samples: Any) -> nn.Module:
    """In float64 and in eval mode, with no parameter or statistic at a special value."""
    model = case.model().double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, nn.modules.lazy.LazyModuleMixin):
                model(samples)
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()
