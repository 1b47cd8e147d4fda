"""What a signal costs, in exact gradients of the same loss: time interleaved, memory counted tensor by tensor."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Cost:
    """Ratios to one exact gradient.

    Args:
      time: (minimum, median, maximum) over interleaved repeats of signal seconds / median gradient seconds.
      memory: Peak of live tensor bytes allocated by the signal / the same of the gradient.
      gradient_seconds: Median wall-clock seconds of one exact gradient in the point's own precision.
      signal_bytes: Peak of live tensor bytes that one call of the signal allocated.
    """

    time: tuple[float, float, float]
    memory: float
    gradient_seconds: float
    signal_bytes: int


def measure_cost(signal: Callable[[], Any], gradient: Callable[[], Any], repeats: int = 3) -> Cost:
    """Times signal and gradient in turns, wall clock, and counts the bytes of each once."""
    signal_bytes, gradient_bytes = peak_bytes(signal), peak_bytes(gradient)
    ours, theirs = [], []
    for _ in range(repeats):
        theirs.append(_seconds(gradient))
        ours.append(_seconds(signal))
    unit = statistics.median(theirs)
    ratios = sorted(t / unit for t in ours)
    return Cost(
        (ratios[0], statistics.median(ratios), ratios[-1]),
        signal_bytes / max(gradient_bytes, 1),
        unit,
        signal_bytes,
    )


def _seconds(function: Callable[[], Any]) -> float:
    _synchronise()
    start = time.perf_counter()
    function()
    _synchronise()
    return time.perf_counter() - start


def _synchronise() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def peak_bytes(function: Callable[[], Any]) -> int:
    """Peak of the bytes held at once by tensors that `function` made, on any device.

    Storage by storage, from allocation until the last tensor on it dies; scratch space inside one kernel isn't seen.
    """
    with _LiveBytes() as counter:
        function()
    return counter.peak


class _LiveBytes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_key(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _key(tensor) not in given:
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = _key(tensor), storage.nbytes()
        if key in self._known or size == 0:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
