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
special = lazy_import("scipy.special")
neuroidal = lazy_import("fingerpost.neuroidal")

FORMS = ("JOIN-LINK", "via JOIN", "LINK")


class Circuit(NamedTuple):
    """A form and its thresholds; a LINK has no k_m, which is 0."""

    form: str
    k_m: int
    k_a: int

    @property
    def label(self) -> str:
        """How figures and tables call it."""
        return (
            f"{self.form}, k_a = {self.k_a}"
            if self.form == "LINK"
            else f"{self.form}, k_m = {self.k_m}, k_a = {self.k_a}"
        )

    @property
    def name(self) -> str:
        """How stages and claims call it."""
        return f"{self.form.lower().replace(' ', '-')}-{self.k_m}-{self.k_a}"


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
        if circuit.form == "LINK":
            found[circuit] = np.zeros(on.n, bool)
            found[circuit][firing] = True
            continue
        if circuit.k_m not in layers:
            layers[circuit.k_m] = (inputs >= circuit.k_m, None)
        join, counts = layers[circuit.k_m]
        if circuit.form == "JOIN-LINK" and counts is None:
            counts = on.counts(np.flatnonzero(join))
            layers[circuit.k_m] = (join, counts)
        found[circuit] = join if circuit.form == "via JOIN" else counts >= circuit.k_a
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


def tail(count: Any, p: float, k: int) -> Any:
    """P(Binomial(count, p) ≥ k), for any real count."""
    count = np.asarray(count, float)
    return np.where(count <= k - 1, 0.0, special.betainc(k, np.maximum(count - k + 1, 1e-12), p))


def union(n: int, a: Any, b: Any) -> Any:
    """Expected neurons in either of two random items."""
    return a + b - np.asarray(a) * b / n


def expected_reach(n: int, degree: float, a: Any, b: Any, circuit: Circuit) -> Any:
    """Expected number of neurons from which C is reached, when a and b neurons of A and B fire."""
    p, firing = degree / n, union(n, a, b)
    if circuit.form == "LINK":
        return firing
    join = n * tail(firing, p, circuit.k_m)
    return join if circuit.form == "via JOIN" else n * tail(join, p, circuit.k_a)


def expected_transfer(n: int, degree: float, a: Any, b: Any, circuit: Circuit) -> Any:
    """Expected share of C that fires, when a and b of the neurons that it was trained on fire.

    What is reached then was reached in training, so every synapse into C from there is raised. The JOIN's size varies
    from pair to pair, n q ± √(n q (1 − q)); the share is averaged over that, since it is steep.
    """
    p, firing = degree / n, union(n, a, b)
    if circuit.form == "LINK":
        return tail(firing, p, circuit.k_a)
    q = np.asarray(tail(firing, p, circuit.k_m))
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    join = np.maximum(n * q[..., None] + np.sqrt(n * q * (1 - q))[..., None] * nodes, 0)
    reached = join if circuit.form == "via JOIN" else n * tail(join, p, circuit.k_a)
    return tail(reached, p, circuit.k_a) @ (weights / weights.sum())


def expected_false(n: int, degree: float, r: int, circuit: Circuit, kind: str) -> float:
    """Expected share of C that fires for ``"A"``, ``"A and D"`` or ``"D and E"``, D and E random items.

    Two firing sets of u neurons that share s give a neuron c + x and c + y inputs, with c ~ Binomial(s, p) and x, y ~
    Binomial(u − s, p) of their own; both are at least k with probability Σ_c P(c) P(x ≥ k − c)². Layer by layer; before
    relays, averaged over the JOIN's size as `expected_transfer` does.
    """
    p, pair = degree / n, float(union(n, r, r))
    if kind == "A":
        return float(expected_transfer(n, degree, r, 0, circuit))
    shared = r + r * r / n * (1 - r / n) if kind == "A and D" else pair * pair / n
    if circuit.form == "LINK":
        return float(tail(shared, p, circuit.k_a))
    common, whole = n * float(both(pair, pair, shared, p, circuit.k_m)), n * float(tail(pair, p, circuit.k_m))
    if circuit.form == "via JOIN":
        return float(tail(common, p, circuit.k_a))
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    sizes = whole + np.sqrt(whole * (1 - whole / n)) * nodes
    relays = n * both(sizes, sizes, common * sizes / whole, p, circuit.k_a)
    return float(tail(relays, p, circuit.k_a) @ (weights / weights.sum()))


def both(a: Any, b: Any, shared: Any, p: float, k: int) -> Any:
    """The chance that two sets of a and b neurons, which share that many, both give a neuron at least k inputs."""
    common = np.arange(k + 1)
    a, b, shared = (np.asarray(size, float)[..., None] for size in (a, b, shared))
    at_least = np.where(common == 0, 1.0, tail(shared, p, np.maximum(common, 1)))
    chances = np.concatenate([at_least[..., :-1] - at_least[..., 1:], at_least[..., -1:]], -1)
    missing = np.maximum(k - common, 1)
    alone = [np.where(common < k, tail(size - shared, p, missing), 1.0) for size in (a, b)]
    return (chances * alone[0] * alone[1]).sum(-1)


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

    p, pair = degree / n, union(n, r, r)
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    if circuit.form == "LINK":
        reached = np.full(15, float(pair) / n)
    else:
        inputs = np.maximum(degree + np.sqrt(degree * (1 - p)) * nodes, 0)
        via = circuit.form == "via JOIN"
        firing = float(pair if via else n * tail(pair, p, circuit.k_m))
        reached = tail(inputs, firing / n, circuit.k_m if via else circuit.k_a)
    memories = np.asarray(memories)
    others = np.arange(int(20 + 3 * memories.max() * r / n + 1))
    raised = 1 - (1 - reached) ** (others[:, None] + 1)
    active = n * (raised * reached) @ (weights / weights.sum())
    return binom.pmf(others, memories[..., None] - 1, r / n) @ tail(active, p, circuit.k_a)


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
    for circuit in (Circuit(form, m, a) for m in ([0] if form == "LINK" else k_m) for a in k_a):
        upper = margins(x, expected_transfer(n, degree, r * x, r * x, circuit))[1]
        if upper > 0:
            tried.append(Frontier(circuit, upper, expected_false(n, degree, r, circuit, "A and D")))
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
    p = degree / n
    thresholds = range(1, int(degree) + 1)
    worse = [max(1 - float(tail(union(n, r, r), p, k)), float(tail(r, p, k))) for k in thresholds]
    return Circuit("LINK", 0, 1 + worse.index(min(worse)))


def margins(x: Any, y: Any) -> tuple[float, float]:
    """The lower and upper noise margin of a transfer curve, 0 where there is none.

    At a point of unity gain y − x is extreme, so the margins x − y at the lower and y − x at the upper one are the
    largest values of these differences.

    >>> margins(np.array([0, 0.4, 0.6, 1]), np.array([0, 0.1, 0.9, 1]))
    (0.3, 0.3)
    """
    difference = np.asarray(y, float) - np.asarray(x, float)
    return round(max(0.0, float(-difference.min())), 12), round(max(0.0, float(difference.max())), 12)
