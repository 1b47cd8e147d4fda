"""Times the audit in exact gradients of the same loss at the same point.

python benchmarks/audit.py [--quick]: writes benchmarks/results/audit.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _interleave import environment, interleave, medians, ratio_interval
from fingerpost._table import Table
from fingerpost.audit import audit, audit_gradients
from fingerpost.credit import residual_mlp

BLOCKS = 6
CLASSES = 10
BATCH = 256
WIDTHS = (64, 256)
TARGETS = {"full": 100.0, "quick": 10.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    repeats = 7 if parser.parse_args().quick else 11
    rows = [row for width in WIDTHS for row in chain_rows(width, repeats)]
    rows += convolution_rows(repeats)
    path = Path(__file__).parent / "results" / "audit.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


class StatesLoss:
    """The loss of a residual chain as a function of its states, which shows its blocks."""

    def __init__(self, width: int) -> None:
        draw = torch.Generator().manual_seed(0)
        self.chain = residual_mlp(width, width, CLASSES, BLOCKS, generator=draw).requires_grad_(False)
        self.inputs = torch.randn(BATCH, width, generator=draw)
        self.labels = torch.randint(CLASSES, (BATCH,), generator=draw)
        self.blocks = list(self.chain.blocks)
        self.point = [self.inputs]
        for block in self.blocks:
            self.point.append(block(self.point[-1]))
        self.point = self.point[1:]

    def __call__(self, point: list[Tensor]) -> Tensor:
        h = self.inputs
        for block, given, free in zip(self.blocks, point, self.point):
            h = block(h) + (given - free)
        return self.chain.losses(h, self.labels)


def chain_rows(width: int, repeats: int) -> list[dict]:
    """Audits of fixed covectors (their own cost is none): the exact ones, noisy ones, flipped ones."""
    loss = StatesLoss(width)
    exact = gradient(loss)
    draw = torch.Generator().manual_seed(1)
    noisy = [g + 0.1 * g.std() * torch.randn(g.shape, generator=draw) for g in exact]
    case = f"per-sample states, {BLOCKS} blocks, d {width}, B {BATCH}, float32"

    def run(signal: list[Tensor], quick: bool) -> Callable[[], object]:
        return lambda: audit(lambda point: signal, loss, loss.point, quick=quick, cost=False)

    return rows_of(case, lambda: gradient(loss), {"exact": exact, "noisy": noisy}, run, repeats)


def gradient(loss: StatesLoss) -> list[Tensor]:
    point = [h.detach().requires_grad_() for h in loss.point]
    return list(torch.autograd.grad(loss(point).sum(), point))


def convolution_rows(repeats: int) -> list[dict]:
    """Parameter gradients of a small convolutional network; the signal's own calls are precomputed."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * 25, CLASSES),
    )  # fmt: skip
    x, y = torch.randn(BATCH, 3, 16, 16), torch.randint(CLASSES, (BATCH,))
    parameters = dict(net.named_parameters())

    def exact(model: nn.Module, part: tuple[Tensor, ...]) -> dict[str, Tensor]:
        found = torch.autograd.grad(F.cross_entropy(model(part[0]), part[1]), list(parameters.values()))
        return dict(zip(parameters, found))

    def run(signal: Callable, quick: bool) -> Callable[[], object]:
        known: dict[tuple, dict[str, Tensor]] = {}

        def remembered(model: nn.Module, part: tuple[Tensor, ...]) -> dict[str, Tensor]:
            key = (len(part[0]), part[0].data_ptr())
            if key not in known:
                known[key] = signal(model, part)
            return known[key]

        return lambda: audit_gradients(net, remembered, (x, y), quick=quick, cost=False)

    case = f"parameters of a small convolutional net, B {BATCH}, float32"
    return rows_of(case, lambda: exact(net, (x, y)), {"exact": exact}, run, repeats)


def rows_of(
    case: str,
    base: Callable[[], object],
    signals: dict,
    run: Callable[..., Callable[[], object]],
    repeats: int,
) -> list[dict]:
    functions = {
        f"{mode}, {name} signal": run(signal, mode == "quick")
        for name, signal in signals.items()
        for mode in TARGETS
    }
    times = interleave({"gradient": base, **functions}, repeats, warmup=1)
    return [row(name, case, times, TARGETS[name.partition(",")[0]]) for name in functions]


def row(name: str, case: str, times: dict[str, list[float]], target: float) -> dict:
    median = medians(times)
    ratio = median[name] / median["gradient"]
    return {
        "system": f"audit: {name}",
        "case": case,
        "ours": median[name] * 1e3,
        "base": median["gradient"] * 1e3,
        "peer": None,
        "peer_name": None,
        "floor": None,
        "ratio": ratio,
        "interval": ratio_interval(times[name], times["gradient"]),
        "target": target,
        "holds": ratio <= target,
        "unit": "exact gradients",
        "repeats": len(times[name]),
    }


def table(rows: list[dict]) -> Table:
    columns = ("system", "case", "ratio", "unit", "target", "holds")
    caption = (
        "Ratio: CPU time over that of one exact gradient of the same loss with respect to the same point."
    )
    return Table(columns, [[r[c] for c in columns] for r in rows], "Audit", caption)


if __name__ == "__main__":
    main()
