"""Times flow matching against a step written out by hand, couplings against their peers, and samples against W₂.

python benchmarks/flow.py [--quick] [--only PART]: writes benchmarks/results/flow.json and prints a table; with --only
it prints alone. Peers that are not installed are reported as missing (benchmarks/requirements.txt lists them).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from _flow_rows import distance
from _interleave import environment, interleave
from _rows import Row, over_base
from fingerpost._table import Table
from fingerpost.flow import ExactOT, FlowMLP, Prefetched, cfm_loss, sample, wasserstein2

STEP, COUPLED, SAMPLING = 1.1, 2.0, 1.05
W2 = {4: 0.45, 100: 0.41}
POINTS = 2048
"""Points of each sample whose W₂ is taken."""
Step = Callable[[], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, seeds and steps")
    parser.add_argument("--only", choices=list(PARTS), help="one part, printed and not written")
    flags = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    parts = [PARTS[flags.only]] if flags.only else PARTS.values()
    rows = [row for part in parts for row in part(flags.quick)]
    torch.set_num_threads(threads)
    if not flags.only:
        path = Path(__file__).parent / "results" / "flow.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


class Small(nn.Module):
    """(t, x) → velocity: a SELU perceptron of three hidden layers of 64, the net of the published comparison."""

    def __init__(self, dimension: int = 2, width: int = 64) -> None:
        super().__init__()
        sizes = (dimension + 1, width, width, width)
        hidden = [part for n, m in itertools.pairwise(sizes) for part in (nn.Linear(n, m), nn.SELU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dimension))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t.reshape(-1, 1).expand(len(x), 1)], 1))


class Task:
    """A net, its optimiser and data in the plane or in more dimensions: eight gaussians → moons, or noise → noise."""

    def __init__(self, net: nn.Module, batch: int, dimension: int = 2, seed: int = 0) -> None:
        self.net, self.batch, self.dimension = net, batch, dimension
        self.optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
        self.draw = torch.Generator().manual_seed(seed)

    def pairs(self) -> tuple[Tensor, Tensor]:
        if self.dimension == 2:
            return eight_gaussians(self.batch, self.draw), moons(self.batch, self.draw)
        x = torch.randn(2, self.batch, self.dimension, generator=self.draw)
        return x[0], x[1]

    def update(self, loss: Tensor) -> Tensor:
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss

    def bare(self) -> Tensor:
        """The step as one writes it out."""
        x0, x1 = self.pairs()
        t = torch.rand(self.batch, 1, generator=self.draw)
        x, u = (1 - t) * x0 + t * x1, x1 - x0
        return self.update((self.net(t[:, 0], x) - u).square().sum(1).mean())

    def ours(self, coupling: Any = None) -> Tensor:
        x0, x1 = self.pairs()
        return self.update(cfm_loss(self.net, x1, x0=x0, coupling=coupling, generator=self.draw))

    def peer(self, matcher: Any) -> Tensor:
        t, x, u = matcher.sample_location_and_conditional_flow(*self.pairs())
        return self.update((self.net(t, x) - u).square().sum(1).mean())


def steps(quick: bool) -> list[Row]:
    """One training step with independent pairs, over the bare one."""
    cases = (
        ("64-64-64 SELU net, B 256, d 2", 256, 2, Small),
        ("FlowMLP of width 256, B 256, d 32", 256, 32, lambda: FlowMLP(32, width=256)),
    )
    rows: list[Row] = []
    matchers, why = peers()
    for case, batch, dimension, make in cases:
        task = Task(make(), batch, dimension)
        functions: dict[str, Step] = {"bare": task.bare, "ours": task.ours}
        if matchers:
            functions["torchcfm"] = lambda task=task: task.peer(matchers["independent"])
        times = interleave(functions, 7 if quick else 25, at_least=0.05)
        rows += [over_base("flow: training step", case, times, "bare step", STEP, "torchcfm", why)]
    return rows


def couplings(quick: bool) -> list[Row]:
    """One training step with exactly coupled pairs, over the bare one; and what a worker thread hides of it."""
    rows: list[Row] = []
    matchers, why = peers()
    for batch in (256, 2048):
        task = Task(Small(), batch)
        coupling = ExactOT()
        functions: dict[str, Step] = {"bare": task.bare, "ours": lambda t=task, c=coupling: t.ours(c)}
        if matchers:
            functions["torchcfm"] = lambda t=task: t.peer(matchers["exact"])
        repeats = 3 if batch > 1000 else 5 if quick else 11
        times = interleave(functions, repeats, warmup=1)
        case = f"64-64-64 SELU net, B {batch}, d 2"
        target = COUPLED if batch == 256 else None
        rows += [
            over_base("flow: training step, exact OT", case, times, "bare step", target, "torchcfm", why)
        ]
        rows += [overlapped(task, coupling, case, 4 if batch > 1000 else 40)]
    return rows


def overlapped(task: Task, coupling: ExactOT, case: str, count: int) -> Row:
    """Wall time, the one clock that sees two threads at once: the net trains while the next batch is coupled."""

    def batches(step: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(step)
        return coupling(eight_gaussians(task.batch, draw), moons(task.batch, draw))

    def train(ready: Callable[[int], tuple[Tensor, Tensor]]) -> float:
        start = time.perf_counter()
        for step in range(count):
            x0, x1 = ready(step)
            task.update(cfm_loss(task.net, x1, x0=x0, generator=task.draw))
        return (time.perf_counter() - start) / count

    times: dict[str, list[float]] = {"bare": [], "ours": []}
    for _ in range(3):
        times["bare"].append(train(batches))
        with Prefetched(batches) as ahead:
            times["ours"].append(train(ahead))
    note = "wall time of a step, the next batch coupled on a worker thread; two cores"
    return over_base("flow: exact OT on a worker", case, times, "the same without a worker", None, None, note)


def sampling(quick: bool) -> list[Row]:
    """Fixed steps over as many bare evaluations of the field."""
    rows: list[Row] = []
    count = 100
    cases = (
        ("64-64-64 SELU net, B 1024, d 2", Small(), 2),
        ("FlowMLP of width 128, B 1024, d 8", FlowMLP(8), 8),
    )
    for (case, net, dimension), method in itertools.product(cases, ("euler", "rk4")):
        stages = {"euler": 1, "rk4": 4}[method]
        steps_of = count // stages
        x0, t = torch.randn(1024, dimension), torch.tensor(0.5)

        def evaluate(net: nn.Module = net, x: Tensor = x0, t: Tensor = t) -> Tensor:
            with torch.no_grad():
                return net(t, x)

        def ours(net: nn.Module = net, x: Tensor = x0, n: int = steps_of, method: str = method) -> Tensor:
            return sample(net, x, steps=n, method=method)

        times = interleave({"bare": evaluate, "ours": ours}, 7 if quick else 15, at_least=0.05)
        times["bare"] = [count * seconds for seconds in times["bare"]]
        what = f"flow: sampling, {steps_of} steps of {method}"
        rows.append(over_base(what, case, times, f"{count} evaluations of the net", SAMPLING, None, ""))
    return rows


def distances(quick: bool) -> list[Row]:
    """W₂ of samples from data after the same training, ours and the peer's; the floor is that of fresh data."""
    seeds, budget = (1, 2000) if quick else (3, 6000)
    matchers, why = peers()
    ways: dict[str, Callable[[Task], Tensor]] = {"ours": lambda task: task.ours(ExactOT())}
    if matchers:
        ways["torchcfm"] = lambda task: task.peer(matchers["exact"])
    found: dict[tuple[str, int], list[float]] = {}
    floors: list[float] = []
    for seed in range(seeds):
        draw = torch.Generator().manual_seed(1000 + seed)
        data, fresh = moons(POINTS, draw), moons(POINTS, draw)
        start = eight_gaussians(POINTS, draw)
        floors.append(wasserstein2(fresh, data))
        for name, step in ways.items():
            net = trained(step, budget, seed)
            for count in W2:
                ends = sample(net, start, steps=count)
                found.setdefault((name, count), []).append(wasserstein2(ends, data))
    case = f"eight gaussians → moons, 64-64-64 SELU net, B 256, {budget} steps of Adam, exact OT"
    return [
        distance(f"W₂ at {count} Euler steps", case, found["ours", count], floors, target, found.get(("torchcfm", count)), why)
        for count, target in W2.items()
    ]  # fmt: skip


def trained(step: Callable[[Task], Tensor], budget: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = Task(Small(), 256, seed=seed)
        for _ in range(budget):
            step(task)
    return task.net


def eight_gaussians(count: int, draw: torch.Generator) -> Tensor:
    """Standard deviation 0.56 about eight points on the circle of radius 5."""
    angle = torch.randint(8, (count,), generator=draw) * (math.pi / 4)
    noise = torch.randn(count, 2, generator=draw) * 0.1**0.25
    return 5 * torch.stack([angle.cos(), angle.sin()], 1) + noise


def moons(count: int, draw: torch.Generator) -> Tensor:
    """Two half circles of radius 3, with noise of standard deviation 0.3."""
    angle = math.pi * torch.rand(count, generator=draw)
    lower = torch.randint(2, (count,), generator=draw, dtype=torch.bool)
    x = torch.where(lower, 1 - angle.cos(), angle.cos())
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin())
    return 3 * torch.stack([x, y], 1) - 1 + 0.3 * torch.randn(count, 2, generator=draw)


def peers() -> tuple[dict[str, Any], str]:
    """The peer's matchers, or none and why."""
    try:
        import torchcfm.conditional_flow_matching as torchcfm
    except Exception as error:
        return {}, f"torchcfm is not measured: {type(error).__name__}: {error}"
    exact = torchcfm.ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)
    return {"independent": torchcfm.ConditionalFlowMatcher(sigma=0.0), "exact": exact}, ""


def table(rows: list[Row]) -> Table:
    columns = ("system", "case", "ours", "base", "ratio", "unit", "peer", "floor", "target", "holds")
    caption = (
        "CPU time in ms, one thread (wall time where it says so); ratio and peer over the base that the unit names. "
        f"W₂: exact, {POINTS} points of each; the floor is that between two samples of the data."
    )
    return Table(columns, [[row[column] for column in columns] for row in rows], "Flow", caption)


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "steps": steps,
    "couplings": couplings,
    "sampling": sampling,
    "distances": distances,
}

if __name__ == "__main__":
    main()
