"""Timing in turns where some of what is timed runs in another process: `_interleave` for functions of a call count."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

Timed = Callable[[int], float]
"""CPU seconds of one call, given how many to make."""


def here(function: Callable[[], object]) -> Timed:
    """A function of this process."""

    def run(calls: int) -> float:
        start = time.process_time()
        for _ in range(calls):
            function()
        return (time.process_time() - start) / calls

    return run


def turns(
    timed: Mapping[str, Timed], repeats: int = 9, *, warmup: int = 2, at_least: float = 0.02
) -> dict[str, list[float]]:
    """CPU seconds of one call, `repeats` times for each, in turns, so that drift hits all alike; one torch thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        calls = {name: _calls(run, warmup, at_least) for name, run in timed.items()}
        times: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(repeats):
            for name, run in timed.items():
                times[name].append(run(calls[name]))
        return times
    finally:
        torch.set_num_threads(threads)


def _calls(run: Timed, warmup: int, at_least: float) -> int:
    run(warmup)
    return max(1, round(at_least / max(run(1), 1e-6)))
