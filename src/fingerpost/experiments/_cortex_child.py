"""JOINs at the size of a cortex, timed and weighed in a process of their own: its peak memory is theirs alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import RunError

np = lazy_import("numpy")
neuroidal = lazy_import("fingerpost.neuroidal")

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Task:
    """What a child process measures.

    Args:
      n: Number of neurons.
      degree: Expected number of edges out of a neuron.
      r: Neurons of an item.
      k: Threshold of each step of the two-step JOIN; one step has 2k, and r_one neurons an item.
      r_one: Neurons of an item of the one-step JOIN; 0 leaves it out.
      joins: Pairs of items.
      seed: Seed of the graph and of the items.
      kernels: "auto", "numba" or "numpy".
      tiles: Tiles to go through, from the first; 0 for all of them, as a JOIN does.
      progress: Whether to show a bar.
    """

    n: int
    degree: float
    r: int
    k: int
    r_one: int = 0
    joins: int = 1
    seed: int = 0
    kernels: str = "auto"
    tiles: int = 0
    progress: bool = False


def measured_in_child(task: Task) -> dict[str, Any]:
    """The measurements of a task, from a fresh Python without torch.

    Args:
      task: What to measure.

    Returns:
      ``two`` and ``one``, a list with a dictionary for each JOIN: ``size``; ``shared``, neurons of both items; ``edges``
      drawn, as expected; ``cpu`` and ``wall`` seconds. ``inputs``, how many neurons get 0, 1, … inputs from the first
      item. ``peak`` and ``before``, bytes of memory at most, and before the first JOIN. ``compile``, CPU seconds of the
      first calls. ``tile`` and ``targets``, neurons of one tile and of all that were gone through. ``copy``, bytes per
      second of a large copy.

    Raises:
      RunError: If the child fails.
    """
    words = [sys.executable, "-m", __name__, json.dumps(asdict(task))]
    errors = None if task.progress else subprocess.PIPE
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | _ONE_THREAD
    )
    if done.returncode != 0:
        raise RunError(f"the process that measures the JOIN failed: {(done.stderr or '').strip()[-2000:]}")
    return json.loads(done.stdout)


def main(argument: str) -> None:
    """The child: prints its measurements as JSON."""
    print(json.dumps(measure(Task(**json.loads(argument)))))


def measure(task: Task) -> dict[str, Any]:
    """Draws the items, JOINs them, and reads clock and memory."""
    graph = neuroidal.ImplicitGraph(task.n, task.degree, task.seed, kernels=task.kernels)
    draw = np.random.default_rng([task.seed, 1])
    compiling = _compile(graph)
    before = peak_memory()
    found: dict[str, Any] = {"two": [], "one": []}
    for index in range(task.joins):
        a, b = (neuroidal.Item.random(task.n, task.r, draw) for _ in "ab")
        found["two"].append(_join(graph, a, b, 2, task))
        if index == 0:
            found["inputs"] = _inputs(graph, a, task)
        if task.r_one:
            a, b = (neuroidal.Item.random(task.n, task.r_one, draw) for _ in "ab")
            found["one"].append(_join(graph, a, b, 1, task))
    return found | {
        "before": before,
        "peak": peak_memory(),
        "compile": compiling,
        "tile": graph.tile,
        "targets": _targets(graph, task),
        "copy": _copy_speed(),
    }


def _compile(graph: Any) -> float:
    """CPU seconds until the kernels are ready, for both widths of counts that firing sets can need."""
    start = time.process_time()
    graph.counts([0], 0, 1)
    graph.counts(np.arange(min(graph.n, 1 << 17)), 0, 1)
    return time.process_time() - start


@contextmanager
def _clock() -> Iterator[dict[str, float]]:
    found: dict[str, float] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield found
    found["cpu"], found["wall"] = time.process_time() - cpu, time.perf_counter() - wall


def _join(graph: Any, a: Any, b: Any, steps: int, task: Task) -> dict[str, Any]:
    """One JOIN over all targets, or the same work over the first tiles of them."""
    shared = a.overlap(b)
    with _clock() as clock:
        if task.tiles:
            size = sum(_tile(graph, (a, b), task.k, index) for index in range(task.tiles))
        else:
            size = len(neuroidal.join(graph, a, b, k=task.k, steps=steps, progress=task.progress))
    firing = 2 * len(a) - (shared if steps == 1 else 0)
    return {"size": size, "shared": shared, "edges": firing * graph.p * _targets(graph, task), **clock}


def _targets(graph: Any, task: Task) -> int:
    return min(task.n, task.tiles * graph.tile) if task.tiles else task.n


def _tile(graph: Any, items: tuple[Any, Any], k: int, index: int) -> int:
    """How many neurons of one tile two steps reach."""
    start = index * graph.tile
    stop = min(graph.n, start + graph.tile)
    first, second = (graph.counts(item, start, stop) >= k for item in items)
    return int(np.count_nonzero(first & second))


def _inputs(graph: Any, item: Any, task: Task) -> list[int]:
    """How many targets get 0, 1, 2, … inputs from an item."""
    total = np.zeros(1, np.int64)
    stop = _targets(graph, task)
    for start in range(0, stop, graph.tile):
        counts = np.bincount(graph.counts(item, start, min(stop, start + graph.tile)))
        total = np.pad(total, (0, max(0, len(counts) - len(total))))
        total[: len(counts)] += counts
    return total.tolist()


def peak_memory() -> int | None:
    """The most bytes of memory that this process has held, or None where the system doesn't tell.

    VmHWM belongs to the program that runs; the peak of getrusage would count the parent's memory before it was started.
    """
    try:
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _copy_speed() -> float:
    """Bytes per CPU second that one thread copies, of 64 MiB that are read and written: the best of five."""
    source = np.ones(1 << 23)
    target = np.empty_like(source)
    best = float("inf")
    for _ in range(6):
        start = time.process_time()
        np.copyto(target, source)
        best = min(best, time.process_time() - start)
    return source.nbytes / best


if __name__ == "__main__":
    main(sys.argv[1])
