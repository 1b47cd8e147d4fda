"""A random graph that is never stored: any edge is drawn again, the same, when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.neuroidal._binomial import BlockLaw
from fingerpost.neuroidal._hash import ORIENTATIONS, base_key, block_salt, row_keys
from fingerpost.neuroidal._kernels import Kernels, kernels_named
from fingerpost.neuroidal.graphs.base import (
    AbstractGraph,
    Edges,
    Neurons,
    check_seed,
    check_size,
    count_type,
)

SMALLEST_BLOCK, USUAL_BLOCK, LARGEST_BLOCK = 1 << 4, 1 << 16, 1 << 21
EDGES_AT_ONCE = 1 << 22
_NOBODY = np.empty(0, np.int64)


class ImplicitGraph(AbstractGraph):
    """G(n, degree / n) with edges that are drawn again at every use: memory is that of one block.

    The columns of the adjacency matrix are cut into blocks. For each row and block a counter-based hash of
    (seed, row, block) draws the number of edges, Binomial(block size, p) by inversion, and then that many
    different positions, each set of them alike likely. So each pair is an edge with probability p, on its own: G(n, p)
    exactly, up to the hash and the table's resolution of 2⁻⁶⁴.

    Rows are the sources or the targets. Edges along rows are cheap; edges across are found by going through
    all rows that can have them:

    | call | rows are sources | rows are targets |
    |---|---|---|
    | `counts(firing, start, stop)` | edges out of `firing` into the range | all edges into the range |
    | `edges_out_of(sources, start, stop)` | edges out of `sources` into the range | all edges into the range |
    | `edges_into(targets)` | all n·degree edges, by block of targets | edges into `targets` |
    | `edges_into(targets, among)` | edges out of `among`, by block of targets | edges into `targets` |

    Args:
      n: Number of neurons, up to 2⁵³.
      degree: Expected number of edges out of a neuron, and into it; below n.
      seed: Integer of 64 bits. Graphs that differ in it, or in any other argument but kernels, are independent.
      orient: "source" or "target": what the rows are.
      kernels: "numba" or "numpy", or "auto" for numba where it is installed. Both give the same graph.
      block: Columns of a block, a power of two from 16 to 2²¹, part of the graph's definition: another block is another
        graph. If None, 2¹⁶, and more where edges are so rare that most blocks would hold none.

    Raises:
      InvalidValueError: For a degree that isn't below n, or another setting out of range.
      MissingExtraError: If kernels is "numba" and numba isn't installed.

    >>> graph = ImplicitGraph(10**10, 24_000, seed=1)
    >>> source, target = graph.edges_out_of([7_000_000_000], stop=10**6)
    >>> target
    array([359266, 422871])
    """

    def __init__(
        self,
        n: int,
        degree: float,
        seed: int = 0,
        orient: str = "source",
        kernels: str = "auto",
        block: int | None = None,
    ) -> None:
        check_size(n, degree)
        check_seed(seed)
        if orient not in ORIENTATIONS:
            raise InvalidValueError(f"orient must be 'source' or 'target'; got {orient!r}")
        self.n, self.degree, self.seed, self.orient = int(n), float(degree), int(seed), orient
        self.block = _usual_block(self.p) if block is None else block
        if isinstance(block, bool) or not isinstance(self.block, (int, np.integer)):
            raise InvalidTypeError(f"block must be an integer, a power of two; got {block!r}")
        self.block = int(self.block)
        if self.block.bit_count() != 1 or not SMALLEST_BLOCK <= self.block <= LARGEST_BLOCK:
            raise InvalidValueError(f"block must be a power of two from 16 to 2**21; got {block}")
        self.kernels = kernels
        self._prepare()

    def _prepare(self) -> None:
        self._kernels: Kernels = kernels_named(self.kernels)
        degree = int(np.float64(self.degree).view(np.uint64))
        self._base = base_key(self.seed or 0, self.orient, self.n, degree, self.block)
        self._blocks = -(-self.n // self.block)
        last = self.n - (self._blocks - 1) * self.block
        self._last = BlockLaw(last, self.p)
        self._full = self._last if last == self.block else BlockLaw(self.block, self.p)

    @property
    def tile(self) -> int:
        return min(self.n, max(4 * self.block, 1 << 20))

    @property
    def parameters(self) -> dict[str, Any]:
        """What defines the graph: ``ImplicitGraph(**parameters)`` is the same graph."""
        return {
            "n": self.n,
            "degree": self.degree,
            "seed": self.seed,
            "orient": self.orient,
            "block": self.block,
        }

    def __repr__(self) -> str:
        return f"ImplicitGraph({', '.join(f'{name}={value!r}' for name, value in self.parameters.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImplicitGraph) and self.parameters == other.parameters

    def __hash__(self) -> int:
        return hash(tuple(self.parameters.values()))

    def __reduce__(self) -> tuple[Any, ...]:
        return ImplicitGraph, (self.n, self.degree, self.seed, self.orient, self.kernels, self.block)

    def counts(self, firing: ArrayLike, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        firing = self.neurons(firing)
        start, stop = self.span(start, stop)
        out = np.zeros(stop - start, count_type(len(firing)))
        if self.orient == "source":
            self._scatter(firing, start, stop, out)
        else:
            for targets in self._chunks(start, stop):
                row, _ = self._edges(targets, 0, self.n, firing)
                out[targets - start] = np.bincount(row, minlength=len(targets))
        return out

    def edges_out_of(self, sources: ArrayLike, start: int = 0, stop: int | None = None) -> Edges:
        sources = self.neurons(sources, "sources")
        start, stop = self.span(start, stop)
        if self.orient == "source":
            row, target = self._edges(sources, start, stop, None)
            return sources[row], target
        target, source = self._across(self._chunks(start, stop), sources)
        order = np.lexsort((target, source))
        return source[order], target[order]

    def edges_into(self, targets: ArrayLike, among: ArrayLike | None = None) -> Edges:
        targets = self.neurons(targets, "targets")
        sources = None if among is None else self.neurons(among, "among")
        if self.orient == "target":
            target, source = self._across(self._cut(targets), sources)
            return source, target
        chunks = self._chunks(0, self.n) if sources is None else self._cut(sources)
        source, target = self._across(chunks, targets)
        order = np.lexsort((source, target))
        return source[order], target[order]

    def _scatter(self, rows: Neurons, start: int, stop: int, out: NDArray[Any]) -> None:
        """Adds the columns' counts of edges from `rows`, for columns start, …, stop − 1."""
        keys = row_keys(rows, self._base)
        for block in range(start // self.block, -(-stop // self.block)):
            law, first = self._law(block), block * self.block
            low, high = max(start, first), min(stop, first + law.size)
            whole = high - low == law.size
            counts = out[low - start : high - start] if whole else np.zeros(law.size, out.dtype)
            self._kernels.scatter(keys, block_salt(block), law, counts)
            if not whole:
                out[low - start : high - start] = counts[low - first : high - first]

    def _edges(self, rows: Neurons, start: int, stop: int, columns: Neurons | None) -> Edges:
        """(index of the row, column) of the edges of `rows`, sorted so; columns of the range, and of `columns` if given."""
        keys = row_keys(rows, self._base)
        found: list[Edges] = [(_NOBODY, _NOBODY)]
        for block, law, mask in self._masked_blocks(start, stop, columns):
            row, position = self._kernels.edges(keys, block_salt(block), law, mask)
            found.append((row, position + block * self.block))
        row, column = (np.concatenate(part) for part in zip(*found))
        order = np.argsort(row, kind="stable")
        return row[order], column[order]

    def _masked_blocks(
        self, start: int, stop: int, columns: Neurons | None
    ) -> Iterator[tuple[int, BlockLaw, NDArray[np.bool_] | None]]:
        """Yields (block, law, mask of the positions asked for, or None for all); blocks without any are left out."""
        blocks: Iterable[int] = range(start // self.block, -(-stop // self.block))
        if columns is not None:
            blocks = np.unique(columns // self.block).tolist()
        for block in blocks:
            law, first = self._law(block), block * self.block
            low, high = max(start, first), min(stop, first + law.size)
            if columns is None and high - low == law.size:
                yield block, law, None
                continue
            mask = np.zeros(law.size, bool)
            if columns is None:
                mask[low - first : high - first] = True
            else:
                begin, end = np.searchsorted(columns, (low, high))
                mask[columns[begin:end] - first] = True
            if mask.any():
                yield block, law, mask

    def _across(self, chunks: Iterator[Neurons], columns: Neurons | None) -> Edges:
        """(row, column) of the edges of the rows in `chunks` to `columns`, sorted so."""
        found: list[Edges] = [(_NOBODY, _NOBODY)]
        for rows in chunks:
            row, column = self._edges(rows, 0, self.n, columns)
            found.append((rows[row], column))
        row, column = (np.concatenate(part) for part in zip(*found))
        return row, column

    def _law(self, block: int) -> BlockLaw:
        return self._last if block == self._blocks - 1 else self._full

    def _rows_at_once(self) -> int:
        return max(1, int(EDGES_AT_ONCE / self.degree))

    def _chunks(self, start: int, stop: int) -> Iterator[Neurons]:
        """Rows start, …, stop − 1, as many at a time as have a few million edges."""
        step = self._rows_at_once()
        for low in range(start, stop, step):
            yield np.arange(low, min(low + step, stop))

    def _cut(self, rows: Neurons) -> Iterator[Neurons]:
        step = self._rows_at_once()
        for low in range(0, len(rows), step):
            yield rows[low : low + step]


def _usual_block(p: float) -> int:
    """2¹⁶, doubled while a row has fewer than four edges in it: below that, drawing their number costs more than they do."""
    block = USUAL_BLOCK
    while block < LARGEST_BLOCK and p * block < 4:
        block *= 2
    return block
