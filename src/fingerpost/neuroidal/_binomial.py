"""Binomial counts by inversion of a table at a resolution of 2⁻⁶⁴, computed in integers: the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GUIDE_BITS = 10
LANE_BITS = 32
_ONE = 1 << 192


class BlockLaw:
    """How the edges of one row fall into one block: their number, and how a word is cut into positions.

    A uniform 64-bit word u draws the number #{k : ⌊2⁶⁴ F(k)⌋ ≤ u}, with F the distribution function of
    Binomial(size, p). `guide` tells where the search starts for the leading bits of u.

    A lane x of `bits` bits draws the position ⌊x·size / 2^bits⌋; it is passed over where x·size mod 2^bits is below
    `rejected` = 2^bits mod size, so that every position is alike likely (Lemire 2019,
    https://doi.org/10.1145/3230636). Where the size is a power of two, no more bits are needed and none is passed over.

    >>> law = BlockLaw(4, 0.5)
    >>> [int(t) / 2**64 for t in law.thresholds]
    [0.0625, 0.3125, 0.6875, 0.9375]
    >>> law.bits, law.lanes, law.rejected
    (2, 32, 0)
    >>> law = BlockLaw(10, 0.5)
    >>> law.bits, law.lanes, law.rejected
    (32, 2, 6)
    """

    def __init__(self, size: int, p: float) -> None:
        self.size = size
        self.bits = size.bit_length() - 1 if size > 1 and size.bit_count() == 1 else LANE_BITS
        self.lanes = 64 // self.bits
        self.rejected = (1 << self.bits) % size
        self.cut = (self.bits, self.lanes, size, self.rejected)
        self.thresholds = _thresholds(size, p)
        starts = np.arange(1 << GUIDE_BITS, dtype=np.uint64) << np.uint64(64 - GUIDE_BITS)
        self.guide = np.searchsorted(self.thresholds, starts, side="right").astype(np.int64)


def _thresholds(size: int, p: float) -> NDArray[np.uint64]:
    """⌊2⁶⁴ F(k)⌋ for k = 0, 1, … up to the last below 2⁶⁴.

    The weights spread from the mode by the ratio of neighbours, with 192 bits behind the point.
    """
    numerator, denominator = p.as_integer_ratio()
    complement = denominator - numerator
    mode = min(size, (size + 1) * numerator // denominator)
    below, above = [], []
    weight, k = _ONE, mode
    while k > 0 and (weight := weight * k * complement // ((size - k + 1) * numerator)):
        below.append(weight)
        k -= 1
    weight, k = _ONE, mode
    while k < size and (weight := weight * (size - k) * numerator // ((k + 1) * complement)):
        above.append(weight)
        k += 1
    weights = below[::-1] + [_ONE] + above
    total, running = sum(weights), 0
    found = [0] * (mode - len(below))
    for weight in weights:
        running += weight
        threshold = ((running << 64) + (total >> 96)) // total  # weights are rounded down, by less than 2⁻⁹⁶
        if threshold >= 1 << 64:
            break
        found.append(threshold)
    return np.array(found, np.uint64)
