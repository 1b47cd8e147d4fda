"""Memory growth of the corpus of leakwatch, measured in a process of its own, and what the guard says there.

The verdict on a form is the growth of the bytes of live storages, counted one by one: exact, the same on every machine, and
blind to an allocator that keeps what it was given back. The resident memory of the process stands beside it, as a witness
that knows nothing of tensors.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import RunError

torch = lazy_import("torch")
accounting = lazy_import("fingerpost.experiments._live_bytes")
corpus = lazy_import("fingerpost.leakwatch.corpus")
leakwatch = lazy_import("fingerpost.leakwatch")

PLAIN, CURED, BACKWARD, CURED_BACKWARD = "plain", "cured", "backward", "cured backward"
_STATM = Path("/proc/self/statm")
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "1000000"}
"""glibc gives each block above 1 MB back as soon as it is freed; otherwise holes in its heap look like growth."""


@dataclass(frozen=True)
class Task:
    """What a child process measures.

    Args:
      forms: Names of forms; all of the corpus if there are none.
      ways: ``"plain"``, ``"cured"``, and both with ``"backward"``; a cure only where there is one.
      passes: Passes after the warm-up; memory is read after each.
      rows: Rows of the bench.
      width: Columns of the bench.
      device: Where to compute.
    """

    forms: tuple[str, ...] = ()
    ways: tuple[str, ...] = (PLAIN,)
    passes: int = 8
    rows: int = 2500
    width: int = 100
    device: str = "cpu"


def measured_in_child(task: Task) -> dict[str, dict[str, Any]]:
    """The measurements of a task: ``{form: {way: …}}``, from a fresh Python.

    Args:
      task: What to measure.

    Returns:
      For each form and way: ``live`` and ``resident``, bytes more than at the start after each pass (resident is empty
      where the system does not tell); ``error``, of the first backward pass; ``leaks``, the guard's findings of two
      further passes; ``line``, where the form is marked; ``nbytes``, the size of the bench's tensor.

    Raises:
      RunError: If the child fails.
    """
    words = [sys.executable, "-m", __name__, json.dumps(asdict(task))]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | _ALLOCATOR)
    if done.returncode != 0:
        raise RunError(f"the process that measures memory failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def main(argument: str) -> None:
    """The child: prints its measurements as JSON."""
    given = json.loads(argument)
    task = Task(tuple(given.pop("forms")), tuple(given.pop("ways")), **given)
    torch.set_num_threads(1)  # a process of its own
    _ = corpus.FORMS, leakwatch.LeakGuard
    gc.freeze()  # the collector runs at each reading, and need not look at what importing has made
    found: dict[str, dict[str, Any]] = {}
    for name in task.forms or corpus.FORMS:
        form = corpus.FORMS[name]
        for way in task.ways:
            if "cured" in way and form.cure is None:
                continue
            found.setdefault(name, {})[way] = _measure(form, way, task)
    print(json.dumps(found))


def _measure(form: Any, way: str, task: Task) -> dict[str, Any]:
    step = form.cure if "cured" in way else form.step
    bench = corpus.Bench(task.rows, task.width, task.device)
    backward = "backward" in way
    errors: list[str] = []

    def once() -> None:
        error = _pass(step, bench, backward)
        if error:
            errors.append(error)

    live, resident = _readings(once, task)
    with leakwatch.LeakGuard("record") as guard:
        once()
        once()
    return {
        "live": live,
        "resident": resident,
        "error": errors[0] if errors else "",
        "leaks": [asdict(leak) for leak in guard.report.leaks],
        "line": form.line("cure" if "cured" in way else "leaks") if form.leaks else 0,
        "nbytes": bench.nbytes,
    }


def _pass(step: Any, bench: Any, backward: bool) -> str:
    end = step(bench)
    error = ""
    if backward and end is not None:
        try:
            end.sum().backward()
        except RuntimeError as failure:
            error = str(failure)
    for parameter in bench.parameters:
        parameter.grad = None
    return error


def _readings(once: Any, task: Task) -> tuple[list[int], list[int]]:
    """Bytes after each pass beyond those after the warm-up; Python's collector runs before each reading."""
    cuda = task.device.startswith("cuda")
    count = accounting.LiveBytes()
    with nullcontext() if cuda else count:
        live, resident = [], []
        for index in range(2 + task.passes):
            once()
            gc.collect()
            if index >= 1:
                live.append(torch.cuda.memory_allocated(task.device) if cuda else count.now)
                resident.append(_resident())
    known = resident[0] >= 0
    return [value - live[0] for value in live[1:]], [
        value - resident[0] for value in resident[1:]
    ] if known else []


def _resident() -> int:
    """Bytes of memory that this process occupies, -1 where the system does not tell."""
    if not _STATM.exists():
        return -1
    import resource

    return int(_STATM.read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main(sys.argv[1])
