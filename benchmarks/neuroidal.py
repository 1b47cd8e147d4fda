"""Times the random graph that is never stored against stored ones, and JOINs at the size of a mouse's and a human cortex.

python benchmarks/neuroidal.py [--quick] [--only PART]: writes benchmarks/results/neuroidal.json and prints a table; with
--only it prints alone. JOINs at the size of a cortex run in a process of their own, which reads its own memory.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import sparse

from _interleave import environment, interleave
from _neuroidal_rows import measured, per_edge, smallest
from _rows import Row, over_base
from fingerpost._table import Table
from fingerpost.experiments._cortex_child import Task, measured_in_child
from fingerpost.neuroidal.graphs import ImplicitGraph, StoredGraph

STORED, SECONDS, BYTES, HOURS = 2.0, 2.0, 1e9, 1.0
"""Targets: time over the stored graph's, CPU seconds of a mouse's JOIN, peak memory, CPU hours of a human JOIN."""
USUAL_COPY = 1e10
"""Bytes per second that one thread copies on a usual machine; on a slower one a JOIN may take longer in proportion."""
FITTING = ((100_000, 512, 2134), (300_000, 512, 6400), (1_000_000, 128, 16_000))
SIZES = (10_000, 100_000, 1_000_000, 16_000_000, 100_000_000, 1_000_000_000, 10_000_000_000)
MOUSE = Task(n=16_000_000, degree=7800, r=19_607, k=16)
HUMAN = Task(n=10**10, degree=24_000, r=3_685_955, k=16, tiles=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats and smaller stored graphs")
    parser.add_argument("--only", choices=list(PARTS), help="one part, printed and not written")
    flags = parser.parse_args()
    parts = [PARTS[flags.only]] if flags.only else PARTS.values()
    rows = [row for part in parts for row in part(flags.quick)]
    if not flags.only:
        path = Path(__file__).parent / "results" / "neuroidal.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    print(table(rows))


def stored(quick: bool) -> list[Row]:
    """Inputs of every neuron from a firing set: drawn anew, against read from memory, where memory suffices."""
    rows: list[Row] = []
    for n, degree, r in FITTING[:1] if quick else FITTING:
        graph = ImplicitGraph(n, degree, seed=0)
        memory = StoredGraph.from_graph(graph)
        firing = np.sort(np.random.default_rng(1).choice(n, r, replace=False))
        functions: dict[str, Callable[[], object]] = {
            "ours": lambda g=graph, f=firing: g.counts(f),
            "bare": lambda g=memory, f=firing: g.counts(f),
            **scipy_ways(memory.matrix, firing),
        }
        expected = graph.counts(firing)
        assert all(
            np.array_equal(np.asarray(function()).ravel(), expected) for function in functions.values()
        )
        times = smallest(interleave(functions, 5 if quick else 11, warmup=1), "scipy", "scipy.sparse")
        edges = int(expected.sum(dtype=np.int64))
        case = f"n {n:,}, degree {degree:,}, {r:,} firing, {edges / 1e6:.3g} million edges"
        base = "stored matrix, compiled loop"
        note = f"{per_edge(times, edges)}; scipy.sparse: the fastest of a product, and of a sum of rows"
        rows.append(over_base("neuroidal: inputs", case, times, base, STORED, "scipy.sparse", note))
        if n == FITTING[0][0]:
            rows.append(without_numba(graph, firing, edges, case))
    return rows


def scipy_ways(matrix: sparse.csr_array, firing: np.ndarray) -> dict[str, Callable[[], object]]:
    """The two ways that scipy.sparse offers: a product with an indicator, and a sum of the rows that fire."""
    by_target = sparse.csr_array(matrix.T)
    indicator = np.zeros(matrix.shape[0], np.uint16)
    indicator[firing] = 1
    return {
        "scipy product": lambda: by_target @ indicator,
        "scipy rows": lambda: matrix[firing].sum(0),
    }


def without_numba(graph: ImplicitGraph, firing: np.ndarray, edges: int, case: str) -> Row:
    """What the kernels without numba cost, over the compiled ones."""
    plain = ImplicitGraph(**graph.parameters, kernels="numpy")
    functions = {"ours": lambda: plain.counts(firing), "bare": lambda: graph.counts(firing)}
    times = interleave(functions, 5, at_least=0.05)
    note = per_edge(times, edges)
    return over_base("neuroidal: inputs, numpy alone", case, times, "compiled", None, None, note)


def sizes(quick: bool) -> list[Row]:
    """Time per edge against n, at the mouse's degree and the human one, over one tile where n is large."""
    rows: list[Row] = []
    for n in SIZES[:4] if quick else SIZES:
        degree = min(7800, n // 10) if n <= MOUSE.n else 24_000
        graph = ImplicitGraph(n, degree, seed=0)
        firing = np.sort(
            np.random.default_rng(1).choice(n, min(n // 10, int(10 * n / degree)), replace=False)
        )
        stop = graph.tile
        edges = int(graph.counts(firing, 0, stop).sum(dtype=np.int64))
        times = interleave({"ours": lambda g=graph, f=firing, s=stop: g.counts(f, 0, s)}, 5 if quick else 9)
        where = "all targets" if stop == n else f"a tile of {stop:,} targets"
        case = f"n {n:,}, degree {degree:,}, {len(firing):,} firing, {where}"
        values = [seconds / edges * 1e9 for seconds in times["ours"]]
        rows.append(
            measured("neuroidal: time per edge", case, values, "ns per edge", note=f"block {graph.block:,}")
        )
    return rows


def mouse(quick: bool) -> list[Row]:
    """One two-step JOIN among 16 million neurons: CPU time and peak memory of its process."""
    found = [measured_in_child(MOUSE) for _ in range(3 if quick else 7)]
    case = f"n {MOUSE.n:,}, degree {MOUSE.degree:,}, two items of {MOUSE.r:,}, k {MOUSE.k}"
    slower = max(1.0, USUAL_COPY / float(np.median([one["copy"] for one in found])))
    joins = [one["two"][0] for one in found]
    copy = float(np.median([one["copy"] for one in found])) / 1e9
    note = (
        f"{joins[0]['edges'] / 1e6:.4g} million edges, kernels compiled before; a thread copies {copy:.3g} GB/s here, so that "
        f"the target is {SECONDS:g} s × {slower:.3g}"
    )
    seconds = [join["cpu"] for join in joins]
    peaks = [one["peak"] / 1e9 for one in found]
    before = found[0]["before"] / 1e9
    return [
        measured("neuroidal: a mouse's JOIN", case, seconds, "CPU seconds", SECONDS * slower, note),
        measured(
            "neuroidal: memory of a mouse's JOIN", case, peaks, "GB at most", BYTES / 1e9,
            f"{before:.2g} GB of them are the interpreter with its modules; stored, the graph takes 499 GB at 4 bytes an edge",
        ),
    ]  # fmt: skip


def human(quick: bool) -> list[Row]:
    """One tile of a JOIN among 10¹⁰ neurons, and what all tiles would take."""
    found = [measured_in_child(HUMAN) for _ in range(1 if quick else 5)]
    case = f"n {HUMAN.n:,}, degree {HUMAN.degree:,}, two items of {HUMAN.r:,}, k {HUMAN.k}"
    tiles = HUMAN.n / found[0]["targets"]
    hours = [one["two"][0]["cpu"] * tiles / 3600 for one in found]
    peaks = [one["peak"] / 1e9 for one in found]
    note = f"extrapolated: one tile of {found[0]['targets']:,} targets was measured, of {tiles:.6g}"
    return [
        measured("neuroidal: a human JOIN", case, hours, "CPU hours", HOURS, note),
        measured("neuroidal: memory of a human JOIN", case, peaks, "GB at most", BYTES / 1e9, "of one tile"),
    ]


def table(rows: list[Row]) -> Table:
    columns = ("system", "case", "ours", "base", "ratio", "unit", "peer", "target", "holds", "note")
    caption = "CPU time in ms, one thread; ratio and peer over the base that the unit names, or the figure in that unit."
    return Table(columns, [[row[column] for column in columns] for row in rows], "Neuroidal", caption)


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "stored": stored,
    "sizes": sizes,
    "mouse": mouse,
    "human": human,
}

if __name__ == "__main__":
    main()
