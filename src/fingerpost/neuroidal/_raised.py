"""Raised synapses of many associations in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fingerpost.neuroidal.graphs.base import Edges, Neurons

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
            order = np.lexsort((source, target))
            source, target = source[order], target[order]
            first = np.ones(len(source), bool)
            first[1:] = (np.diff(source) != 0) | (np.diff(target) != 0)
            self._source, self._target, self._waiting = source[first], target[first], []
            self._index()
        return self._source, self._target

    def _index(self) -> None:
        """Numbers the sources, and says where each target's synapses begin."""
        self._sources, self._place = np.unique(self._source, return_inverse=True)
        new = np.ones(len(self._target), bool)
        new[1:] = np.diff(self._target) != 0
        self._starts = np.flatnonzero(new)
        self._targets = self._target[self._starts]

    def fire(self, active: ArrayLike, k: int) -> Neurons:
        """The neurons with at least k raised synapses from `active`, sorted."""
        if not len(self):
            return _NONE
        fires = np.isin(self._sources, np.asarray(active), assume_unique=True)
        inputs = np.add.reduceat(fires[self._place].astype(np.int32), self._starts)
        return self._targets[inputs >= k]
