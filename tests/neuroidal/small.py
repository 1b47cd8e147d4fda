"""A small stored graph with its dense matrix, for oracles that loop over nothing but rows."""

from __future__ import annotations

import numpy as np

from fingerpost.neuroidal import Item, StoredGraph

N, DEGREE, R, K = 2_000, 80, 120, 6
GRAPH = StoredGraph.random(N, DEGREE, seed=5)
OTHER = StoredGraph.random(N, DEGREE, seed=6)
DENSE, OTHER_DENSE = GRAPH.matrix.toarray().astype(int), OTHER.matrix.toarray().astype(int)


def items(count: int, seed: int = 0, r: int = R, n: int = N) -> list[Item]:
    draw = np.random.default_rng(seed)
    return [Item.random(n, r, draw) for _ in range(count)]


def inputs(dense: np.ndarray, firing: np.ndarray) -> np.ndarray:
    """Inputs of every neuron, by summing rows."""
    return dense[np.asarray(firing)].sum(0)
