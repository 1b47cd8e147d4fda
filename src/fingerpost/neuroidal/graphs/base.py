"""What every graph offers: how many inputs each neuron gets from a firing set, and edges of few neurons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fingerpost.errors import InvalidTypeError, InvalidValueError

Neurons = NDArray[np.int64]
Edges = tuple[Neurons, Neurons]
MOST_NEURONS = 1 << 53


class AbstractGraph(ABC):
    """A directed graph on n neurons, for memory in the manner of Valiant (2005).

    In G(n, p) each of the n² ordered pairs is an edge with probability p = degree / n, each on its own. A pair
    (i, i) counts as well: a neuron may be its own input. So the number of inputs that any neuron, firing
    or not, gets from r firing neurons is Binomial(r, p) exactly.
    """

    n: int
    """Number of neurons."""
    degree: float
    """Expected number d = p n of edges out of a neuron, and into it."""
    seed: int | None
    """What the graph was drawn from, if it was."""

    @property
    def p(self) -> float:
        """Probability of an edge."""
        return self.degree / self.n

    @property
    def tile(self) -> int:
        """How many targets `fire` counts at a time unless it is told."""
        return min(self.n, 1 << 20)

    @abstractmethod
    def counts(self, firing: ArrayLike, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Number of inputs that each neuron of start, …, stop − 1 gets from the neurons that fire.

        Args:
          firing: The neurons that fire, any order; a neuron named twice fires once.
          start: First target.
          stop: One past the last target; n if None.

        Returns:
          uint16, shape (stop − start,); uint32 where more than 65,535 neurons fire.

        Raises:
          InvalidValueError: For a neuron or a range outside the graph.
        """

    @abstractmethod
    def edges_out_of(self, sources: ArrayLike, start: int = 0, stop: int | None = None) -> Edges:
        """Edges from `sources` to the neurons of start, …, stop − 1.

        Returns:
          (source, target), int64 each, sorted by source and then by target.

        Raises:
          InvalidValueError: For a neuron or a range outside the graph.
        """

    @abstractmethod
    def edges_into(self, targets: ArrayLike, among: ArrayLike | None = None) -> Edges:
        """Edges into `targets` from every neuron, or from those of `among` only.

        Returns:
          (source, target), int64 each, sorted by target and then by source.

        Raises:
          InvalidValueError: For a neuron outside the graph.
        """

    def neurons(self, given: ArrayLike, name: str = "firing") -> Neurons:
        """The neurons as a sorted int64 array without repeats.

        Args:
          given: Integers, or an object with such an array as its `neurons`.
          name: What an error calls them.

        Raises:
          InvalidTypeError: If they aren't integers.
          InvalidValueError: If one lies outside the graph.
        """
        size = getattr(given, "n", self.n)
        if size != self.n:
            raise InvalidValueError(
                f"{name} is an item of a graph of {size} neurons; this graph has {self.n}"
            )
        array = np.asarray(getattr(given, "neurons", given))
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InvalidTypeError(
                f"{name} must be a list of neurons, integers in one dimension; "
                f"got {array.dtype} of shape {array.shape}"
            )
        array = array.astype(np.int64, copy=False)
        if array.size and not (np.diff(array) > 0).all():
            array = np.unique(array)
        if array.size and not 0 <= array[0] <= array[-1] < self.n:
            outside = array[0] if array[0] < 0 else array[-1]
            raise InvalidValueError(
                f"{name} has neuron {outside}, outside a graph of {self.n} neurons; they are numbered 0 to {self.n - 1}"
            )
        return array

    def span(self, start: int, stop: int | None) -> tuple[int, int]:
        """The range of targets, checked."""
        stop = self.n if stop is None else stop
        if not 0 <= start <= stop <= self.n:
            raise InvalidValueError(
                f"targets {start} to {stop} are no range of a graph of {self.n} neurons; "
                "give 0 ≤ start ≤ stop ≤ n"
            )
        return int(start), int(stop)


def check_size(n: int, degree: float) -> None:
    """Raises InvalidValueError unless G(n, degree / n) is a graph that can be drawn."""
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise InvalidTypeError(f"n is the number of neurons, an integer; got {n!r}")
    if not 1 <= n <= MOST_NEURONS:
        raise InvalidValueError(f"n must be between 1 and 2**53; got {n}")
    if isinstance(degree, bool) or not isinstance(degree, (int, float, np.integer, np.floating)):
        raise InvalidTypeError(
            f"degree is the expected number of edges out of a neuron, a number; got {degree!r}"
        )
    if not 0 < degree < n:
        raise InvalidValueError(
            f"degree is the expected number of edges out of a neuron, above 0 and below n = {n}; got {degree}"
        )


def check_seed(seed: int) -> None:
    """Raises InvalidValueError unless the seed is an integer of 64 bits."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise InvalidTypeError(f"seed must be an integer; got {seed!r}")
    if not 0 <= seed < 1 << 64:
        raise InvalidValueError(f"seed must be between 0 and 2**64 - 1; got {seed}")


def count_type(firing: int) -> type[np.unsignedinteger]:
    """The type that holds the number of inputs from `firing` neurons."""
    return np.uint16 if firing <= np.iinfo(np.uint16).max else np.uint32
