"""The edges of many rows in one block with numpy alone: the same edges as the compiled kernels, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fingerpost.neuroidal._binomial import BlockLaw
from fingerpost.neuroidal._hash import STRIDE, Words, mix

Ints = NDArray[np.int64]
BATCH = 1 << 17
"""About how many edges are drawn at a time."""


def scatter(keys: Words, salt: np.uint64, law: BlockLaw, out: NDArray[np.unsignedinteger]) -> None:
    """Adds to `out`, shape (law.size,), how many of the rows have an edge to each position of a block."""
    for _, positions in _batches(keys, salt, law):
        out += np.bincount(positions, minlength=law.size).astype(out.dtype)


def edges(keys: Words, salt: np.uint64, law: BlockLaw, mask: NDArray[np.bool_] | None) -> tuple[Ints, Ints]:
    """Indices of rows and positions in a block, sorted by row and then by position; those of `mask` alone if given."""
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for row, position in _batches(keys, salt, law):
        kept = slice(None) if mask is None else mask[position]
        rows.append(row[kept])
        columns.append(position[kept])
    return np.concatenate(rows), np.concatenate(columns)


def csr_scatter(starts: Ints, columns: Ints, rows: Ints, begin: int, end: int, out: NDArray[Any]) -> None:
    """Adds to `out`, shape (end − begin,), how many of the rows of a stored matrix have an entry in each column."""
    lengths = (starts[rows + 1] - starts[rows]).astype(np.int64)
    drawn = np.cumsum(lengths)
    first = 0
    while first < len(rows):
        before = drawn[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(drawn, before + BATCH, side="right")))
        column = np.concatenate([columns[starts[i] : starts[i + 1]] for i in rows[first:last]])
        column = column[(column >= begin) & (column < end)] - begin
        out += np.bincount(column, minlength=end - begin).astype(out.dtype)
        first = last


def _batches(keys: Words, salt: np.uint64, law: BlockLaw):
    """Yields (row, position) of as many rows at a time as a batch holds."""
    blocks = mix(keys + salt)
    counts = np.searchsorted(law.thresholds, blocks, side="right")
    ends = np.cumsum(counts)
    start = 0
    while start < len(keys):
        drawn = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, drawn + BATCH, side="right")))
        row, position = _positions(blocks[start:stop], counts[start:stop], law)
        yield row + start, position
        start = stop


def _positions(blocks: Words, counts: Ints, law: BlockLaw) -> tuple[Ints, Ints]:
    """The first `counts` distinct positions of each stream, sorted by row and position.

    Most streams repeat nothing: a sort finds those that do, and only they are drawn again, with care.
    """
    shift = law.size.bit_length()
    owner, position, order = _stream(blocks, -(-counts // law.lanes), law)
    kept = order < counts[owner]
    code = np.sort((owner[kept] << shift) | position[kept])
    row, position = code >> shift, code & ((1 << shift) - 1)
    wrong = position == law.size
    wrong[1:] |= code[1:] == code[:-1]
    if not wrong.any():
        return row, position
    again = np.zeros(len(blocks), bool)
    again[row[wrong]] = True
    redrawn = np.flatnonzero(again)
    code = code[~again[row]]
    mended_row, mended = _first_distinct(blocks[redrawn], counts[redrawn], law)
    code = np.sort(np.concatenate([code, (redrawn[mended_row] << shift) | mended]))
    return code >> shift, code & ((1 << shift) - 1)


def _first_distinct(blocks: Words, counts: Ints, law: BlockLaw) -> tuple[Ints, Ints]:
    """The same for streams that repeat: more words, until each stream has enough positions that differ."""
    rows, columns = [], []
    pending = np.arange(len(blocks))
    words = -(-counts // law.lanes) + 1
    while len(pending):
        owner, position, order = _stream(blocks[pending], words, law)
        inside = position < law.size
        owner, position, order = owner[inside], position[inside], order[inside]
        code = owner * law.size + position
        by_code = np.lexsort((order, code))
        first = np.ones(len(code), bool)
        first[1:] = code[by_code[1:]] != code[by_code[:-1]]
        fresh = np.sort(by_code[first])  # streams are in their order, so an index is a place in the stream
        owner, position = owner[fresh], position[fresh]
        found = np.bincount(owner, minlength=len(pending))
        rank = np.arange(len(owner)) - np.repeat(np.cumsum(found) - found, found)
        done = found >= counts[pending]
        taken = done[owner] & (rank < counts[pending][owner])
        rows.append(pending[owner[taken]])
        columns.append(position[taken])
        pending, words = pending[~done], 2 * words[~done]
    return np.concatenate(rows), np.concatenate(columns)


def _stream(blocks: Words, words: Ints, law: BlockLaw) -> tuple[Ints, Ints, Ints]:
    """(row, position, place in the row's stream) of `words` words of each row; a lane passed over has position size."""
    owner = np.repeat(np.arange(len(blocks)), words)
    draw = np.arange(len(owner)) - np.repeat(np.cumsum(words) - words, words)
    word = mix(blocks[owner] + (draw + 1).astype(np.uint64) * np.uint64(STRIDE))
    shifts = np.arange(law.lanes, dtype=np.uint64) * np.uint64(law.bits)
    low = np.uint64((1 << law.bits) - 1)
    product = ((word[:, None] >> shifts) & low) * np.uint64(law.size)
    position = (product >> np.uint64(law.bits)).astype(np.int64)
    position[product & low < np.uint64(law.rejected)] = law.size
    order = draw[:, None] * law.lanes + np.arange(law.lanes)
    return np.repeat(owner, law.lanes), position.ravel(), order.ravel()
