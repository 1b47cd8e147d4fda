"""A memory: named items on one graph, with all raised synapses in one place, so that memories can disturb each other."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fingerpost.errors import InvalidTypeError, InvalidValueError, did_you_mean
from fingerpost.neuroidal import theory
from fingerpost.neuroidal.fire import check_threshold, fire, fire_jointly
from fingerpost.neuroidal.graphs.base import AbstractGraph, Neurons
from fingerpost.neuroidal.graphs.implicit import ImplicitGraph
from fingerpost.neuroidal.item import RECOGNISED, Item
from fingerpost.neuroidal.join import check_item, join
from fingerpost.neuroidal.link import join_link, link

FORMAT = 1
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
        self._source: Neurons = np.empty(0, np.int64)
        self._target: Neurons = np.empty(0, np.int64)

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
        return len(self._source)

    def add(self, name: str, item: Item | None = None) -> Item:
        """Names an item; a random one of r neurons unless given.

        Raises:
          InvalidValueError: If the name is taken, or the item belongs to another graph.
        """
        self._free(name)
        if item is None:
            draw = np.random.default_rng([self.seed, len(self.items)])
            item = Item.random(self.graph.n, self.r, draw)
        self._name(name, check_item(self.graph, item, "item"))
        return item

    def join(self, name: str, a: str, b: str, *, steps: int = 1, **options: Any) -> Item:
        """Names the item that two others make; see `join`.

        Raises:
          InvalidValueError: If the name is taken, or an item is not known.
        """
        self._free(name)
        k_m = self.k_m if steps == 1 else None
        made = join(self.graph, self[a], self[b], k=self.k_a, steps=steps, k_m=k_m, **options)
        self._name(name, made, JOIN if steps == 1 else TWO_STEPS)
        return made

    def link(self, source: str, target: str, *, relay: bool = True, **options: Any) -> None:
        """Associates two items: whenever the source fires, so does the target; see `link`."""
        one = link(
            self.graph, self[source], self[target], self.k_a, relay=relay, projection=self.projection, **options
        )  # fmt: skip
        self._raise(*one.synapses())
        self._ways[target].add(LINK if relay else DIRECT)

    def join_link(self, name: str, a: str, b: str, *, relay: bool = False, **options: Any) -> Item:
        """Names a new item that fires when two others do; see `join_link`.

        The JOIN's neurons are the relays unless ``relay`` is set: with a lowered k_m a JOIN is so large that nearly every
        neuron would be a relay of it, and any cue would fire the new item.

        Raises:
          InvalidValueError: If the name is taken, or an item is not known.
        """
        self._free(name)
        first, second = self[a], self[b]
        draw = np.random.default_rng([self.seed, len(self.items)])
        target = Item.random(self.graph.n, self.r, draw)
        one = join_link(
            self.graph, first, second, target, k_m=self.k_m, k_a=self.k_a, relay=relay,
            projection=self.projection, **options,
        )  # fmt: skip
        self._raise(*one.link.synapses())
        self._name(name, target, JOIN_LINK if relay else VIA_JOIN)
        return target

    def recall(
        self, *cue: str | Item, k_m: int | None = None, k_a: int | None = None, **options: Any
    ) -> dict[str, float]:
        """How much of every item fires for a cue.

        An item fires as a part of the cue, or on a way that it was made: by a JOIN, of one or two steps; or by enough raised
        synapses from the cue itself, from its relays, from its JOIN's neurons, or from their relays. Its share is the
        largest of these.

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
        return {
            name: max(
                item.fraction_firing(layer) for layer in (firing, *(reached[way] for way in self._ways[name]))
            )
            for name, item in self.items.items()
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
        found |= {way: self._reached(layer, k_a) for way, layer in layers.items() if way in asked}
        for way in asked & set(relayed):
            found[way] = self._reached(fire(self.graph, relayed[way], k_a, **options), k_a)
        return found

    def recognised(self, *cue: str | Item, **options: Any) -> list[str]:
        """Names of the items of which more than half fires for a cue; see `recall`."""
        return [name for name, share in self.recall(*cue, **options).items() if share > RECOGNISED]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the memory to one file, all of it or nothing; numpy reads it without pickle.

        A graph that is drawn from a seed is written by its parameters; any other has to be given to `load`.
        """
        path = Path(path)
        about = {
            "format": FORMAT, "k_a": self.k_a, "k_m": self.k_m, "r": self.r, "seed": self.seed,
            "n": self.graph.n, "degree": self.graph.degree, "names": list(self.items),
            "ways": [sorted(ways) for ways in self._ways.values()],
            "graph": _described(self.graph),
            "projection": None if self.projection is self.graph else _described(self.projection),
            "own_projection": self.projection is not self.graph,
        }  # fmt: skip
        arrays: dict[str, Any] = {
            f"item_{place}": item.neurons for place, item in enumerate(self.items.values())
        }
        arrays |= {"source": self._source, "target": self._target}
        arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

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
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(arrays.pop("about").tobytes())
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']}")
            graph = _found(about, "graph", graph, path)
            own = about["own_projection"]
            memory = cls(
                graph, k_a=about["k_a"], k_m=about["k_m"], r=about["r"], seed=about["seed"],
                projection=_found(about, "projection", projection, path) if own else None,
            )  # fmt: skip
            for place, (name, ways) in enumerate(zip(about["names"], about["ways"], strict=True)):
                memory._name(name, Item(arrays[f"item_{place}"], graph.n), *ways)
            memory._raise(arrays["source"], arrays["target"])
        except InvalidValueError:
            raise
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InvalidValueError(
                f"{os.fspath(path)} is damaged, or no memory that Memory.save wrote: {error}"
            ) from error
        return memory

    def _name(self, name: str, item: Item, *ways: str) -> None:
        self.items[name], self._ways[name] = item, set(ways)

    def _free(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise InvalidTypeError(f"an item's name is a word; got {name!r}")
        if name in self.items:
            raise InvalidValueError(f"there is an item {name!r} already; choose another name")

    def _raise(self, source: Neurons, target: Neurons) -> None:
        """Adds synapses to those that are raised; one that is raised twice is raised."""
        source, target = (
            np.concatenate([before, new]) for before, new in ((self._source, source), (self._target, target))
        )
        order = np.lexsort((source, target))
        source, target = source[order], target[order]
        first = np.ones(len(source), bool)
        first[1:] = (np.diff(source) != 0) | (np.diff(target) != 0)
        self._source, self._target = source[first], target[first]

    def _reached(self, active: Iterable[int], k: int) -> Neurons:
        """Neurons with at least k raised synapses from what fires."""
        heard = self._target[np.isin(self._source, np.asarray(active))]
        neurons, inputs = np.unique(heard, return_counts=True)
        return neurons[inputs >= k]


def _described(graph: AbstractGraph) -> dict[str, Any] | None:
    return graph.parameters if isinstance(graph, ImplicitGraph) else None


def _found(
    about: dict[str, Any], what: str, given: AbstractGraph | None, path: str | os.PathLike[str]
) -> AbstractGraph:
    """The graph that was given, or the one that the file describes."""
    described = about[what]
    if given is None:
        if described is None:
            raise InvalidValueError(
                f"{os.fspath(path)} was made on a stored graph; give it: load(path, {what}=…)"
            )
        return ImplicitGraph(**described)
    wrong = given.n != about["n"] or (described is not None and _described(given) != described)
    if wrong:
        raise InvalidValueError(
            f"{os.fspath(path)} was made on another {what}: {described or about['n']}; got {given!r}"
        )
    return given
