"""What has to hold for a memory to work, and how memories disturb each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fingerpost._table import Table
from fingerpost.errors import InvalidValueError
from fingerpost.neuroidal.theory.sizes import size_map, solve_r
from fingerpost.neuroidal.theory.tails import (
    Floats,
    binomial_tail,
    check_k,
    check_steps,
    joint_tail,
    probability,
    union_size,
)
from fingerpost.neuroidal.theory.transfer import Circuit, checked_circuit, mistaken_share, transfer_curve

KINDS = ("A", "A and D", "D and E")
MOST_MEMORIES = 1 << 40


class Condition(NamedTuple):
    """A quantity that has to be in a range for the memory to work.

    Args:
      name: A word for it.
      statement: What has to hold.
      value: What it is.
      low: Least value, or None.
      high: Largest value, or None.
    """

    name: str
    statement: str
    value: float
    low: float | None
    high: float | None

    @property
    def holds(self) -> bool:
        """Whether it is in the range."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)


def link_probability(n: int, degree: float, r: float, k: int) -> float:
    """The chance that a neuron of B has k relays to it from A: B(n, p B(r, p, k), k) (Valiant 2005).

    >>> round(link_probability(100_000, 512, 2134, 16), 4)
    1.0
    """
    p = probability(n, degree)
    return float(binomial_tail(n, p * float(binomial_tail(r, p, k)), k))


def interference(n: int, degree: float, r: float, circuit: Circuit | Sequence[Any], kind: str) -> float:
    """Expected share of C that fires for a cue that it was not trained on, with one memory in the graph.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron.
      r: Size of items.
      circuit: Form and thresholds; see `Circuit`.
      kind: ``"A"``, one of its two items alone; ``"A and D"``, with an unrelated item; ``"D and E"``, two unrelated ones.

    >>> [round(interference(100_000, 512, 2134, ("link", 0, 16), kind), 3) for kind in ("A", "A and D", "D and E")]
    [0.088, 0.101, 0.0]
    """
    circuit, p, pair = checked_circuit(circuit), probability(n, degree), float(union_size(n, r, r))
    if kind not in KINDS:
        raise InvalidValueError(f"kind is {kind!r}; expected 'A', 'A and D' or 'D and E'")
    if kind == "A":
        return float(transfer_curve(n, degree, r, 0, circuit))
    shared = r + r * r / n * (1 - r / n) if kind == "A and D" else pair * pair / n
    return mistaken_share(n, p, pair, pair, shared, circuit)


def crowding(
    n: int, degree: float, r: float, circuit: Circuit | Sequence[Any], memories: ArrayLike, *, outside: bool = False
) -> Floats:  # fmt: skip
    """Expected share of an item that fires for two other items, with many memories in one graph.

    A neuron is in Binomial(memories, r/n) targets, each of which raised its synapses from what A and B reached. A neuron with
    D inputs gets Binomial(D, u/n) of them from u that fire, so that it is reached with chance q(D), for one memory as for
    another. After m memories a synapse from a reached neuron is raised with chance 1 − (1 − q(D))^m; averaged over D. This
    takes cues as unrelated to each other.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron.
      r: Size of items.
      circuit: Form and thresholds; see `Circuit`.
      memories: Numbers of memories in the graph, 1 or more, any shape.
      outside: Whether the neuron is any; if not it is in one of the targets.

    >>> crowding(100_000, 512, 2134, ("via-join", 29, 16), [1, 100, 1000]).round(3).tolist()
    [0.0, 0.091, 0.998]
    """
    circuit = checked_circuit(circuit)
    p, pair = probability(n, degree), float(union_size(n, r, r))
    if circuit.form == "link":
        return _crowded(n, p, r, pair, None, circuit.k_a, memories, outside)
    if circuit.form == "via-join":
        return _crowded(n, p, r, pair, circuit.k_m, circuit.k_a, memories, outside)
    joined = n * float(binomial_tail(pair, p, circuit.k_m))
    return _crowded(n, p, r, joined, circuit.k_a, circuit.k_a, memories, outside)


def link_crowding(
    n: int, degree: float, r: float, k: int, memories: ArrayLike, *, outside: bool = False
) -> Floats:
    """Expected share of an item that fires for an unrelated one, with many LINKs through relays in one graph.

    As `crowding`, with LINKs from an item to an item.

    >>> link_crowding(100_000, 512, 2134, 16, [1, 10, 100]).round(3).tolist()
    [0.0, 0.004, 0.246]
    """
    check_k(k, degree)
    return _crowded(n, probability(n, degree), r, r, k, k, memories, outside)


def _crowded(
    n: int, p: float, r: float, firing: float, k: int | None, k_a: int, memories: ArrayLike, outside: bool
) -> Floats:  # fmt: skip
    """Raised and active synapses of a neuron, when `firing` neurons reach others with k inputs, or are what is reached."""
    memories = np.asarray(memories)
    if memories.size and memories.min() < 1:
        raise InvalidValueError(f"memories are numbers of memories, at least 1; got {memories.min()}")
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    inputs = np.maximum(n * p + np.sqrt(n * p * (1 - p)) * nodes, 0)
    reached = np.full(15, firing / n) if k is None else binomial_tail(inputs, firing / n, k)
    own, tries = (0, memories) if outside else (1, memories - 1)
    found = []
    for count in np.atleast_1d(tries).ravel():
        mean = float(count) * r / n
        wide = 12 * np.sqrt(mean) + 30
        others = np.arange(int(max(0, mean - wide)), int(min(count, mean + wide)) + 1)
        raised = 1 - (1 - reached) ** (others[:, None] + own)
        active = (raised * reached) @ (weights / weights.sum())
        chances = binomial_tail(count, r / n, others) - binomial_tail(count, r / n, others + 1)
        found.append(chances @ binomial_tail(n, p * active, k_a))
    return np.reshape(found, memories.shape)


def capacity(n: int, degree: float, r: float, circuit: Circuit | Sequence[Any], limit: float = 0.5) -> int:
    """How many memories one graph takes before more than `limit` of an item fires for two unrelated others (`crowding`).

    Returns:
      0 if one memory is too many; 2⁴⁰ if there is no bound up to that.

    >>> capacity(100_000, 512, 2134, ("via-join", 29, 16)) > 100
    True
    """
    return _last(lambda m: float(crowding(n, degree, r, circuit, m)) <= limit)


def link_capacity(n: int, degree: float, r: float, k: int, limit: float = 0.5) -> int:
    """How many LINKs through relays one graph takes before more than `limit` of an item fires for an unrelated one."""
    return _last(lambda m: float(link_crowding(n, degree, r, k, m)) <= limit)


def _last(holds: Any) -> int:
    """The largest number at which it holds, if it holds up to there and not beyond; by doubling and bisection."""
    if not holds(1):
        return 0
    high = 2
    while holds(high):
        if high >= MOST_MEMORIES:
            return MOST_MEMORIES
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def conditions(n: int, degree: float, k: int, r: int | None = None, steps: int = 2) -> list[Condition]:
    """What has to hold for items of size r to be joined and linked, each with its value.

    Size and LINK are Valiant's (2005) equations, stability is Beal and Knight's (2008) complaint; the rest says in numbers
    what JOIN and LINK are defined to do: C fires for A and B and for nothing else, B for A and for nothing else.

    Args:
      n: Neurons.
      degree: Expected edges out of a neuron.
      k: Inputs that make a neuron fire.
      r: Size of items; `solve_r`'s unless given.
      steps: Of the JOIN, 1 or 2.

    >>> [(c.name, c.holds) for c in conditions(100_000, 512, 16)][:3]
    [('size', True), ('stability', False), ('one alone', True)]
    """
    p = probability(n, degree)
    check_k(k, degree)
    check_steps(steps, None)
    r = solve_r(n, degree, k, steps) if r is None else int(r)
    if not k <= r <= n:
        raise InvalidValueError(f"r is the size of items, from k = {k} to n = {n}; got {r}")

    def made(size: float) -> float:
        return float(size_map(n, degree, size, size, k, steps=steps, overlap=False))

    growth = float(np.log(made(1.01 * r) / made(0.99 * r)) / np.log(1.01 / 0.99))
    alone, other = _wrong_cues(n, p, k, r, steps)
    relays, common = float(binomial_tail(r, p, k)), float(joint_tail(r, r, r * r / n, p, k))
    pair = float(union_size(n, r, r))
    crowd = float(joint_tail(r, pair, r * pair / n, p, k))
    return [
        Condition("size", "A JOIN's item is as large as its parts.", made(r) / r, 0.9, 1.1),
        Condition("stability", "A JOIN grows by no more than its parts do, in per cent.", growth, None, 1.0),
        Condition("one alone", "Less than half of C fires for A alone.", alone, None, 0.5),
        Condition("specificity", "Less than half of C fires for A with an unrelated item.", other, None, 0.5),
        Condition("link", "Neurons of B have k relays from A.", link_probability(n, degree, r, k), 0.9, None),
        Condition("association", "Less than half of B fires for an item unrelated to A.",
                  float(binomial_tail(n, p * common, k)), None, 0.5),
        Condition("two items", "Less than half of B fires for two items that are unrelated to A.",
                  float(binomial_tail(n, p * crowd, k)), None, 0.5),
        Condition("relays", "Less than half of all neurons are relays.", relays, None, 0.5),
        Condition("overlap", "Two items share less than a tenth of their neurons.", r / n, None, 0.1),
        Condition("capacity", "So many LINKs until half of an item fires for an unrelated one; no source bounds it.",
                  float(link_capacity(n, degree, r, k)), 1, None),
    ]  # fmt: skip


def _wrong_cues(n: int, p: float, k: int, r: int, steps: int) -> tuple[float, float]:
    """Shares of a JOIN's neurons that fire for A alone, and for A with an unrelated item."""
    pair = float(union_size(n, r, r))
    if steps == 1:
        shared, formed = r + r * r / n, binomial_tail(pair, p, 2 * k)
        return (
            float(binomial_tail(r, p, 2 * k) / formed),
            float(joint_tail(pair, pair, shared, p, 2 * k) / formed),
        )
    # in two steps nothing fires after A alone; and what an unrelated item reaches is unrelated to C
    return 0.0, float(binomial_tail(r, p, k))


def condition_table(n: int, degree: float, k: int, r: int | None = None, steps: int = 2) -> Table:
    """`conditions` as a table.

    >>> print(condition_table(100_000, 512, 16, steps=1).to_csv().splitlines()[9])
    overlap,Two items share less than a tenth of their neurons.,0.02134,,0.1,True
    """
    rows = [
        [c.name, c.statement, c.value, c.low, c.high, c.holds] for c in conditions(n, degree, k, r, steps)
    ]
    heads = ["condition", "statement", "value", "at least", "at most", "holds"]
    return Table(heads, rows, title=f"n = {n:,}, d = {degree:g}, k = {k}, {steps}-step JOIN")
