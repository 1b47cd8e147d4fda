"""A memory: named items on one graph, with all raised synapses in one place, so that memories can disturb each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted, did_you_mean
from fingerpost.neuroidal import _memory_file as memory_file
from fingerpost.neuroidal import theory
from fingerpost.neuroidal._raised import RaisedSynapses
from fingerpost.neuroidal.fire import check_threshold, fire, fire_jointly
from fingerpost.neuroidal.graphs.base import AbstractGraph, Neurons
from fingerpost.neuroidal.item import RECOGNISED, Item
from fingerpost.neuroidal.join import check_item, join
from fingerpost.neuroidal.link import join_link, link

ENOUGH = 0.9
"""Share of C that a JOIN's own synapses have to fire for a JOIN-LINK to do without relays."""
JOIN, TWO_STEPS, LINK, DIRECT, JOIN_LINK, VIA_JOIN = (
    "join", "two-step join", "link", "direct link", "join-link", "via join",
)  # fmt: skip
"""The ways in which a cue reaches an item."""


class Memory:
    """Named items on a graph, made by JOIN, LINK and JOIN-LINK, and recalled from any cue.

    An item is recalled the way it was made. Raised synapses of all associations are one set: a neuron that fires on any way
    brings all its raised synapses, so memories disturb each other as they would in the graph.

    Args:
      graph: The graph.
      k_a: Inputs that make a neuron fire.
      k_m: Inputs from two items together that make a neuron of their JOIN fire; 2 k_a unless given.
      r: Size of items; that at which a one-step JOIN keeps it (`theory.solve_r`) unless given.
      projection: Where synapses into targets of a LINK lie; see `link`.
      seed: Gives the items that are drawn.

    Attributes:
      items: Name → Item, in the order in which they were made.

    >>> from fingerpost.neuroidal import ImplicitGraph
    >>> memory = Memory(ImplicitGraph(100_000, 512, seed=0), k_a=16, k_m=28)
    >>> for name in ("red", "square", "blue"):
    ...     _ = memory.add(name)
    >>> _ = memory.join_link("red square", "red", "square")
    >>> memory.recognised("red", "square"), memory.recognised("blue")
    (['red', 'square', 'red square'], ['blue'])
    """

    def __init__(
        self,
        graph: AbstractGraph,
        *,
        k_a: int,
        k_m: int | None = None,
        r: int | None = None,
        projection: AbstractGraph | None = None,
        seed: int = 0,
    ) -> None:
        check_threshold(k_a, graph, "k_a")
        self.graph, self.k_a, self.k_m = graph, int(k_a), int(2 * k_a if k_m is None else k_m)
        check_threshold(self.k_m, graph, "k_m")
        self.projection = graph if projection is None else projection
        if self.projection.n != graph.n:
            raise InvalidValueError(
                f"projection has {self.projection.n} neurons and graph {graph.n}; both must be on the same neurons"
            )
        self.r = theory.solve_r(graph.n, graph.degree, k_a, steps=1) if r is None else int(r)
        if not 1 <= self.r <= graph.n:
            raise InvalidValueError(f"r is the size of an item, from 1 to n = {graph.n}; got {r}")
        self.seed = int(seed)
        self.items: dict[str, Item] = {}
        self._ways: dict[str, set[str]] = {}
        self._raised = RaisedSynapses()

    def __len__(self) -> int:
        return len(self.items)

    def __contains__(self, name: str) -> bool:
        return name in self.items

    def __iter__(self) -> Iterator[str]:
        return iter(self.items)

    def __getitem__(self, name: str) -> Item:
        if name not in self.items:
            raise InvalidValueError(f"there is no item {name!r}{did_you_mean(str(name), self.items)}")
        return self.items[name]

    def __repr__(self) -> str:
        return f"Memory({len(self)} items of {self.r}, {self.synapses:,} synapses raised, {self.graph!r})"

    @property
    def synapses(self) -> int:
        """How many synapses are raised."""
        return len(self._raised)

    def add(self, name: str, item: Item | None = None) -> Item:
        """Names an item; a random one of r neurons unless given.

        Raises:
          InvalidValueError: If the name is taken, or the item belongs to another graph.
        """
        self._free(name)
        item = self._drawn() if item is None else check_item(self.graph, item, "item")
        self._name(name, item)
        return item

    @overload
    def join(self, name: str, a: str, b: str, *, steps: int = ..., **options: Any) -> Item: ...
    @overload
    def join(
        self, name: Sequence[str], a: Sequence[str], b: Sequence[str], *, steps: int = ..., **options: Any
    ) -> list[Item]: ...
    def join(self, name: Any, a: Any, b: Any, *, steps: int = 1, **options: Any) -> Any:
        """Names the item that two others make, or as many as lists have; see `join`.

        Raises:
          InvalidValueError: If a name is taken, or an item is not known; nothing is named then.
        """
        names, firsts, seconds = self._free_all(name), self._known(a), self._known(b)
        _as_many(names, firsts)
        k_m = self.k_m if steps == 1 else None
        made = join(self.graph, firsts, seconds, k=self.k_a, steps=steps, k_m=k_m, **options)
        for one, item in zip(names, made):
            self._name(one, item, JOIN if steps == 1 else TWO_STEPS)
        return made[0] if isinstance(name, str) else made

    def link(
        self, source: str | Sequence[str], target: str | Sequence[str], *, relay: bool = True, **options: Any
    ) -> None:
        """Associates two items, or as many as lists have: whenever a source fires, so does its target; see `link`.

        Raises:
          InvalidValueError: If an item is not known; nothing is raised then.
        """
        found = link(
            self.graph, self._known(source), self._known(target), self.k_a, relay=relay, projection=self.projection,
            **options,
        )  # fmt: skip
        for one in found:
            self._raised.add(*one.synapses())
        for name in _listed(target):
            self._ways[name].add(LINK if relay else DIRECT)

    @overload
    def join_link(self, name: str, a: str, b: str, *, relay: bool | None = ..., **options: Any) -> Item: ...
    @overload
    def join_link(
        self, name: Sequence[str], a: Sequence[str], b: Sequence[str], *, relay: bool | None = ..., **options: Any
    ) -> list[Item]: ...  # fmt: skip
    def join_link(self, name: Any, a: Any, b: Any, *, relay: bool | None = None, **options: Any) -> Any:
        """Names a new item that fires when two others do, or as many as lists have; see `join_link`.

        Unless `relay` says, the JOIN's neurons are the relays wherever they are enough to fire the new item, and a layer of
        relays stands behind them where they are not, as at k_m = 2 k_a. Behind the large JOIN of a lowered k_m nearly
        every neuron would be a relay, and any pair would fire the new item.

        Raises:
          InvalidValueError: If a name is taken, or an item is not known; nothing is named or raised then.
        """
        names, firsts, seconds = self._free_all(name), self._known(a), self._known(b)
        targets = [self._drawn(place) for place in range(len(_as_many(names, firsts)))]
        relays = [self._needs_relays(*pair) if relay is None else relay for pair in zip(firsts, seconds)]
        for form in (False, True):
            chosen = [place for place, wanted in enumerate(relays) if wanted == form]
            found = join_link(
                self.graph, *([side[place] for place in chosen] for side in (firsts, seconds, targets)),
                k_m=self.k_m, k_a=self.k_a, relay=form, projection=self.projection, **options,
            )  # fmt: skip
            for one in found:
                self._raised.add(*one.link.synapses())
        for one, target, wanted in zip(names, targets, relays):
            self._name(one, target, JOIN_LINK if wanted else VIA_JOIN)
        return targets[0] if isinstance(name, str) else targets

    def _needs_relays(self, a: Item, b: Item) -> bool:
        """Whether the neurons of a JOIN by themselves are expected to leave more than a tenth of a target silent."""
        circuit = theory.Circuit("via-join", self.k_m, self.k_a)
        share = theory.transfer_curve(self.graph.n, self.graph.degree, len(a), len(b), circuit)
        return float(share) < ENOUGH

    def recall(
        self, *cue: str | Item, k_m: int | None = None, k_a: int | None = None, **options: Any
    ) -> dict[str, float]:
        """How much of every item fires for a cue.

        An item fires as a part of the cue, or on a way that it was made: by a JOIN, of one or two steps; or by enough raised
        synapses from the cue itself, from its relays, from its JOIN's neurons, or from their relays. Its share is the
        largest of these. Ways are run one at a time: a JOIN's neurons and a LINK's relays are the same neurons with another
        threshold, and many neurons of a JOIN are A's relays as well.

        Args:
          *cue: Names or items that fire together; one after another for a JOIN of two steps.
          k_m: Threshold of a JOIN at recall; the memory's unless given.
          k_a: Threshold of relays and targets at recall.
          **options: executor, progress and tile of `fire`.

        Returns:
          Name → share of the item's neurons that fires, for every item.
        """
        k_m, k_a = (self.k_m if k_m is None else k_m), (self.k_a if k_a is None else k_a)
        parts = [self[one] if isinstance(one, str) else check_item(self.graph, one, "cue") for one in cue]
        if not parts:
            raise InvalidTypeError("recall needs a cue: names of items, or items")
        check_threshold(k_m, self.graph, "k_m")
        check_threshold(k_a, self.graph, "k_a")
        firing = np.unique(np.concatenate([part.neurons for part in parts]))
        asked = set().union(*self._ways.values())
        reached = self._ways_of(asked, firing, [part.neurons for part in parts], k_m, k_a, options)
        shares = self._shares(firing, reached)
        return {
            name: max(float(shares[way][place]) for way in ("cue", *self._ways[name]))
            for place, name in enumerate(self.items)
        }

    def _shares(self, firing: Neurons, reached: dict[str, Neurons]) -> dict[str, NDArray[np.float64]]:
        """The share of every item that fires, by way, and in the cue itself."""
        sizes = np.array([len(item) for item in self.items.values()], np.int64)
        neurons = np.concatenate([np.empty(0, np.int64), *(item.neurons for item in self.items.values())])
        owner = np.repeat(np.arange(len(sizes)), sizes)
        return {
            way: np.bincount(owner[np.isin(neurons, layer)], minlength=len(sizes)) / np.maximum(sizes, 1)
            for way, layer in (reached | {"cue": firing}).items()
        }

    def _ways_of(
        self,
        asked: set[str],
        firing: Neurons,
        parts: list[Neurons],
        k_m: int,
        k_a: int,
        options: dict[str, Any],
    ) -> dict[str, Neurons]:
        """What fires on each way that is asked for."""
        found: dict[str, Neurons] = {}
        joined = firing[:0]
        if asked & {JOIN, JOIN_LINK, VIA_JOIN}:
            joined = found[JOIN] = fire(self.graph, firing, k_m, **options)
        if TWO_STEPS in asked:
            found[TWO_STEPS] = (
                fire_jointly(self.graph, parts, k_a, **options) if len(parts) > 1 else joined[:0]
            )
        layers = {DIRECT: firing, VIA_JOIN: joined}
        relayed = {LINK: firing, JOIN_LINK: joined}
        found |= {way: self._raised.fire(layer, k_a) for way, layer in layers.items() if way in asked}
        for way in asked & set(relayed):
            found[way] = self._raised.fire(fire(self.graph, relayed[way], k_a, **options), k_a)
        return found

    def recognised(self, *cue: str | Item, **options: Any) -> list[str]:
        """Names of the items of which more than half fires for a cue; see `recall`."""
        return [name for name, share in self.recall(*cue, **options).items() if share > RECOGNISED]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the memory to one file, all of it or nothing; numpy reads it without pickle.

        A graph that is drawn from a seed is written by its parameters; any other has to be given to `load`.
        """
        own = self.projection is not self.graph
        about = {
            "k_a": self.k_a, "k_m": self.k_m, "r": self.r, "seed": self.seed,
            "names": list(self.items), "ways": [sorted(ways) for ways in self._ways.values()],
            "graph": memory_file.described(self.graph),
            "projection": memory_file.described(self.projection) if own else None,
        }  # fmt: skip
        source, target = self._raised.edges()
        arrays = {f"item_{place}": item.neurons for place, item in enumerate(self.items.values())}
        memory_file.write(Path(path), about, arrays | {"source": source, "target": target})

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        graph: AbstractGraph | None = None,
        projection: AbstractGraph | None = None,
    ) -> Memory:
        """Reads what `save` wrote.

        Args:
          path: The file.
          graph: The graph, if it was not drawn from a seed.
          projection: The projection, likewise.

        Raises:
          FileNotFoundError: If there is no such file.
          InvalidValueError: If the file is damaged or not a memory, or its graph is not given or not the one it was made on.
        """
        path = Path(path)
        about, arrays = memory_file.read(path)
        graph = memory_file.graph_of(path, "graph", about.get("graph"), graph)
        if about.get("projection") is not None:
            projection = memory_file.graph_of(path, "projection", about["projection"], projection)
        elif projection is not None and projection is not graph:
            raise InvalidValueError(f"{path} was made without a projection of its own; got {projection!r}")
        try:
            memory = cls(
                graph, k_a=about["k_a"], k_m=about["k_m"], r=about["r"], seed=about["seed"], projection=projection
            )  # fmt: skip
            for place, (name, ways) in enumerate(zip(about["names"], about["ways"], strict=True)):
                memory._name(name, Item(arrays[f"item_{place}"], graph.n), *ways)
            source, target = (_synapse_ends(graph, arrays[end], end) for end in ("source", "target"))
            if len(source) != len(target):
                raise ValueError(f"{len(source)} synapses begin and {len(target)} end")
            memory._raised.add(source, target)
        except (KeyError, TypeError, ValueError) as error:
            raise memory_file.damaged(path, error) from error
        return memory

    def _name(self, name: str, item: Item, *ways: str) -> None:
        self.items[name], self._ways[name] = item, set(ways)

    def _drawn(self, place: int = 0) -> Item:
        """The item that is drawn for the name that is so many places on."""
        draw = np.random.default_rng([self.seed, len(self.items) + place])
        return Item.random(self.graph.n, self.r, draw)

    def _known(self, names: str | Sequence[str]) -> list[Item]:
        return [self[name] for name in _listed(names)]

    def _free_all(self, names: str | Sequence[str]) -> list[str]:
        listed = _listed(names)
        for place, name in enumerate(listed):
            self._free(name)
            if name in listed[:place]:
                raise InvalidValueError(f"the name {name!r} is given twice; choose another")
        return listed

    def _free(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidTypeError(f"an item's name is a word; got {name!r}")
        if name in self.items:
            raise InvalidValueError(f"there is an item {name!r} already; choose another name")


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _as_many(names: list[str], items: list[Item]) -> list[str]:
    if len(names) != len(items):
        raise ShapeError(
            f"there are {counted(len(names), 'name')} for {counted(len(items), 'item')}; give as many of both"
        )
    return names


def _synapse_ends(graph: AbstractGraph, given: Any, name: str) -> Neurons:
    """One end of each raised synapse, from a file."""
    graph.neurons(given, name)
    return np.asarray(given, np.int64)
