"""Interleaved timing in CPU seconds: what every benchmark here is measured with."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from fingerpost.lab.manifest import cpu_name


def interleave(
    functions: Mapping[str, Callable[[], object]],
    repeats: int = 9,
    *,
    warmup: int = 2,
    at_least: float = 0.02,
) -> dict[str, list[float]]:
    """CPU seconds of one call, `repeats` times for each function, in turns, so that drift hits all alike.

    A function is called as often per turn as `at_least` CPU seconds need. One torch thread while it
    measures; the number of threads is put back.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        calls = {name: _calls(function, warmup, at_least) for name, function in functions.items()}
        times: dict[str, list[float]] = {name: [] for name in functions}
        for _ in range(repeats):
            for name, function in functions.items():
                times[name].append(_time(function, calls[name]))
        return times
    finally:
        torch.set_num_threads(threads)


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each list."""
    return {name: statistics.median(values) for name, values in times.items()}


def ratio_interval(ours: list[float], base: list[float]) -> list[float]:
    """The quartiles of the ratios of neighbouring turns."""
    ratios = [a / b for a, b in zip(ours, base)]
    quartiles = statistics.quantiles(ratios, n=4)
    return [quartiles[0], quartiles[2]]


def environment() -> dict[str, object]:
    """What the figures were measured with."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": 1,
        "cpu": cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "clock": "CPU time of the process, interleaved, median",
    }


def _calls(function: Callable[[], object], warmup: int, at_least: float) -> int:
    for _ in range(warmup):
        function()
    return max(1, round(at_least / max(_time(function, 1), 1e-6)))


def _time(function: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        function()
    return (time.process_time() - start) / calls
