"""Where the guard steps aside, a line each."""

from __future__ import annotations

import gc
import sys
from collections import Counter


class Aside:
    """Notices what a guard cannot look into: child processes, compiled regions, and failures."""

    def __init__(self) -> None:
        self._children = self._compiled = 0
        self._failures: Counter[str] = Counter()

    def start(self) -> None:
        """From here on."""
        self._children, self._compiled = _children(), _compiled()

    def failed(self, error: Exception) -> None:
        """A call that could not be examined; the program goes on."""
        self._failures[f"{type(error).__name__}: {error}"] += 1

    def notes(self) -> list[str]:
        """What was not watched since `start`."""
        lines = []
        if children := _children() - self._children:
            lines.append(f"child processes not watched: {children} (multiprocessing, DataLoader workers)")
        if compiled := _compiled() - self._compiled:
            lines.append(f"regions of torch.compile not watched: {compiled}")
        lines += [f"calls not examined: {count} ({what})" for what, count in self._failures.items()]
        return [
            line.replace("1 child processes", "1 child process").replace("1 regions", "1 region")
            for line in lines
        ]


def _children() -> int:
    """Processes that multiprocessing has started so far."""
    process = sys.modules.get("multiprocessing.process")
    counter = repr(getattr(process, "_process_counter", "count(1)"))
    digits = counter.removeprefix("count(").removesuffix(")")
    return int(digits) - 1 if digits.isdigit() else 0


def _compiled() -> int:
    """Frames that torch.compile has compiled so far."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    counters = getattr(dynamo, "counters", {})
    return int(counters["frames"]["ok"]) if "frames" in counters else 0


def scripted_note() -> list[str]:
    """A line on what torch.jit has compiled and is alive. It looks at all objects: once a program, not once a step."""
    import torch

    kinds = (torch.jit.ScriptFunction, torch.jit.ScriptModule)
    count = sum(issubclass(type(item), kinds) for item in gc.get_objects())
    return [f"functions and modules of torch.jit not watched: {count}"] if count else []
