"""Raised synapses of many associations in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fingerpost.neuroidal.graphs.base import Edges, Neurons

LONGEST_MASK = 1 << 27
"""Neurons up to which a mask of all of them is made."""
_NONE = np.empty(0, np.int64)


class RaisedSynapses:
    """A set of synapses that have weight 1/k; all others have 0.

    What is added waits until it is asked for, and is sorted in then: filling a memory costs one sort.
    """

    def __init__(self) -> None:
        self._source, self._target = _NONE, _NONE
        self._waiting: list[Edges] = []

    def __len__(self) -> int:
        return len(self.edges()[0])

    def add(self, source: Neurons, target: Neurons) -> None:
        """Raises synapses; one that is raised twice is raised."""
        self._waiting.append((source, target))

    def edges(self) -> Edges:
        """(source, target), sorted by target and then by source."""
        if self._waiting:
            source, target = (
                np.concatenate(part) for part in zip((self._source, self._target), *self._waiting)
            )
            self._source, self._target = _sorted_set(source, target)
            self._waiting = []
            self._index()
        return self._source, self._target

    def _index(self) -> None:
        """Says where each target's synapses begin, and numbers the sources where a mask of them would be too long."""
        new = np.ones(len(self._target), bool)
        new[1:] = np.diff(self._target) != 0
        self._starts = np.flatnonzero(new)
        self._targets = self._target[self._starts]
        self._numbered = bool(len(self._source)) and int(self._source.max()) >= LONGEST_MASK
        if self._numbered:
            self._sources, self._place = np.unique(self._source, return_inverse=True)

    def fire(self, active: ArrayLike, k: int) -> Neurons:
        """The neurons with at least k raised synapses from `active`, sorted."""
        if not len(self):
            return _NONE
        inputs = np.add.reduceat(self._fires(np.asarray(active)).astype(np.int32), self._starts)
        return self._targets[inputs >= k]

    def _fires(self, active: Neurons) -> NDArray[np.bool_]:
        """Whether the source of each synapse is among `active`."""
        if self._numbered:
            return np.isin(self._sources, active, assume_unique=True)[self._place]
        mask = np.zeros(int(self._source.max()) + 1, bool)
        mask[active[active < len(mask)]] = True
        return mask[self._source]


def _sorted_set(source: Neurons, target: Neurons) -> Edges:
    """Synapses sorted by target and then by source, each once; by one number for both ends where 63 bits hold it."""
    rows = int(source.max(initial=0)) + 1
    if (int(target.max(initial=0)) + 1) * rows < 1 << 63:
        key = target * rows + source
        if not (np.diff(key) > 0).all():
            key.sort()
            key = key[np.diff(key, prepend=-1) > 0]
        target, source = np.divmod(key, rows)
        return source, target
    order = np.lexsort((source, target))
    source, target = source[order], target[order]
    first = np.ones(len(source), bool)
    first[1:] = (np.diff(source) != 0) | (np.diff(target) != 0)
    return source[first], target[first]
