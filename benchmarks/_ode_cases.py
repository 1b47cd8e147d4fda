"""The initial value problems that benchmarks/ode.py times: fields, states, times and losses in float32."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

RTOL, ATOL = 1e-5, 1e-6


class TooManyEvaluations(RuntimeError):
    """A solver that does not end."""


class Net(nn.Module):
    """A tanh network of (t, y). The time enters by a column of its own, so that t may be () or (B,)."""

    def __init__(self, sizes: tuple[int, ...], scale: float, draw: torch.Generator) -> None:
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for i, (n, m) in enumerate(itertools.pairwise(sizes)):
            last = scale if i == len(sizes) - 2 else 1.0
            self.weights.append(nn.Parameter(torch.randn(m, n, generator=draw) * last / math.sqrt(n)))
            self.biases.append(nn.Parameter(torch.randn(m, generator=draw) * 0.1))
        self.time = nn.Parameter(torch.randn(sizes[1], generator=draw))
        # a plain list: reading a ParameterList takes as long as a small product
        self.layers = list(zip(self.weights, self.biases))
        self.calls = 0
        self.last: int | None = None

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        if self.last is not None and self.calls > self.last:
            raise TooManyEvaluations(f"more than {self.last} evaluations")
        (weight, bias), *others = self.layers
        h = torch.nn.functional.linear(y, weight, bias) + t.reshape(-1, 1) * self.time
        for weight, bias in others:
            h = torch.nn.functional.linear(h.tanh(), weight, bias)
        return h


class Augmented(nn.Module):
    """(ż, tr ∂ż/∂z) of a state (z, l), the exact trace by one backward product for each component of z."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    @property
    def calls(self) -> int:
        return self.net.calls

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            z = y[:, :-1] if graph and y.requires_grad else y[:, :-1].detach().requires_grad_()
            v = self.net(t, z)
            rows = [
                torch.autograd.grad(v[:, i].sum(), z, create_graph=graph, retain_graph=True)[0][:, i]
                for i in range(z.shape[1])
            ]
            out = torch.cat([v, sum(rows[1:], rows[0])[:, None]], 1)
        return out if graph else out.detach()


@dataclass
class Case:
    """One initial value problem and a loss on its solution.

    Attributes:
      name: How `--only` calls it.
      text: What it is, for the table.
      field: f(t, y), with `calls` counting the evaluations.
      y0: Initial state (B, d).
      times: Start, observations and end.
      kind: Which loss: "terminal", "nll" or "observed".
    """

    name: str
    text: str
    field: Net | Augmented
    y0: Tensor
    times: list[float]
    kind: str = "terminal"

    @property
    def params(self) -> list[nn.Parameter]:
        return list(self.field.parameters())

    @property
    def net(self) -> Net:
        return self.field.net if isinstance(self.field, Augmented) else self.field

    def grid(self) -> Tensor:
        return torch.tensor(self.times, dtype=self.y0.dtype)

    def loss(self, ys: Tensor) -> Tensor:
        """Of the states at all times, (T, B, d)."""
        return LOSSES[self.kind](ys)

    def double(self) -> Case:
        """The same problem in float64."""
        field = copy.deepcopy(self.field).double()
        return Case(self.name, self.text, field, self.y0.double(), self.times, self.kind)


def nll(ys: Tensor) -> Tensor:
    """−log μ(z₀) − l, the mean over the batch; l is the trace's integral from t₁ back to t₀."""
    z, change = ys[-1][:, :-1], ys[-1][:, -1]
    return (0.5 * z.square().sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi) - change).mean()


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "terminal": lambda ys: ys[-1].square().sum(1).mean(),
    "observed": lambda ys: ys[1:].square().sum(2).mean(),
    "nll": nll,
}


def cnf() -> Case:
    draw = torch.Generator().manual_seed(0)
    field = Augmented(Net((2, 64, 64, 2), 1.0, draw))
    x = torch.randn(256, 2, generator=draw)
    y0 = torch.cat([x, torch.zeros(256, 1)], 1)
    return Case("cnf", "CNF in 2-D, exact trace, 64-64 tanh, B 256", field, y0, [1.0, 0.0], "nll")


def mlp() -> Case:
    return _net("mlp", "64-64-64 tanh net, B 128, d 64", (64, 64, 64), 128, [0.0, 1.0])


def tiny() -> Case:
    return _net("tiny", "2-16-2 tanh net, B 16, d 2", (2, 16, 2), 16, [0.0, 1.0])


def large() -> Case:
    return _net(
        "large", "16-512-512-512-16 tanh net, 543k parameters, B 32", (16, 512, 512, 512, 16), 32, [0.0, 1.0]
    )


def observed() -> Case:
    times = [i / 10 for i in range(101)]
    return _net("observed", "2-64-2 tanh net, B 32, 100 observation times", (2, 64, 2), 32, times, "observed")


def _net(
    name: str, text: str, sizes: tuple[int, ...], batch: int, times: list[float], kind: str = "terminal"
) -> Case:
    draw = torch.Generator().manual_seed(0)
    field = Net(sizes, 2.0, draw)
    return Case(name, text, field, torch.randn(batch, sizes[0], generator=draw), times, kind)


CASES: dict[str, Callable[[], Case]] = {make.__name__: make for make in (cnf, mlp, tiny, large, observed)}
