"""A graph that is stored, as a sparse matrix: the reference that the implicit graph is held against."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.neuroidal._kernels import Kernels, kernels_named
from fingerpost.neuroidal.graphs.base import (
    AbstractGraph,
    Edges,
    check_seed,
    check_size,
    count_type,
)

BYTES_PER_EDGE = 13
"""An index of four bytes and a value of one; twice the indices while they are put together."""
_GAPS = 1 << 22


class StoredGraph(AbstractGraph):
    """A graph as a sparse matrix of 0 and 1, shape (n, n): row i has the targets of neuron i.

    Args:
      matrix: Square, from scipy.sparse; whatever isn't zero is an edge.
      degree: Expected number of edges out of a neuron; the mean of the matrix if None.
      seed: What it was drawn from, kept for the record.
      kernels: "numba" or "numpy", or "auto" for numba where it is installed.

    Raises:
      ShapeError: If the matrix isn't square.
      InvalidTypeError: If it isn't a sparse matrix.

    >>> graph = StoredGraph.random(1000, 50, seed=0)
    >>> int(graph.counts(range(100)).sum()) == len(graph.edges_out_of(range(100))[0])
    True
    """

    def __init__(
        self, matrix: Any, degree: float | None = None, seed: int | None = None, kernels: str = "auto"
    ) -> None:
        self._kernels: Kernels = kernels_named(kernels)
        if not sparse.issparse(matrix):
            raise InvalidTypeError(
                f"a stored graph needs a matrix of scipy.sparse; got {type(matrix).__name__}"
            )
        if matrix.shape[0] != matrix.shape[1]:
            raise ShapeError(
                f"a graph needs a square matrix, row i the targets of neuron i; got {matrix.shape}"
            )
        rows = sparse.csr_array(matrix)
        if not (rows.has_canonical_format and rows.data.all()):
            rows = rows.copy()
            rows.sum_duplicates()
            rows.eliminate_zeros()
        ones = np.ones(rows.nnz, np.uint8)
        self.matrix = sparse.csr_array((ones, rows.indices, rows.indptr), shape=rows.shape)
        self.n = int(matrix.shape[0])
        self.degree = float(self.matrix.nnz / self.n if degree is None else degree)
        self.seed, self.kernels = seed, kernels

    @classmethod
    def from_graph(cls, graph: AbstractGraph, *, limit: int | None = None) -> StoredGraph:
        """Every edge of another graph, stored.

        Args:
          graph: Any graph.
          limit: Bytes that may be used; what the machine has free if None.

        Raises:
          InvalidValueError: If it wouldn't fit, before any edge is drawn.
        """
        check_fits(graph.n, graph.degree, limit)
        step = max(1, int(_GAPS / graph.degree))
        parts = []
        for low in range(0, graph.n, step):
            sources = np.arange(low, min(low + step, graph.n))
            source, target = graph.edges_out_of(sources)
            parts.append(_rows(source - low, target, len(sources), graph.n))
        return cls(sparse.vstack(parts, format="csr"), graph.degree, graph.seed)

    @classmethod
    def random(cls, n: int, degree: float, seed: int = 0, *, limit: int | None = None) -> StoredGraph:
        """G(n, degree / n) by the geometric gaps between one edge and the next along the n² ordered pairs.

        Batagelj & Brandes (2005), Efficient generation of large random networks,
        https://doi.org/10.1103/PhysRevE.71.036113. It shares nothing with the implicit graph, which it is the reference for.

        Args:
          n: Number of neurons.
          degree: Expected number of edges out of a neuron, below n.
          seed: Integer of 64 bits.
          limit: Bytes that may be used; what the machine has free if None.

        Raises:
          InvalidValueError: For a degree that isn't below n, or if it wouldn't fit, before any edge is drawn.
        """
        check_size(n, degree)
        check_seed(seed)
        check_fits(n, degree, limit)
        draw = np.random.default_rng(seed)
        last, pairs, parts = -1, n * n, []
        while last < pairs:
            places = last + np.cumsum(draw.geometric(degree / n, min(_GAPS, int(2 * n * degree) + 16)))
            last = int(places[-1])
            parts.append(places[places < pairs])
        source, target = np.divmod(np.concatenate(parts), n)
        return cls(_rows(source, target, n, n), degree, seed)

    @property
    def tile(self) -> int:
        return self.n  # a row is read whole, however few of its targets are asked for

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredGraph, (self.matrix, self.degree, self.seed, self.kernels)

    def __repr__(self) -> str:
        return f"StoredGraph(n={self.n}, degree={self.degree}, edges={self.matrix.nnz})"

    @cached_property
    def _by_target(self) -> sparse.csr_array:
        """The transpose, made when edges into a neuron are first asked for; as large again."""
        return sparse.csr_array(self.matrix.T)

    def counts(self, firing: ArrayLike, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        firing = self.neurons(firing)
        start, stop = self.span(start, stop)
        out = np.zeros(stop - start, count_type(len(firing)))
        self._kernels.csr_scatter(self.matrix.indptr, self.matrix.indices, firing, start, stop, out)
        return out

    def edges_out_of(self, sources: ArrayLike, start: int = 0, stop: int | None = None) -> Edges:
        sources = self.neurons(sources, "sources")
        start, stop = self.span(start, stop)
        source, target = _entries(self.matrix, sources)
        inside = (target >= start) & (target < stop)
        return source[inside], target[inside]

    def edges_into(self, targets: ArrayLike, among: ArrayLike | None = None) -> Edges:
        targets = self.neurons(targets, "targets")
        target, source = _entries(self._by_target, targets)
        if among is None:
            return source, target
        chosen = np.zeros(self.n, bool)
        chosen[self.neurons(among, "among")] = True
        kept = chosen[source]
        return source[kept], target[kept]


def check_fits(n: int, degree: float, limit: int | None = None) -> None:
    """Raises InvalidValueError if a graph of that size can't be stored within `limit` bytes, or the machine's free memory."""
    needed = int(n * degree * BYTES_PER_EDGE + 16 * n)
    room = free_memory() if limit is None else limit
    if room is not None and needed > room:
        raise InvalidValueError(
            f"storing {n} neurons of degree {degree:g} takes about {needed / 1e9:.3g} GB, and {room / 1e9:.3g} GB are free; "
            "an ImplicitGraph needs no room for edges"
        )


def free_memory() -> int | None:
    """Bytes of memory that the machine has free, or None where it doesn't say."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        return None
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _rows(source: NDArray[np.int64], target: NDArray[np.int64], rows: int, n: int) -> sparse.csr_array:
    """A matrix from edges that are sorted by source and target."""
    index = np.int32 if n <= np.iinfo(np.int32).max else np.int64
    starts = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=rows))])
    return sparse.csr_array((np.ones(len(target), np.uint8), target.astype(index), starts), shape=(rows, n))


def _entries(matrix: sparse.csr_array, rows: NDArray[np.int64]) -> Edges:
    """(row, column) of the entries of `rows`, sorted."""
    lengths = (
        np.diff(matrix.indptr)[rows] if len(rows) > 1000 else matrix.indptr[rows + 1] - matrix.indptr[rows]
    )
    lengths = lengths.astype(np.int64)
    ends = np.cumsum(lengths)
    place = np.arange(ends[-1] if len(ends) else 0) + np.repeat(
        matrix.indptr[rows] - (ends - lengths), lengths
    )
    return np.repeat(rows, lengths), matrix.indices[place].astype(np.int64)
