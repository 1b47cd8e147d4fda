"""Times λ-returns and sweeps of TD(λ), and measures their accuracy.

python benchmarks/td.py [--quick] [--only PART]: writes benchmarks/results/td.json and prints a table; with --only it prints
alone. λ-returns run against TorchRL's vectorised function and rlax's under jit (requirements-td.txt), and beside the floor:
one pass over the memory that has to be read and written. A peer that is missing is reported as missing. The sweep runs
against the plain loop over λ, α, sequences and steps, in NumPy.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from _interleave import environment, interleave, medians
from _rows import Row, over_base
from _td_peers import GAMMA, LAMBDA, MISSING, RLAX, TORCHRL, rlax, torchrl
from fingerpost._table import Table
from fingerpost.td import RandomWalk, generalized_advantage, lambda_return, sweep

TENTH, AHEAD, SWEEP = 1 / 10, 1.0, 1 / 150
"""Targets: time over TorchRL's without ends, with ends, and over the plain loop's."""
BATCH, STEPS = 64, 4096
LAMBDAS = [round(0.1 * i, 1) for i in range(11)]
ALPHAS = [round(0.05 * i, 2) for i in range(13)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and cases")
    parser.add_argument("--only", choices=list(PARTS), help="one part, printed and not written")
    flags = parser.parse_args()
    parts = [PARTS[flags.only]] if flags.only else PARTS.values()
    rows = [row for part in parts for row in part(flags.quick)]
    rows += [missing(name, why) for name, why in MISSING.items()]
    if not flags.only:
        path = Path(__file__).parent / "results" / "td.json"
        found = {**environment(), "load": round(os.getloadavg()[0], 2)}
        path.write_text(json.dumps({"environment": found, "rows": rows}, indent=1) + "\n")
    print(table(rows))


def batch(ends: float, batch: int = BATCH, steps: int = STEPS) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and ends; float32."""
    generator = torch.Generator().manual_seed(0)
    r, v = torch.randn(batch, steps, generator=generator), torch.randn(batch, steps + 1, generator=generator)
    return r, v, torch.rand(batch, steps, generator=generator) < ends


def returns(quick: bool) -> list[Row]:
    """λ-returns by the share of steps that end an episode."""
    rows = []
    for ends in (0.0, 0.01) if quick else (0.0, 0.001, 0.01, 0.1):
        r, v, done = batch(ends)
        ours = lambda_return(r, v, done, GAMMA, LAMBDA)
        exact = lambda_return(r.double(), v.double(), done, GAMMA, LAMBDA)
        notes = [
            f"float32 within {float((ours - exact).abs().max() / exact.abs().max()):.0e} of float64, of the largest"
        ]
        peer = torchrl("vec_td_lambda_return_estimate", r, v, done)
        if peer is not None:
            theirs = peer()[..., 0]
            notes.append(f"TorchRL's within {float((theirs - exact).abs().max() / exact.abs().max()):.0e}")
        rows += compared(
            "λ-return", case(ends), lambda r=r, v=v, d=done: lambda_return(r, v, d, GAMMA, LAMBDA), peer,
            rlax(r, v, done), (r, v), TENTH if ends == 0 else AHEAD, "; ".join(notes), quick,
        )  # fmt: skip
    return rows


def others(quick: bool) -> list[Row]:
    """Advantages, derivatives, and another shape; no target."""
    r, v, done = batch(0.01)
    rows = compared(
        "generalized advantage", case(0.01), lambda: generalized_advantage(r, v, done, GAMMA, LAMBDA),
        torchrl("vec_generalized_advantage_estimate", r, v, done), None, (r, v), None, "", quick,
    )  # fmt: skip
    w = v.clone().requires_grad_()
    peer = torchrl("vec_td_lambda_return_estimate", r, w, done)
    rows += compared(
        "λ-return and its derivative in the values", case(0.01),
        lambda: torch.autograd.grad(lambda_return(r, w, done, GAMMA, LAMBDA).sum(), w),
        None if peer is None else lambda: torch.autograd.grad(peer().sum(), w), None, (r, v), None, "", quick,
    )  # fmt: skip
    r2, v2, done2 = batch(0.01, 2048, 128)
    rows += compared(
        "λ-return", case(0.01, 2048, 128), lambda: lambda_return(r2, v2, done2, GAMMA, LAMBDA),
        torchrl("vec_td_lambda_return_estimate", r2, v2, done2), rlax(r2, v2, done2), (r2, v2), None, "", quick,
    )  # fmt: skip
    return rows


def compared(
    what: str, case: str, ours: Callable[[], object], theirs: Callable[[], object] | None,
    jax: Callable[[], object] | None, arrays: tuple[Tensor, Tensor], target: float | None, note: str, quick: bool,
) -> list[Row]:  # fmt: skip
    """Ours over TorchRL's, with rlax and one pass over memory over the same."""
    r, v = arrays
    functions = {"ours": ours, "floor": lambda: torch.add(r, v[:, 1:])}
    functions |= {} if theirs is None else {"bare": theirs}
    functions |= {} if jax is None else {RLAX: jax}
    times = interleave(functions, 5 if quick else 15)
    median = medians(times)
    floor = f"one pass over memory {median['floor'] * 1e3:.2f} ms"
    if theirs is None:
        return [{**empty(what, case), "ours": median["ours"] * 1e3, "note": f"no peer; {floor}"}]
    row = over_base(
        what,
        case,
        times,
        TORCHRL,
        target,
        None if jax is None else RLAX,
        "; ".join(filter(None, (note, floor))),
    )
    return [{**row, "system": f"td: {what}", "floor": median["floor"] / median["bare"]}]


def sweeps(quick: bool) -> list[Row]:
    """A grid of λ and α on Sutton's walk: 100 training sets of ten sequences each."""
    walk = RandomWalk(5)
    count = 10 if quick else 100
    sets = [walk.sample(torch.Generator().manual_seed(seed), 10) for seed in range(count)]
    plain = [[(x.numpy(), float(z)) for x, z, _ in rows] for rows in sets]
    rows = []
    for alphas, name in ((ALPHAS, "11 λ × 13 α"), ([0.01 * i for i in range(61)], "11 λ × 61 α")):
        expected = loop(plain, LAMBDAS, alphas)
        found = sweep(sets, LAMBDAS, alphas, w0=0.5).numpy()
        error = float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max())
        functions = {
            "ours": lambda a=alphas: sweep(sets, LAMBDAS, a, w0=0.5),
            "bare": lambda a=alphas: loop(plain, LAMBDAS, a),
        }
        times = interleave(functions, 3, warmup=1)
        note = f"largest difference {error:.0e}, relative above 1 (target 1e-12); sequences are packed and checked each time"
        row = over_base(
            "sweep", f"{count} sets of 10 walks, {name}", times, "plain loop in NumPy", SWEEP, None, note
        )
        rows.append({**row, "system": "td: sweep", "holds": row["holds"] and error <= 1e-12})
        if quick:
            break
    return rows


def loop(sets: list[list[tuple[np.ndarray, float]]], lambdas: list[float], alphas: list[float]) -> np.ndarray:
    """The rule as it is written, with no more work at a step than it asks for."""
    weights = np.empty((len(sets), len(lambdas), len(alphas), 5))
    for s, rows in enumerate(sets):
        for i, lam in enumerate(lambdas):
            for j, alpha in enumerate(alphas):
                w = np.full(5, 0.5)
                for x, z in rows:
                    trace, change, value = np.zeros(5), np.zeros(5), x[0] @ w
                    for t in range(len(x)):
                        trace = lam * trace + x[t]
                        following = x[t + 1] @ w if t + 1 < len(x) else z
                        change += alpha * (following - value) * trace
                        value = following
                    w = w + change
                weights[s, i, j] = w
    return weights


def case(ends: float, batch: int = BATCH, steps: int = STEPS) -> str:
    often = "no ends" if ends == 0 else f"an end every {1 / ends:,.0f} steps"
    return f"B = {batch:,}, T = {steps:,}, {often}"


def empty(what: str, case: str) -> Row:
    names = ("ours", "base", "peer", "peer_name", "floor", "ratio", "interval", "target", "holds", "repeats")
    return {"system": f"td: {what}", "case": case, **dict.fromkeys(names), "unit": "ms", "note": ""}


def missing(name: str, why: str) -> Row:
    return {**empty("λ-return", "peer"), "peer_name": name, "note": f"not measured: {why}"}


def table(rows: list[Row]) -> Table:
    keys = ("system", "case", "ours", "base", "ratio", "interval", "peer", "floor", "target", "holds", "note")
    heads = [
        "system",
        "case",
        "ours (ms)",
        "base (ms)",
        "ratio",
        "quartiles",
        "rlax",
        "floor",
        "target",
        "holds",
        "note",
    ]
    cells: list[list[Any]] = [[row[key] for key in keys] for row in rows]
    for line in cells:
        line[5] = None if line[5] is None else " – ".join(f"{x:.3g}" for x in line[5])
    return Table(heads, cells, title="td", caption="CPU time, one thread, interleaved; ratios over the base.")


PARTS = {"returns": returns, "others": others, "sweeps": sweeps}


if __name__ == "__main__":
    main()
