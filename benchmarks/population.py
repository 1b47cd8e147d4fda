"""Times decoding of very many trials against the one matrix product that it needs, and measures its memory and accuracy.

python benchmarks/population.py [--quick] [--only PART]: writes benchmarks/results/population.json and prints a table; with
--only it prints alone. The base is the product of counts and kernel alone, in the chunks in which it is fastest, float32, with
nothing kept; the product of all trials in one call takes half as long again. The peer is the obvious way: product,
softmax, moments, for chunks of trials.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _interleave import environment, interleave, medians
from _rows import Row, over_base
from fingerpost._table import Table
from fingerpost.population import (
    AbstractCode,
    ExponentialFamilyCode,
    GaussianTuning,
    PoissonCode,
    VonMisesTuning,
)

TARGET, NEURONS, POINTS = 1.5, 100, 1000
NAIVE = "product, softmax, moments"
BASE = "product of counts and kernel"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials and fewer repeats")
    parser.add_argument("--only", choices=list(PARTS), help="one part, printed and not written")
    parser.add_argument("--peak", type=int, metavar="TRIALS", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.peak:
        print(json.dumps(peak(flags.peak)))
        return
    parts = [PARTS[flags.only]] if flags.only else PARTS.values()
    rows = [row for part in parts for row in part(flags.quick)]
    if not flags.only:
        path = Path(__file__).parent / "results" / "population.json"
        path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


def cases() -> dict[str, tuple[AbstractCode, Tensor, float | None]]:
    """Codes of 100 neurons with a grid of 1,000 points, and the period."""
    line = torch.linspace(-10, 10, POINTS, dtype=torch.float64)
    preferred = torch.linspace(-15, 15, NEURONS, dtype=torch.float64)
    circle = torch.arange(POINTS, dtype=torch.float64) * 180 / POINTS
    steps = torch.randn(POINTS, NEURONS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kernel = 0.05 * steps.cumsum(0)
    return {
        "Gaussian tuning": (PoissonCode(GaussianTuning(preferred, 3.0)), line, None),
        "Gaussian tuning with a baseline": (PoissonCode(GaussianTuning(preferred, 3.0, baseline=0.1)), line, None),
        "von Mises tuning on a circle": (
            PoissonCode(VonMisesTuning(torch.arange(NEURONS) * 1.8, 4.0, baseline=0.05, period=180.0)), circle, 180.0,
        ),
        "a kernel of full rank": (ExponentialFamilyCode(kernel, -0.01 * kernel.exp().sum(1)), line, None),
    }  # fmt: skip


def counts_of(code: AbstractCode, grid: Tensor, trials: int) -> Tensor:
    """float32 counts of stimuli from the grid."""
    draw = torch.Generator().manual_seed(0)
    place = torch.randint(0, len(grid), (trials,), generator=draw)
    parts = []
    for some in place.split(50_000):
        if isinstance(code, ExponentialFamilyCode):
            rates = code.kernel(grid)[some].exp().clamp_max(5)
            parts.append(torch.poisson(rates, generator=draw).float())
        else:
            parts.append(code.encode(grid[some], 1.0, draw).float())
    return torch.cat(parts)


def product(counts: Tensor, kernel: Tensor, chunk: int = 256) -> Callable[[], None]:
    """The matrix product alone, each chunk's into the same buffer."""
    right, out = kernel.T.contiguous(), torch.empty(chunk, len(kernel))

    def run() -> None:
        for some in counts.split(chunk):
            torch.mm(some, right, out=out[: len(some)])

    return run


def naive(
    code: AbstractCode, grid: Tensor, period: float | None, chunk: int = 2048
) -> Callable[[Tensor], Tensor]:
    """What one would write: log likelihood, softmax, moments; float32."""
    kernel, points = code.kernel(grid).float(), grid.float()  # pyright: ignore[reportAttributeAccessIssue]
    offset = code.offset(grid).float()  # pyright: ignore[reportAttributeAccessIssue]
    angle = 2 * math.pi * points / (period or 1)

    def run(counts: Tensor) -> Tensor:
        found = torch.empty(2, len(counts))
        for k, some in enumerate(counts.split(chunk)):
            mass = torch.softmax(some @ kernel.T + offset, 1)
            if period:
                mean = torch.atan2(mass @ angle.sin(), mass @ angle.cos()) * period / (2 * math.pi)
                gap = points - mean[:, None]
                gap = gap - period * torch.round(gap / period)
            else:
                mean = mass @ points
                gap = points - mean[:, None]
            found[0, k * chunk : k * chunk + len(some)] = mean
            found[1, k * chunk : k * chunk + len(some)] = (mass * gap.square()).sum(1)
        return found

    return run


def decoding(quick: bool) -> list[Row]:
    """A million trials: ours over the product alone."""
    rows, trials = [], 100_000 if quick else 1_000_000
    for name, (code, grid, period) in cases().items():
        counts = counts_of(code, grid, trials)
        plain = naive(code, grid, period)
        kernel = code.kernel(grid).float()  # pyright: ignore[reportAttributeAccessIssue]
        timed: dict[str, Callable[[], object]] = {
            "ours": partial(code.decode_moments, counts, grid, 1.0, period=period),
            "bare": product(counts, kernel),
            NAIVE: partial(plain, counts),
        }
        times = interleave(timed, 3 if quick else 5, warmup=0, at_least=0)
        note = f"{errors(code, counts[:2000], grid, period, plain)}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        rows.append(
            row(
                "moments",
                f"{trials:,} trials × {NEURONS} neurons × {POINTS:,} points, {name}",
                times,
                TARGET,
                note,
            )
        )
    return rows


def whole(quick: bool) -> list[Row]:
    """The same product in one call, over that in chunks: what a base that keeps its result would have been."""
    code, grid, _ = cases()["a kernel of full rank"]
    counts = counts_of(code, grid, 50_000 if quick else 200_000)
    kernel = code.kernel(grid).float()  # pyright: ignore[reportAttributeAccessIssue]
    out = torch.empty(len(counts), POINTS)
    timed = {"ours": lambda: torch.mm(counts, kernel.T, out=out), "bare": product(counts, kernel)}
    times = interleave(timed, 5, warmup=1, at_least=0)
    return [
        row("the product in one call", f"{len(counts):,} trials", times, None, "not ours: for comparison")
    ]


def memory(quick: bool) -> list[Row]:
    """Peak resident memory of a process beyond its counts and what it holds before."""
    found = []
    for trials in (20_000, 200_000):
        command = [sys.executable, __file__, "--peak", str(trials)]
        found.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return [{
        "system": "population: memory of moments", "case": "200,000 trials", "ours": found[1], "base": found[0], "peer": None,
        "peer_name": None, "floor": None, "ratio": found[1] / found[0], "interval": None, "target": None, "holds": None,
        "unit": "× that of 20,000 trials", "repeats": 1,
        "note": f"MiB beyond the counts ({4 * NEURONS * 2e5 / 2**20:.0f} MiB), results of 16 bytes a trial among them; the "
        f"posteriors would be {4 * POINTS * 2e5 / 2**20:.0f} MiB",
    }]  # fmt: skip


def peak(trials: int) -> float:
    """Run in a process of its own, on Linux: MiB at the peak beyond what is held before."""
    torch.set_num_threads(1)
    code, grid, _ = cases()["Gaussian tuning with a baseline"]
    counts = counts_of(code, grid, trials)
    code.decode_moments(counts[:100], grid)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    code.decode_moments(counts, grid)
    return (resident("VmHWM") - before) / 1024


def resident(field: str) -> float:
    """KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(field)))


def errors(code: AbstractCode, counts: Tensor, grid: Tensor, period: float | None, plain: Any) -> str:
    """Largest errors over float64 posteriors, ours and the naive way's."""
    whole = code.decode(counts.double(), grid, 1.0, period=period)
    ours = code.decode_moments(counts, grid, 1.0, period=period)
    texts = []
    for mean, variance in (ours, plain(counts)):
        gap = mean - whole.mean
        gap = gap - period * torch.round(gap / period) if period else gap
        first = float((gap / whole.standard_deviation).abs().max())
        second = float((variance / whole.variance - 1).abs().max())
        texts.append(f"mean {first:.0e} σ, variance {second:.0e}")
    return f"largest error: {texts[0]} ({NAIVE}: {texts[1]})"


def row(what: str, case: str, times: dict[str, list[float]], target: float | None, note: str) -> Row:
    found = over_base(
        f"population: {what}", case, times, BASE, target, NAIVE if NAIVE in times else None, note
    )
    if NAIVE in times:
        found["note"] += f"; naive way {medians(times)[NAIVE] * 1e3:,.0f} ms"
    return found


def table(rows: list[Row]) -> Table:
    columns = ("system", "case", "ours", "base", "ratio", "peer", "target", "holds", "note")
    caption = (
        f"CPU time in ms (MiB for memory), one thread; ratio over the base; peer: {NAIVE}, over the base."
    )
    return Table(columns, [[row[column] for column in columns] for row in rows], "Population", caption)


PARTS: dict[str, Callable[[bool], list[Row]]] = {"decoding": decoding, "whole": whole, "memory": memory}

if __name__ == "__main__":
    main()
