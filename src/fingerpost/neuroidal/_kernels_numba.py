"""The edges of many rows in one block, compiled."""

from __future__ import annotations

import os
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fingerpost.neuroidal import _hash
from fingerpost.neuroidal._binomial import GUIDE_BITS, BlockLaw
from fingerpost.neuroidal._hash import Words

# Compiled code goes to disk only where the user has named a folder for it: never beside the sources.
_compiled = numba.njit(nogil=True, cache="NUMBA_CACHE_DIR" in os.environ)
_inline = numba.njit(nogil=True, inline="always")

STRIDE = np.uint64(_hash.STRIDE)
_FIRST, _SECOND = np.uint64(_hash.FIRST), np.uint64(_hash.SECOND)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)
_GUIDE = np.uint64(64 - GUIDE_BITS)
STAMPS = 65_535
"""Rows that share one array of stamps: a stamp and a count are 16 bits each."""
_NO_MASK = np.empty(0, np.bool_)


def scatter(keys: Words, salt: np.uint64, law: BlockLaw, out: NDArray[Any]) -> None:
    """Adds to `out`, shape (law.size,), how many of the rows have an edge to each position of a block."""
    cells = np.zeros(law.size, np.uint32)
    _scatter(keys, salt, law.thresholds, law.guide, *law.cut, cells, out)


def edges(
    keys: Words, salt: np.uint64, law: BlockLaw, mask: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of rows and positions in a block, sorted by row and then by position; those of `mask` alone if given."""
    most = _total(keys, salt, law.thresholds, law.guide)
    row, position = np.empty(most, np.int64), np.empty(most, np.int64)
    stamps = np.zeros(law.size, np.uint32)
    some = _NO_MASK if mask is None else mask
    kept = _edges(keys, salt, law.thresholds, law.guide, *law.cut, some, stamps, row, position)
    return row[:kept], position[:kept]


@_inline
def _mix(word):
    word = (word ^ (word >> _30)) * _FIRST
    word = (word ^ (word >> _27)) * _SECOND
    return word ^ (word >> _31)


@_inline
def _number(word, thresholds, guide):
    k = guide[word >> _GUIDE]
    while k < thresholds.size and thresholds[k] <= word:
        k += 1
    return k


@_compiled
def _total(keys, salt, thresholds, guide):
    total = 0
    for i in range(keys.size):
        total += _number(_mix(keys[i] + salt), thresholds, guide)
    return total


@_compiled
def _scatter(keys, salt, thresholds, guide, bits, lanes, size, rejected, cells, out):
    """A cell holds the last row that has an edge there, and how many have."""
    shift, low = np.uint64(bits), np.uint64((1 << bits) - 1)
    width, barred = np.uint64(size), np.uint64(rejected)
    for first in range(0, keys.size, STAMPS):
        for i in range(first, min(first + STAMPS, keys.size)):
            stamp = np.uint32(i - first + 1)
            state = _mix(keys[i] + salt)
            left = _number(state, thresholds, guide)
            while left > 0:
                state += STRIDE
                word = _mix(state)
                for _ in range(lanes):
                    product = (word & low) * width
                    word >>= shift
                    position = product >> shift
                    cell = cells[position]
                    if product & low >= barred and cell >> np.uint32(16) != stamp:
                        cells[position] = (stamp << np.uint32(16)) | (
                            (cell & np.uint32(0xFFFF)) + np.uint32(1)
                        )
                        left -= 1
                        if left == 0:
                            break
        for j in range(size):
            out[j] += cells[j] & np.uint32(0xFFFF)
            cells[j] = 0


@_compiled
def _edges(keys, salt, thresholds, guide, bits, lanes, size, rejected, mask, stamps, rows, positions):
    shift, low = np.uint64(bits), np.uint64((1 << bits) - 1)
    width, barred = np.uint64(size), np.uint64(rejected)
    kept = 0
    for i in range(keys.size):
        stamp = np.uint32(i + 1)
        begin = kept
        state = _mix(keys[i] + salt)
        left = _number(state, thresholds, guide)
        while left > 0:
            state += STRIDE
            word = _mix(state)
            for _ in range(lanes):
                product = (word & low) * width
                word >>= shift
                position = product >> shift
                if product & low >= barred and stamps[position] != stamp:
                    stamps[position] = stamp
                    if mask.size == 0 or mask[position]:
                        rows[kept] = i
                        positions[kept] = position
                        kept += 1
                    left -= 1
                    if left == 0:
                        break
        positions[begin:kept].sort()
    return kept


@_compiled
def csr_scatter(starts, columns, rows, begin, end, out):
    """Adds to `out`, shape (end − begin,), how many of the rows of a stored matrix have an entry in each column."""
    if begin == 0 and end == starts.size - 1:
        for i in range(rows.size):
            for j in range(starts[rows[i]], starts[rows[i] + 1]):
                out[columns[j]] += 1
        return
    for i in range(rows.size):
        for j in range(starts[rows[i]], starts[rows[i] + 1]):
            if begin <= columns[j] < end:
                out[columns[j] - begin] += 1
