"""Valiant's item sizes, recomputed from his equations, and what the equations leave out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.experiments import _join_chains as chains
from fingerpost.experiments._neuroidal_intervals import SOURCE, SPECIFICATION, VALIANT, summary
from fingerpost.lab import Claim, Run

if TYPE_CHECKING:
    from fingerpost.experiments.join_instability import Config

theory = lazy_import("fingerpost.neuroidal.theory")

Cell = tuple[int, int, int, int]


def expected(cell: Cell, r: float, overlap: bool = True) -> float:
    """Expected neurons of a JOIN of two random items of r; without `overlap`, a two-step JOIN's counts are independent."""
    n, degree, k, steps = cell
    return float(theory.size_map(n, degree, r, r, k, steps=steps, overlap=overlap))


def stationary(cell: Cell) -> int:
    """The item size at which a JOIN of random items keeps its size, their overlap counted; by bisection."""
    solved = theory.solve_r(*cell)
    low, high = solved // 2, 2 * solved
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if expected(cell, middle) < middle else (low, middle)
    return min((low, high), key=lambda r: abs(expected(cell, r) - r))


def elasticity(cell: Cell, r: int) -> float:
    """Per cent by which a JOIN grows for one per cent of both its items, at r; by differences of 2 %."""
    sizes = 0.99 * r, 1.01 * r
    return math.log(expected(cell, sizes[1]) / expected(cell, sizes[0])) / math.log(sizes[1] / sizes[0])


def table(run: Run) -> None:
    """The six cells, printed beside recomputed."""
    rows = []
    for cell, printed in theory.PRINTED.items():
        n, degree, k, steps = cell
        r = theory.solve_r(*cell)
        rows.append(
            [n, degree, k, f"{steps}-step", printed, r, r - printed, expected(cell, printed, overlap=False)]
        )
        rows[-1] += [expected(cell, printed), stationary(cell), elasticity(cell, r)]
    heads = ["n", "d", "k", "JOIN", "r printed", "r recomputed", "difference", "expected size at printed r"]
    heads += ["the same, overlap counted", "stationary r, overlap counted", "d log size / d log r"]
    caption = (
        "Two-step: n B(r, p, k)² = r. One-step: n B(2r − r²/n, p, 2k) = r. The equation of two steps takes a neuron's inputs "
        "from A and from B as independent; neurons in both items give inputs to both counts, and the JOIN is larger. The "
        "last column: by how many per cent it grows for one per cent of A and B; above 1 no size is stable."
    )
    run.table("valiant", Table(heads, rows, title="Valiant’s r, recomputed", caption=caption, digits=5))


def state(config: Config, run: Run, found: Mapping[chains.Kind, list[list[list[int]]]]) -> None:
    """What is claimed of the item sizes."""
    differences = {cell: theory.solve_r(*cell) - printed for cell, printed in theory.PRINTED.items()}
    off = [f"{n:,}, {d}, {k}, {s}-step: {by:+d}" for (n, d, k, s), by in differences.items() if by]
    run.claim(
        Claim(
            name="valiants-r",
            statement="The six printed item sizes come out of the two equations, to the neuron.",
            source=f"{VALIANT}, tables 1 and 2, by the {SPECIFICATION}",
            expected=f"{len(theory.PRINTED)} of {len(theory.PRINTED)}",
            measured=len(theory.PRINTED) - len(off),
            low=len(theory.PRINTED),
            unit="cells",
            note="; ".join(off) or "all equal",
        )
    )
    run.claim(
        Claim(
            name="unstable-everywhere",
            statement="Item sizes are unstable under JOIN at each of Valiant's settings, not only at one.",
            source=f"{SOURCE}, which says it of the JOIN as such",
            expected="> 1",
            measured=min(elasticity(cell, theory.solve_r(*cell)) for cell in theory.PRINTED),
            low=1.0,
            unit="d log size / d log r, the smallest over cells, by theory",
        )
    )
    for steps, r in ((1, config.r), (2, config.r_two_step)):
        _claim_kept(
            config, run, steps, r, [levels for kind in found if kind.steps == steps for levels in found[kind]]
        )


def _claim_kept(config: Config, run: Run, steps: int, r: int, found: list[list[list[int]]]) -> None:
    """Whether JOINs of fresh items of r have r neurons; the first JOINs of all chains and trees."""
    cell = (config.n, config.degree, config.k, steps)
    if theory.PRINTED.get(cell) != r:
        return
    mean, interval = summary([sum(levels[1]) / len(levels[1]) / r for levels in found])
    run.claim(
        Claim(
            name=f"size-kept-{'one' if steps == 1 else 'two'}-step",
            statement=f"A {'one' if steps == 1 else 'two'}-step JOIN of two random items of the printed r has r neurons.",
            source=f"{VALIANT}, by the {SPECIFICATION}",
            expected="1 ± 0.01",
            measured=mean,
            low=0.99,
            high=1.01,
            interval=interval,
            unit="size over r",
            note=f"r = {r}; with the overlap of items counted the expected size is {expected(cell, r) / r:.4f} r, and the "
            f"size that is kept {stationary(cell)}; {sum(len(levels[1]) for levels in found)} JOINs on "
            f"{config.chain_graphs} graphs",
        )
    )
