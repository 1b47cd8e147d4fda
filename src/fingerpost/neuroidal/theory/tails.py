"""Binomial tails: the number of inputs that a neuron gets from those that fire."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from fingerpost.errors import InvalidTypeError, InvalidValueError

Floats = NDArray[np.float64]
RARE = 1e-20
"""Expected successes below which the first term, C(r, k) pᵏ, is the whole tail in float64."""


def binomial_tail(r: ArrayLike, p: ArrayLike, k: ArrayLike) -> Floats:
    """B(r, p, k) = P(Binomial(r, p) ≥ k), by the regularized incomplete beta function: right in far tails too.

    Args:
      r: Trials, 0 or more; need not be whole.
      p: Chance of each.
      k: Successes asked for; the chance is 1 if it is 0 or less.

    >>> binomial_tail(2134, 0.00512, 32).round(12)
    np.float64(1.55912e-07)
    >>> binomial_tail([10, 2], 0.5, 3).tolist()
    [0.9453125, 0.0]
    """
    r, p, k = (np.asarray(value, np.float64) for value in (r, p, k))
    inside, none = (k > 0) & (r - k + 1 > 0), k <= 0
    r, k, p = np.where(inside, r, 1.0), np.where(inside, k, 1.0), np.where(inside, p, 0.5)
    rare = r * p < RARE
    tail = special.betainc(k, r - k + 1, np.where(rare, 0.5, p))
    if rare.any():  # betainc of some versions of scipy is NaN there
        first = special.xlogy(k, p) - np.log(r + 1) - special.betaln(r - k + 1, k + 1)
        tail = np.where(rare, np.exp(first), tail)
    return np.where(inside, tail, np.where(none, 1.0, 0.0))[()]


def joint_tail(
    a: ArrayLike, b: ArrayLike, shared: ArrayLike, p: float, k: int, k_b: int | None = None
) -> Floats:
    """The chance that a neuron gets at least k inputs from a set of a neurons, and k_b from one of b that shares so many.

    Σ_c P(c) P(x ≥ k − c) P(y ≥ k_b − c) with c ~ Binomial(shared, p) inputs that count for both, and x and y those that
    count for one.

    Args:
      a: Neurons of the one set.
      b: Neurons of the other.
      shared: Neurons of both, at most a and b.
      p: Chance of an edge.
      k: Inputs asked for from the one.
      k_b: From the other; k unless given.

    >>> joint_tail(100, 100, 100, 0.1, 12) == binomial_tail(100, 0.1, 12)  # the same set twice
    np.True_
    >>> joint_tail(100, 100, 0, 0.1, 12) == binomial_tail(100, 0.1, 12) ** 2
    np.True_
    """
    k_b = k if k_b is None else k_b
    a, b, shared = (np.asarray(value, np.float64)[..., None] for value in (a, b, shared))
    common = np.arange(max(k, k_b, 0) + 1)
    at_least = binomial_tail(shared, p, common)
    chances = np.concatenate([at_least[..., :-1] - at_least[..., 1:], at_least[..., -1:]], -1)
    alone = binomial_tail(a - shared, p, k - common) * binomial_tail(b - shared, p, k_b - common)
    return (chances * alone).sum(-1)


def union_size(n: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """Expected number of neurons in either of two random items of a and b neurons, a + b − ab/n.

    >>> union_size(100, 10, 10).item()
    19.0
    """
    n, a, b = (np.asarray(value, np.float64) for value in (n, a, b))
    return a + b - a * b / n


def random_size(n: int, q: ArrayLike, nodes: int) -> tuple[Floats, Floats]:
    """Sizes of a random set of Binomial(n, q) neurons, shape (*q.shape, nodes), and their weights (Gauss and Hermite)."""
    q = np.asarray(q, np.float64)[..., None]
    places, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return np.maximum(n * q + np.sqrt(n * q * (1 - q)) * places, 0), weights / weights.sum()


def probability(n: int, degree: float) -> float:
    """The chance of an edge, p = degree / n, checked."""
    if not (n >= 1 and 0 < degree < n):
        raise InvalidValueError(f"degree must be above 0 and below n = {n}; got {degree}")
    return float(degree / n)


def check_k(k: int, degree: float, name: str = "k") -> None:
    """Raises unless 1 ≤ k ≤ degree."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise InvalidTypeError(f"{name} is a number of inputs, an integer; got {k!r}")
    if not 1 <= k <= degree:
        raise InvalidValueError(f"{name} must be from 1 to the degree {degree:g}; got {k}")


def check_steps(steps: int, k_m: int | None) -> None:
    """Raises unless a JOIN takes 1 or 2 steps, and has a k_m in one step only."""
    if steps not in (1, 2):
        raise InvalidValueError(f"steps is {steps!r}; a JOIN takes 1 or 2")
    if steps == 2 and k_m is not None:
        raise InvalidValueError("k_m is the threshold of a JOIN in one step; with steps=2 give k alone")
