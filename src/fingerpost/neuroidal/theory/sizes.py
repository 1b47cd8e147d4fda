"""How large a JOIN's item is, and the size at which it is as large as its parts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from fingerpost._table import Table
from fingerpost.errors import InvalidValueError
from fingerpost.neuroidal.theory.tails import (
    Floats,
    binomial_tail,
    check_k,
    check_steps,
    joint_tail,
    probability,
    union_size,
)

PRINTED = {
    (100_000, 512, 16, 2): 2338,
    (100_000, 512, 16, 1): 2134,
    (1_000_000, 8192, 16, 2): 1165,
    (1_000_000, 8192, 16, 1): 1065,
    (1_000_000, 8192, 64, 2): 6491,
    (1_000_000, 8192, 64, 1): 6219,
}
"""Valiant's (2005) item sizes r by (n, d, k, steps), as far as they are known here: six cells of his tables 1 and 2."""


def size_map(
    n: int, degree: float, a: ArrayLike, b: ArrayLike, k: int, *, steps: int = 1, k_m: int | None = None,
    overlap: bool = True,
) -> Floats:  # fmt: skip
    """Expected size of the item that a JOIN makes of two random items of a and b neurons.

    One step: n B(a + b − ab/n, p, k_m). Two steps: n times the chance of k inputs from each (`joint_tail`); Valiant (2005)
    takes the two as independent, n B(a, p, k) B(b, p, k), which ``overlap=False`` gives.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron, d.
      a: Sizes of the one item.
      b: Sizes of the other.
      k: Threshold k_a.
      steps: 1 or 2.
      k_m: Threshold of one step; 2k unless given.
      overlap: Whether inputs from neurons that are in both items count, in two steps.

    >>> r = 2134 * np.array([0.9, 0.95, 1.0, 1.05, 1.1])
    >>> (size_map(100_000, 512, r, r, 16) / 2134).round(2).tolist()
    [0.26, 0.53, 1.0, 1.74, 2.84]
    """
    p = probability(n, degree)
    check_steps(steps, k_m)
    if steps == 1:
        return n * binomial_tail(union_size(n, a, b), p, 2 * k if k_m is None else k_m)
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if overlap:
        return n * joint_tail(a, b, a * b / n, p, k)
    return n * binomial_tail(a, p, k) * binomial_tail(b, p, k)


def solve_r(n: int, degree: float, k: int, steps: int = 2) -> int:
    """The size r of items at which a JOIN makes items of size r: Valiant's (2005) equations.

    Two steps: n B(r, p, k)² = r. One step: n B(2r − r', p, 2k) = r with r' = round(r²/n). Below r a JOIN's item is smaller
    than its parts, above it larger: no such size is stable.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron, d.
      k: Inputs that make a neuron fire.
      steps: 1 or 2.

    Returns:
      The whole number at which the two sides are nearest to each other; where there are several crossings, one at which
      JOINs begin to grow.

    Raises:
      InvalidValueError: If no r from k to n/2 solves it.

    >>> [solve_r(100_000, 512, 16, steps) for steps in (2, 1)]
    [2338, 2134]
    """
    p = probability(n, degree)
    check_steps(steps, None)
    check_k(k, degree)

    def excess(r: int) -> float:
        if steps == 2:
            return n * float(binomial_tail(r, p, k)) ** 2 - r
        return n * float(binomial_tail(2 * r - round(r * r / n), p, 2 * k)) - r

    low, high = k, max(k + 1, n // 2)
    if excess(high) < 0:
        raise InvalidValueError(
            f"no size of items solves the equation for n = {n}, degree = {degree:g}, k = {k}: JOINs die out at every size; "
            "lower k or raise the degree"
        )
    if excess(low) > 0:
        raise InvalidValueError(
            f"no size of items from k on solves the equation for n = {n}, degree = {degree:g}, k = {k}: JOINs grow at every "
            "size; raise k or lower the degree"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return low if abs(excess(low)) < abs(excess(high)) else high


def size_table(ns: Iterable[int], degrees: Iterable[float], ks: Iterable[int]) -> Table:
    """Item sizes for a grid of n, d and k, by `solve_r`, beside the ones of Valiant's that are known.

    Combinations without a solution have no r. Those with a size from `PRINTED` show the difference from it; the rest of
    Valiant's tables is not at hand and can't be compared.

    >>> print(size_table([100_000], [512], [16, 32]).to_csv())
    n,d,k,"r, two steps","r, one step",printed,differences
    100000,512,16,2338,2134,2338 / 2134,0 / 0
    100000,512,32,5420,5170,–,–
    <BLANKLINE>
    """
    rows = []
    ks, degrees = list(ks), list(degrees)
    for n in ns:
        for degree in (d for d in degrees if d < n):
            for k in (k for k in ks if k <= degree):
                found = [_size_or_none(n, degree, k, steps) for steps in (2, 1)]
                printed = [PRINTED.get((n, int(degree), k, steps)) for steps in (2, 1)]
                off = [None if None in pair else pair[0] - pair[1] for pair in zip(found, printed)]  # type: ignore
                rows.append([n, degree, k, *found, _pair(printed), _pair(off)])
    heads = ["n", "d", "k", "r, two steps", "r, one step", "printed", "differences"]
    caption = "Two steps: n B(r, p, k)² = r. One step: n B(2r − r²/n, p, 2k) = r."
    return Table(heads, rows, title="Sizes that a JOIN keeps", caption=caption)


def _size_or_none(n: int, degree: float, k: int, steps: int) -> int | None:
    try:
        return solve_r(n, degree, k, steps)
    except InvalidValueError:
        return None


def _pair(values: list[int | None]) -> str:
    return "–" if None in values else " / ".join(str(value) for value in values)
