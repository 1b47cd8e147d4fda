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
from typing import TYPE_CHECKING, Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost.lab import derive_seed

if TYPE_CHECKING:
    from fingerpost.experiments.join_link_composition import Config as Composition
    from fingerpost.experiments.transfer_curves import Config as Curves

np = lazy_import("numpy")
neuroidal = lazy_import("fingerpost.neuroidal")
theory = lazy_import("fingerpost.neuroidal.theory")

FORMS = {"join-link": "JOIN-LINK", "via-join": "via JOIN", "link": "LINK"}
"""Forms, as the library's theory has them, and their names."""
ADEQUATE = 0.05
"""An upper margin below this is called too small."""


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
    """A random item of r neurons, from the seed alone."""
    return neuroidal.Item.random(n, r, np.random.default_rng(derive_seed(*seed)))


def part(neurons: Any, fraction: float, *seed: int | str) -> Any:
    """A random part of an item; parts of one seed are nested."""
    order = np.random.default_rng(derive_seed(*seed)).permutation(len(neurons))
    return np.sort(neurons[order[: round(fraction * len(neurons))]])


def settings(config: Composition | Curves) -> list[Circuit]:
    """Every circuit that is measured: both forms of JOIN-LINK at all thresholds, and the best LINK in one step."""
    lowered = [
        Circuit(form, 2 * config.k - by, config.k - less)
        for form in ("join-link", "via-join")
        for less in config.lowered_k_a
        for by in config.lowered
    ]
    return [*lowered, best_direct(config.n, config.degree, config.r)]


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


def margins(n: int, degree: float, r: int, circuit: Circuit, x: Any) -> Any:
    """Noise margins when the same shares x of A and of B fire."""
    return theory.noise_margin(x, theory.transfer_curve(n, degree, r * x, r * x, circuit))


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
        upper = margins(n, degree, r, circuit, x).upper
        if upper > 0:
            tried.append(Frontier(circuit, upper, theory.interference(n, degree, r, circuit, "A and D")))
    best: list[Frontier] = []
    for one in sorted(tried, key=lambda found: (found.false, -found.upper)):
        if not best or one.upper > best[-1].upper:
            best.append(one)
    return best


def crossing(memories: Any, shares: Any, limit: float) -> float:
    """The number of memories at which a share first passes a limit, on a logarithmic scale between two that were looked at.

    >>> round(crossing(np.array([1, 10, 100]), np.array([0.0, 0.0, 0.02]), 0.01), 3)
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
