"""Exact accounting of the memory that tensors hold, whatever holds them."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make while it is entered, until they are freed.

    A storage counts from the operation that makes it to its release, also while only a graph or a saved tensor holds
    it. Deterministic: it counts tensors, not the allocator's pages.

    Attributes:
      now: Bytes alive.
      peak: Most bytes alive since the start or `restart`.

    >>> with LiveBytes() as memory:
    ...     x = torch.zeros(1000)
    ...     y = x.exp()
    ...     del x
    >>> memory.now, memory.peak
    (4000, 8000)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def restart(self) -> None:
        """Forgets the peak so far."""
        self.peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, torch.Tensor):
                self._count(value.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.now += size
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
