"""LINK and JOIN-LINK: synapses into an item are raised, so that it fires when others do."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.neuroidal.fire import check_threshold, fire, is_list
from fingerpost.neuroidal.graphs.base import AbstractGraph, Edges, Neurons
from fingerpost.neuroidal.item import Item
from fingerpost.neuroidal.join import check_item, join


@dataclass(frozen=True, eq=False)
class Link:
    """An association: when enough of what it was trained on fires, its target does.

    Synapses into the target have weight 0 until a LINK raises them to 1/k. Those from the relays that fired in training into
    the target are raised, and they alone are kept.

    Attributes:
      graph: Where relays are reached.
      projection: Where synapses into the target lie.
      target: The item that is fired.
      trained: Neurons whose synapses into the target are raised, sorted: the relays, or the source itself without relays.
      k: Inputs that make a relay or a neuron of the target fire.
      relay: Whether relays stand between.
      raised: Raised synapses (source, target), sorted by target; None if they are drawn again whenever they are needed.
    """

    graph: AbstractGraph
    projection: AbstractGraph
    target: Item
    trained: Neurons
    k: int
    relay: bool
    raised: Edges | None

    def __repr__(self) -> str:
        kept = "drawn again" if self.raised is None else f"{len(self.raised[0]):,} synapses raised"
        return f"Link(to {len(self.target):,} neurons from {len(self.trained):,}, k={self.k}, {kept})"

    def relays(self, firing: Any, k: int | None = None, **options: Any) -> Any:
        """The trained neurons that fire: those with at least k inputs from `firing`, or `firing` itself without relays.

        A list of such for a list of firing sets.
        """
        many = is_list(firing)
        cues = list(firing) if many else [firing]
        if self.relay:
            reached = fire(self.graph, cues, self.k if k is None else k, **options) if cues else []
        else:
            reached = [self.graph.neurons(cue) for cue in cues]
        found = [np.intersect1d(neurons, self.trained, assume_unique=True) for neurons in reached]
        return found if many else found[0]

    def fire(self, firing: Any, *, k: int | None = None, k_relay: int | None = None, **options: Any) -> Any:
        """The neurons of the target that fire when `firing` does.

        Args:
          firing: Neurons, or an Item; or a list of such, for many at once.
          k: Threshold of the target at recall; that of training unless given.
          k_relay: Threshold of relays at recall.
          **options: executor, progress and tile of `fire`, for the relays.

        Returns:
          A part of the target, as an Item; a list of them for a list.

        Raises:
          InvalidValueError: For a threshold outside 1 … degree, or a neuron outside the graph.
        """
        many, threshold = is_list(firing), self.k if k is None else k
        check_threshold(threshold, self.graph)
        active = self.relays(list(firing) if many else [firing], k_relay, **options)
        found = [self._fired(neurons, threshold) for neurons in active]
        return found if many else found[0]

    def _fired(self, active: Neurons, threshold: int) -> Item:
        """The target's neurons with enough raised synapses from trained neurons that fire."""
        source, target = self._raised(active)
        heard = target[np.isin(source, active)] if self.raised is not None else target
        places = np.searchsorted(self.target.neurons, heard)
        inputs = np.bincount(places, minlength=len(self.target))
        return Item(self.target.neurons[inputs >= threshold], self.graph.n)

    def synapses(self) -> Edges:
        """The raised synapses (source, target), kept or drawn again, sorted by target and then by source."""
        return self._raised(self.trained)

    def _raised(self, among: Neurons) -> Edges:
        if self.raised is not None:
            return self.raised
        return self.projection.edges_into(self.target.neurons, among)


@dataclass(frozen=True, eq=False)
class JoinLink:
    """A memory of A and B together: a JOIN whose neurons are linked to a target of the right size.

    Attributes:
      link: From the neurons of the JOIN to the target.
      k_m: Inputs from A ∪ B that make a neuron of the JOIN fire.
    """

    link: Link
    k_m: int

    @property
    def target(self) -> Item:
        """The item that fires when A and B do."""
        return self.link.target

    def fire(self, firing: Any, *, k_m: int | None = None, k_a: int | None = None, **options: Any) -> Any:
        """The neurons of the target that fire when `firing` does.

        Args:
          firing: Neurons, or an Item: parts of A and B together; or a list of such, for many at once.
          k_m: Threshold of the JOIN at recall; that of training unless given.
          k_a: Threshold of relays and target at recall; that of training unless given.
          **options: executor, progress and tile of `fire`.

        Returns:
          A part of the target, as an Item; a list of them for a list.
        """
        joined = fire(self.link.graph, firing, self.k_m if k_m is None else k_m, **options)
        return self.link.fire(joined, k=k_a, k_relay=k_a, **options)


@overload
def link(
    graph: AbstractGraph, source: Item, target: Item, k: int, *, relay: bool = ...,
    projection: AbstractGraph | None = ..., stored: bool = ..., executor: Executor | None = ...,
    progress: bool = ..., tile: int | None = ...,
) -> Link: ...  # fmt: skip
@overload
def link(
    graph: AbstractGraph, source: Sequence[Item], target: Sequence[Item], k: int, *, relay: bool = ...,
    projection: AbstractGraph | None = ..., stored: bool = ..., executor: Executor | None = ...,
    progress: bool = ..., tile: int | None = ...,
) -> list[Link]: ...  # fmt: skip
def link(
    graph: AbstractGraph,
    source: Item | Sequence[Item],
    target: Item | Sequence[Item],
    k: int,
    *,
    relay: bool = True,
    projection: AbstractGraph | None = None,
    stored: bool = True,
    executor: Executor | None = None,
    progress: bool = False,
    tile: int | None = None,
) -> Link | list[Link]:
    """Associates a source with a target: whenever the source fires, so does the target.

    Valiant (2005), https://doi.org/10.1162/0899766053019890. The source fires; neurons with at least k inputs from it are
    relays; synapses from relays into the target are raised to 1/k. A neuron of the target then fires with k raised
    inputs. Without relays the source's own synapses into the target are raised.

    Args:
      graph: Where relays are reached. Cheap if its rows are sources: source and relays have d edges a neuron.
      source: An item, or a list of them.
      target: Another, or as many.
      k: Inputs that make a neuron fire, k_a; from 1 to the degree.
      relay: Whether relays stand between.
      projection: Where synapses into the target lie; `graph` unless given. A graph of its own with
        ``orient="target"`` costs |target|·d edges, where going through all relays costs 4 to 50 times as many.
      stored: Whether raised synapses are kept, or drawn again whenever they are needed.
      executor: Any of concurrent.futures; None computes here.
      progress: Whether to show a bar.
      tile: Targets counted at a time; the result is the same for any.

    Returns:
      A Link; a list of them for lists.

    Raises:
      InvalidValueError: For k outside 1 … degree, or an item of another graph, before anything is drawn.
      ShapeError: For lists of different lengths.

    >>> from fingerpost.neuroidal import ImplicitGraph
    >>> graph, draw = ImplicitGraph(100_000, 512, seed=0), np.random.default_rng(0)
    >>> a, b, other = (Item.random(graph.n, 2134, draw) for _ in range(3))
    >>> found = link(graph, a, b, k=16)
    >>> [round(b.fraction_firing(found.fire(cue)), 3) for cue in (a, other)]
    [1.0, 0.0]
    """
    check_threshold(k, graph)
    projection = _checked_projection(graph, projection)
    many, sources, targets = _ends(graph, source, target)
    if relay:
        neurons = [item.neurons for item in sources]
        trained = fire(graph, neurons, k, executor=executor, progress=progress, tile=tile) if neurons else []
    else:
        trained = [item.neurons for item in sources]
    links = []
    for start, end in zip(trained, targets):
        raised = projection.edges_into(end.neurons, start) if stored else None
        links.append(Link(graph, projection, end, start, int(k), relay, raised))
    return links if many else links[0]


def join_link(
    graph: AbstractGraph,
    a: Item | Sequence[Item],
    b: Item | Sequence[Item],
    target: Item | Sequence[Item],
    *,
    k_m: int,
    k_a: int,
    relay: bool = True,
    projection: AbstractGraph | None = None,
    stored: bool = True,
    executor: Executor | None = None,
    progress: bool = False,
    tile: int | None = None,
) -> Any:
    """Makes `target` the memory of A and B together: a one-step JOIN, then a LINK from its neurons to the target.

    Beal and Knight (2008), https://doi.org/10.1109/DEVLRN.2008.4640826. The target is an item of the right size that stood for
    nothing yet, so the size of a memory no longer depends on the JOIN's, which is far from stable; and two or three
    thresholds in a row make the transfer curve steep.

    Args:
      graph: Where the JOIN and its relays are reached.
      a: An item, or a list of them.
      b: Another, or as many.
      target: What shall fire when both do, or as many.
      k_m: Inputs from A ∪ B that make a neuron of the JOIN fire: 2 k_a, and less for an upper noise margin.
      k_a: Inputs that make relays and the target fire.
      relay: Whether relays stand between the JOIN and the target, as the papers' LINK has it; otherwise the JOIN's neurons do.
      projection: Where synapses into the target lie; see `link`.
      stored: Whether raised synapses are kept.
      executor, progress, tile: See `fire`.

    Returns:
      A JoinLink; a list of them for lists.

    Raises:
      InvalidValueError: For a threshold outside 1 … degree, or an item of another graph, before anything is drawn.
      ShapeError: For lists of different lengths.

    >>> from fingerpost.neuroidal import ImplicitGraph
    >>> graph, draw = ImplicitGraph(100_000, 512, seed=0), np.random.default_rng(0)
    >>> a, b, c, other = (Item.random(graph.n, 2134, draw) for _ in range(4))
    >>> memory = join_link(graph, a, b, c, k_m=28, k_a=16)
    >>> [round(c.fraction_firing(memory.fire(cue)), 2) for cue in (a | b, a, a | other)]
    [1.0, 0.0, 1.0]
    """
    check_threshold(k_m, graph, "k_m")
    check_threshold(k_a, graph, "k_a")
    projection = _checked_projection(graph, projection)
    many, _, targets = _ends(graph, a, target)
    options: dict[str, Any] = {"executor": executor, "progress": progress, "tile": tile}
    make: Any = join  # of items, or of lists
    joined = make(graph, a, b, k=k_a, k_m=k_m, **options)
    links = link(
        graph, joined if many else [joined], targets, k_a, relay=relay, projection=projection, stored=stored,
        **options,
    )  # fmt: skip
    found = [JoinLink(one, int(k_m)) for one in links]
    return found if many else found[0]


def _ends(graph: AbstractGraph, source: Any, target: Any) -> tuple[bool, list[Item], list[Item]]:
    many = not isinstance(source, Item)
    if many != (not isinstance(target, Item)):
        raise InvalidTypeError("source and target are two items, or two lists of items; got one of each")
    sources, targets = (list(side) if many else [side] for side in (source, target))
    if len(sources) != len(targets):
        raise ShapeError(f"there are {len(sources)} sources and {len(targets)} targets; give as many of both")
    for name, items in (("source", sources), ("target", targets)):
        for place, item in enumerate(items):
            check_item(graph, item, f"{name}[{place}]" if many else name)
    return many, sources, targets


def _checked_projection(graph: AbstractGraph, projection: AbstractGraph | None) -> AbstractGraph:
    if projection is None:
        return graph
    if projection.n != graph.n:
        raise InvalidValueError(
            f"projection has {projection.n} neurons and graph {graph.n}; both must be on the same neurons"
        )
    return projection
