"""The counter-based hash that edges are drawn from: a word for every (seed, row, block, draw), with no state.

`mix` is the finaliser of SplitMix64 (Steele, Lea & Flood 2014, https://doi.org/10.1145/2660193.2660195, with the
constants of Stafford's variant 13). With all arithmetic modulo 2⁶⁴,

    base         mix(x + STRIDE + mix(… mix(seed + o·STRIDE)))    o = 1 or 2: rows are sources or targets;
                                                  x runs through n, the degree's 64 bits and the block size
    row key      K_i  = mix(base + i·STRIDE)
    block key    U_ib = mix(K_i + b·JUMP)         the word that draws the number of edges
    word t ≥ 1   mix(U_ib + t·STRIDE)             the words that draw their positions

Rows of one seed have different keys, since i ↦ i·STRIDE is one to one. Two (row, block) pairs share a
key with probability 2⁻⁶⁴.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

STRIDE = 0x9E3779B97F4A7C15
JUMP = 0xD1B54A32D192ED03
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
WORD = (1 << 64) - 1
ORIENTATIONS = {"source": 1, "target": 2}

Words = NDArray[np.uint64]


def mix(words: Words) -> Words:
    """SplitMix64's finaliser of each word, uint64 of any shape."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(FIRST)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(SECOND)
    return words ^ (words >> np.uint64(31))


def base_key(seed: int, orient: str, *parameters: int) -> int:
    """The key of a whole graph: another one wherever a parameter differs."""
    key = seed
    for word in (ORIENTATIONS[orient] * STRIDE, *(word + STRIDE for word in parameters)):
        key = int(mix(np.array([(key + word) & WORD], np.uint64))[0])
    return key


def row_keys(rows: NDArray[np.int64], base: int) -> Words:
    """K_i of each row."""
    return mix(rows.astype(np.uint64) * np.uint64(STRIDE) + np.uint64(base))


def block_salt(block: int) -> np.uint64:
    """b·JUMP modulo 2⁶⁴."""
    return np.uint64((block * JUMP) & WORD)
