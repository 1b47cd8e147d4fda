"""Times training steps under the guard, beside autograd's anomaly mode and a dispatch mode that does nothing.

python benchmarks/leakwatch.py [--quick]: writes benchmarks/results/leakwatch.json and prints a table. The guard is entered
once a turn and watches the steps of that turn, as it would watch a loop; so are its peers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from _interleave import environment, interleave, medians, ratio_interval
from fingerpost._table import Table
from fingerpost.leakwatch import LeakGuard

Row = dict[str, Any]
Step = Callable[[], Tensor]
TRANSFORMER, MLP = 1.2, 1.1
PEERS = {"anomaly": "autograd's anomaly mode", "dispatch": "a dispatch mode that does nothing"}


class Nothing(TorchDispatchMode):
    """The least that a dispatch mode can do."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class Passing(TorchFunctionMode):
    """The least that a function mode can do: the floor under the guard."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **kwargs) if kwargs else func(*args)


class InPlace(nn.Module):
    """A Transformer layer with in-place activations and additions around it, none of which leaks."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True)
        self.last = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        y = self.last(h)
        y += h
        y *= 0.5
        y[:, 0] = 0
        return y


def trained(net: nn.Module, *shape: int, optimiser: type[torch.optim.Optimizer] = torch.optim.SGD) -> Step:
    """One training step: forward, mean square, backward, update."""
    data = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    update = optimiser(net.parameters(), lr=1e-3)  # type: ignore[call-arg]

    def step() -> Tensor:
        loss = net(data).square().mean()
        update.zero_grad()
        loss.backward()
        update.step()
        return loss

    return step


def mlp(width: int) -> nn.Module:
    hidden = (nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), *hidden, nn.Linear(width, 10))


def cases() -> list[tuple[str, Step, float]]:
    layer = nn.TransformerEncoderLayer
    return [
        ("Transformer layer, width 128, B 8 × 32", trained(layer(128, 4, 512, batch_first=True), 8, 32, 128), TRANSFORMER),
        ("Transformer layer, width 64, B 4 × 16", trained(layer(64, 4, 256, batch_first=True), 4, 16, 64), TRANSFORMER),
        ("Transformer layer with in-place lines, width 128, B 8 × 32", trained(InPlace(128), 8, 32, 128), TRANSFORMER),
        ("MLP of four layers, width 512, B 256", trained(mlp(512), 256, 64), MLP),
        ("MLP of four layers, width 256, B 128", trained(mlp(256), 128, 64), MLP),
        ("MLP of four layers, width 512, B 256, Adam",
         trained(mlp(512), 256, 64, optimiser=torch.optim.Adam), MLP),
    ]  # fmt: skip


def under(step: Step, mode: Callable[[], AbstractContextManager[Any]], count: int) -> Callable[[], None]:
    def turn() -> None:
        with mode():
            for _ in range(count):
                step()

    return turn


def measure(quick: bool) -> list[Row]:
    repeats, rows, count = 7 if quick else 25, [], 20
    for case, step, target in cases():
        modes: dict[str, Callable[[], AbstractContextManager[Any]]] = {
            "bare": nullcontext,
            "ours": lambda: LeakGuard("record"),
            "floor": Passing,
            "anomaly": lambda: torch.autograd.detect_anomaly(check_nan=True),
            "dispatch": Nothing,
        }
        turns = {name: under(step, mode, count) for name, mode in modes.items()}
        times = interleave(turns, repeats)
        per_step = {name: [value / count for value in values] for name, values in times.items()}
        rows += [row(case, per_step, target, name) for name in PEERS]
    return rows


def row(case: str, times: dict[str, list[float]], target: float, peer: str) -> Row:
    """Time over the bare step's: smaller is better. One row for each peer."""
    median = medians(times)
    ratio = median["ours"] / median["bare"]
    return {
        "system": f"leakwatch: a training step beside {PEERS[peer]}",
        "case": case,
        "ours": median["ours"] * 1e3,
        "base": median["bare"] * 1e3,
        "peer": median[peer] / median["bare"],
        "peer_name": PEERS[peer],
        "floor": median["floor"] / median["bare"],
        "ratio": ratio,
        "interval": ratio_interval(times["ours"], times["bare"]),
        "target": target,
        "holds": ratio <= target,
        "unit": "× bare step",
        "repeats": len(times["ours"]),
        "note": "the floor is a function mode that passes every call on",
    }


def table(rows: list[Row]) -> Table:
    columns = ("system", "case", "ours", "base", "ratio", "peer", "floor", "target", "holds")
    caption = "CPU time of one training step in ms, one thread; ratio, peer and floor over the bare step."
    return Table(columns, [[row[column] for column in columns] for row in rows], "Leakwatch", caption)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    flags = parser.parse_args()
    torch.manual_seed(0)
    rows = measure(flags.quick)
    path = Path(__file__).parent / "results" / "leakwatch.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
