"""Items: the sets of neurons that stand for something."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.neuroidal.graphs.base import Neurons

RECOGNISED = 0.5
"""An item is recognised when more than this share of it fires."""


class Item:
    """A set of neurons that stands for something: it is recognised when more than half of it fires.

    Items are immutable, and equal when their neurons and graphs' sizes are.

    Args:
      neurons: Integers from 0 to n − 1, any order; a neuron named twice counts once.
      n: Number of neurons of the graph that they belong to.

    Attributes:
      neurons: Sorted int64 array without repeats, read-only.

    Raises:
      InvalidTypeError: If neurons are not integers in one dimension.
      InvalidValueError: If a neuron lies outside the graph.

    >>> item = Item([5, 1, 3], n=10)
    >>> item.fraction_firing([1, 5, 9]), item.recognised([1, 5, 9])
    (0.6666666666666666, True)
    """

    __slots__ = ("n", "neurons")
    n: int
    neurons: Neurons

    def __init__(self, neurons: ArrayLike, n: int) -> None:
        object.__setattr__(self, "n", _checked_size(n))
        object.__setattr__(self, "neurons", _checked(neurons, self.n))

    @classmethod
    def random(cls, n: int, r: int, generator: np.random.Generator) -> Item:
        """An item of r neurons, each set of them alike likely.

        Args:
          n: Number of neurons of the graph.
          r: Size of the item, at most n.
          generator: Where randomness comes from.

        >>> Item.random(1000, 5, np.random.default_rng(0))
        Item([269, 307, 510, 635, 847], n=1000)
        """
        if isinstance(r, bool) or not isinstance(r, (int, np.integer)) or not 0 <= r <= n:
            raise InvalidValueError(f"r is the size of an item, an integer from 0 to n = {n}; got {r!r}")
        if not isinstance(generator, np.random.Generator):
            raise InvalidTypeError(
                f"generator is {type(generator).__name__}; expected numpy.random.default_rng(seed)"
            )
        return cls(generator.choice(n, int(r), replace=False, shuffle=False), n)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"an Item is immutable; make another instead of setting {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Item, (self.neurons, self.n)

    def __len__(self) -> int:
        return len(self.neurons)

    def __contains__(self, neuron: int) -> bool:
        place = int(np.searchsorted(self.neurons, neuron))
        return place < len(self) and int(self.neurons[place]) == neuron

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and self.n == other.n and np.array_equal(self.neurons, other.neurons)

    def __hash__(self) -> int:
        return hash((self.n, self.neurons.tobytes()))

    def __repr__(self) -> str:
        shown = ", ".join(str(neuron) for neuron in self.neurons[:6])
        more = f", … {len(self):,} neurons" if len(self) > 6 else ""
        return f"Item([{shown}{more}], n={self.n})"

    def __or__(self, other: Item) -> Item:
        """The neurons of either."""
        return Item(np.union1d(self.neurons, self._same(other).neurons), self.n)

    def __and__(self, other: Item) -> Item:
        """The neurons of both."""
        common = np.intersect1d(self.neurons, self._same(other).neurons, assume_unique=True)
        return Item(common, self.n)

    def overlap(self, other: Item) -> int:
        """How many neurons are in both; r²/n is expected of two random items of r."""
        return len(self & other)

    def fraction_firing(self, firing: ArrayLike) -> float:
        """The share of its neurons that fire; 0 for an item without neurons.

        Args:
          firing: Neurons that fire, or an Item of them.
        """
        if not len(self):
            return 0.0
        return np.isin(self.neurons, _checked(firing, self.n), assume_unique=True).mean().item()

    def recognised(self, firing: ArrayLike) -> bool:
        """Whether more than half of it fires."""
        return self.fraction_firing(firing) > RECOGNISED

    def _same(self, other: Item) -> Item:
        if not isinstance(other, Item):
            raise InvalidTypeError(f"expected an Item; got {type(other).__name__}")
        if other.n != self.n:
            raise InvalidValueError(
                f"the items belong to graphs of {self.n} and {other.n} neurons; both must be of one graph"
            )
        return other


def _checked_size(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise InvalidValueError(f"n is the number of neurons of the graph, at least 1; got {n!r}")
    return int(n)


def _checked(neurons: ArrayLike, n: int) -> Neurons:
    if isinstance(neurons, Item) and neurons.n != n:
        raise InvalidValueError(
            f"the items belong to graphs of {n} and {neurons.n} neurons; both must be of one graph"
        )
    array = np.asarray(getattr(neurons, "neurons", neurons))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidTypeError(
            f"neurons must be integers in one dimension; got {array.dtype} of shape {array.shape}"
        )
    array = np.unique(array.astype(np.int64))
    if array.size and not 0 <= array[0] <= array[-1] < n:
        outside = array[0] if array[0] < 0 else array[-1]
        raise InvalidValueError(
            f"neuron {outside} is outside a graph of {n} neurons; they are numbered 0 to {n - 1}"
        )
    array.flags.writeable = False
    return array
