"""Circuits that let C fire for A and B together: three ways to reach C's raised synapses, on graphs and in theory.

Each sends the firing of A and B through layers of thresholds to a set of neurons. Training raises the synapses
from that set to C, and a neuron of C fires if enough of its raised synapses are reached again.

    JOIN-LINK   A, B → (k_m) neurons of the JOIN → (k_a) relays → (k_a, raised) C
    via JOIN    A, B → (k_m) neurons of the JOIN → (k_a, raised) C
    LINK        A, B → (k_a, raised) C

The first is the source's composition to the letter. The second takes the JOIN's neurons for the relays of the LINK.
The third has one step and no JOIN.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost.lab import derive_seed

np = lazy_import("numpy")
neuroidal = lazy_import("fingerpost.neuroidal")
theory = lazy_import("fingerpost.neuroidal.theory")

FORMS = {"join-link": "JOIN-LINK", "via-join": "via JOIN", "link": "LINK"}
"""Forms, as the library's theory has them, and their names."""


class Circuit(NamedTuple):
    """A form and its thresholds, as `fingerpost.neuroidal.theory` takes them; a LINK has no k_m, which is 0."""

    form: str
    k_m: int
    k_a: int

    @property
    def label(self) -> str:
        """How figures and tables call it."""
        join = "" if self.form == "link" else f"k_m = {self.k_m}, "
        return f"{FORMS[self.form]}, {join}k_a = {self.k_a}"

    @property
    def name(self) -> str:
        """How stages and claims call it."""
        return f"{self.form}-{self.k_m}-{self.k_a}"


def graph(n: int, degree: int, *seed: int | str) -> Any:
    """A graph whose edges out of few neurons are cheap."""
    return neuroidal.ImplicitGraph(n, degree, seed=derive_seed(*seed))


def projection(n: int, degree: int, *seed: int | str) -> Any:
    """Synapses into C, as a graph of its own whose edges into few neurons are cheap: C is random to either."""
    return neuroidal.ImplicitGraph(n, degree, seed=derive_seed(*seed, "projection"), orient="target")


def item(n: int, r: int, *seed: int | str) -> Any:
    """A random item's neurons, from the seed alone."""
    return neuroidal.Item.random(n, r, np.random.default_rng(derive_seed(*seed))).neurons


def part(neurons: Any, fraction: float, *seed: int | str) -> Any:
    """A random part of an item; parts of one seed are nested."""
    order = np.random.default_rng(derive_seed(*seed)).permutation(len(neurons))
    return np.sort(neurons[order[: round(fraction * len(neurons))]])


def reach(on: Any, firing: Any, circuits: Iterable[Circuit]) -> dict[Circuit, Any]:
    """The neurons from which each circuit reaches C, as masks (n,), when `firing` fires. Layers are shared."""
    inputs = on.counts(firing)
    found: dict[Circuit, Any] = {}
    layers: dict[int, tuple[Any, Any]] = {}
    for circuit in circuits:
        if circuit.form == "link":
            found[circuit] = np.zeros(on.n, bool)
            found[circuit][firing] = True
            continue
        if circuit.k_m not in layers:
            layers[circuit.k_m] = (inputs >= circuit.k_m, None)
        join, counts = layers[circuit.k_m]
        if circuit.form == "join-link" and counts is None:
            counts = on.counts(np.flatnonzero(join))
            layers[circuit.k_m] = (join, counts)
        found[circuit] = join if circuit.form == "via-join" else counts >= circuit.k_a
    return found


class Synapses:
    """All synapses into an item, of which a memory raises those that its training reaches.

    Args:
      into: The graph they belong to.
      target: The item's neurons, sorted.
    """

    def __init__(self, into: Any, target: Any) -> None:
        self.target = target
        self.source, to = into.edges_into(target)
        self.place = np.searchsorted(target, to)

    def inputs(self, trained: Any, reached: Any) -> Any:
        """Raised synapses that are reached, for each neuron of the item; both are masks (n,)."""
        active = (trained & reached)[self.source]
        return np.bincount(self.place[active], minlength=len(self.target))

    def fired(self, trained: Any, reached: Any, k: int) -> Any:
        """The item's neurons that fire."""
        return self.target[self.inputs(trained, reached) >= k]


# Theory.


def expected_crowded(n: int, degree: float, r: int, circuit: Circuit, memories: Any) -> Any:
    """Expected share of C that fires for two other items, with that many memories in one graph.

    A neuron of C is in Binomial(memories − 1, r/n) others, each of which raised its synapses from what it reached.
    A neuron with D inputs gets Binomial(D, u/n) of them from u firing neurons, and is reached with probability q(D), by
    one memory as by another. After m others a synapse from a reached neuron is raised with probability
    1 − (1 − q(D))^(m + 1); averaged over D.

    Args:
      memories: Numbers of memories, any shape.
    """
    from scipy.stats import binom

    p, pair = degree / n, theory.union_size(n, r, r)
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    if circuit.form == "link":
        reached = np.full(15, float(pair) / n)
    else:
        inputs = np.maximum(degree + np.sqrt(degree * (1 - p)) * nodes, 0)
        via = circuit.form == "via-join"
        firing = float(pair if via else n * theory.binomial_tail(pair, p, circuit.k_m))
        reached = theory.binomial_tail(inputs, firing / n, circuit.k_m if via else circuit.k_a)
    memories = np.asarray(memories)
    others = np.arange(int(20 + 3 * memories.max() * r / n + 1))
    raised = 1 - (1 - reached) ** (others[:, None] + 1)
    active = n * (raised * reached) @ (weights / weights.sum())
    return binom.pmf(others, memories[..., None] - 1, r / n) @ theory.binomial_tail(active, p, circuit.k_a)


class Frontier(NamedTuple):
    """A circuit in theory.

    Args:
      circuit: The circuit.
      upper: Its upper noise margin, both inputs alike.
      false: Share of C that fires for A and an unrelated item.
    """

    circuit: Circuit
    upper: float
    false: float


def frontier(
    n: int, degree: float, r: int, form: str, k_m: Iterable[int], k_a: Iterable[int]
) -> list[Frontier]:
    """The circuits of a form, over all thresholds given, that no other beats in margin and false firing at once."""
    x = np.linspace(0.5, 1, 101)
    tried = []
    for circuit in (Circuit(form, m, a) for m in ([0] if form == "link" else k_m) for a in k_a):
        upper = theory.noise_margin(x, theory.transfer_curve(n, degree, r * x, r * x, circuit)).upper
        if upper > 0:
            tried.append(Frontier(circuit, upper, theory.interference(n, degree, r, circuit, "A and D")))
    best: list[Frontier] = []
    for one in sorted(tried, key=lambda found: (found.false, -found.upper)):
        if not best or one.upper > best[-1].upper:
            best.append(one)
    return best


def capacity(memories: Any, shares: Any, limit: float) -> float:
    """The number of memories at which a share first passes a limit, on a logarithmic scale between two that were looked at.

    >>> round(capacity(np.array([1, 10, 100]), np.array([0.0, 0.0, 0.02]), 0.01), 3)
    31.623
    """
    over = np.flatnonzero(np.asarray(shares) > limit)
    if not len(over):
        return float("inf")
    place = int(over[0])
    if place == 0:
        return float(memories[0])
    low, high = shares[place - 1], shares[place]
    ends = np.log(np.asarray(memories, float)[place - 1 : place + 1])
    return float(np.exp(ends[0] + (limit - low) / (high - low) * (ends[1] - ends[0])))


def best_direct(n: int, degree: float, r: int) -> Circuit:
    """A LINK whose threshold makes the worse of two shares smallest, by theory: C missed for A and B, C fired for A alone."""
    thresholds = np.arange(1, int(degree) + 1)
    missed = 1 - theory.binomial_tail(theory.union_size(n, r, r), degree / n, thresholds)
    worse = np.maximum(missed, theory.binomial_tail(r, degree / n, thresholds))
    return Circuit("link", 0, int(thresholds[worse.argmin()]))
