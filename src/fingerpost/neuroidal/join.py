"""JOIN: two items make a third, which fires when both of them do."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, overload

import numpy as np

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted
from fingerpost.neuroidal.fire import check_threshold, fire, fire_jointly
from fingerpost.neuroidal.graphs.base import AbstractGraph
from fingerpost.neuroidal.item import Item


@overload
def join(
    graph: AbstractGraph, a: Item, b: Item, *, k: int, steps: int = ..., k_m: int | None = ...,
    executor: Executor | None = ..., progress: bool = ..., tile: int | None = ...,
) -> Item: ...  # fmt: skip
@overload
def join(
    graph: AbstractGraph, a: Sequence[Item], b: Sequence[Item], *, k: int, steps: int = ..., k_m: int | None = ...,
    executor: Executor | None = ..., progress: bool = ..., tile: int | None = ...,
) -> list[Item]: ...  # fmt: skip
def join(
    graph: AbstractGraph,
    a: Item | Sequence[Item],
    b: Item | Sequence[Item],
    *,
    k: int,
    steps: int = 1,
    k_m: int | None = None,
    executor: Executor | None = None,
    progress: bool = False,
    tile: int | None = None,
) -> Item | list[Item]:
    """The item that A and B make: the neurons that enough of both reach.

    Valiant (2005), https://doi.org/10.1162/0899766053019890. In one step A and B fire together, and C is what gets at
    least k_m = 2k inputs from A ∪ B. In two steps A fires, then B, and C is what gets at least k inputs from each. The
    same call on parts of A and B says which neurons of C fire at recall, with k_m or k lowered if one wishes.

    Args:
      graph: The graph.
      a: An item, or a list of them.
      b: Another, or as many.
      k: Inputs that make a neuron fire, k_a of Beal and Knight.
      steps: 1 or 2.
      k_m: Threshold of one step; 2k unless given.
      executor: Any of concurrent.futures; None computes here.
      progress: Whether to show a bar over tiles of targets.
      tile: Targets counted at a time; the result is the same for any.

    Returns:
      C, as an Item; a list of such for lists.

    Raises:
      InvalidValueError: For a threshold outside 1 … degree, or an item of another graph, before anything is drawn.
      ShapeError: For lists of different lengths.

    >>> from fingerpost.neuroidal import ImplicitGraph
    >>> graph, draw = ImplicitGraph(100_000, 512, seed=0), np.random.default_rng(0)
    >>> a, b = (Item.random(graph.n, 2134, draw) for _ in "ab")
    >>> len(join(graph, a, b, k=16)), len(join(graph, a, b, k=16, steps=2))
    (2148, 825)
    """
    if steps not in (1, 2):
        raise InvalidValueError(f"steps is {steps!r}; a JOIN takes 1 or 2")
    if steps == 2 and k_m is not None:
        raise InvalidValueError("k_m is the threshold of a JOIN in one step; with steps=2 give k alone")
    check_threshold(k, graph)
    threshold = k if steps == 2 else (2 * k if k_m is None else k_m)
    check_threshold(threshold, graph, "k" if steps == 2 else "k_m")
    many, firsts, seconds = pairs(graph, a, b)
    options: dict[str, Any] = {"executor": executor, "progress": progress, "tile": tile}
    if steps == 1:
        unions = [np.union1d(one.neurons, other.neurons) for one, other in zip(firsts, seconds)]
        found = fire(graph, unions, threshold, **options)
    else:
        groups = [[one.neurons, other.neurons] for one, other in zip(firsts, seconds)]
        found = fire_jointly(graph, groups, threshold, **options) if groups else []
    items = [Item(neurons, graph.n) for neurons in found]
    return items if many else items[0]


def pairs(graph: AbstractGraph, a: Any, b: Any) -> tuple[bool, list[Item], list[Item]]:
    """Whether several pairs were given, and both sides as lists of items of this graph."""
    many = not isinstance(a, Item)
    if many != (not isinstance(b, Item)):
        raise InvalidTypeError("a and b are two items, or two lists of items; got one of each")
    firsts, seconds = (list(side) if many else [side] for side in (a, b))
    if len(firsts) != len(seconds):
        raise ShapeError(f"a has {counted(len(firsts), 'item')} and b {len(seconds)}; give as many of both")
    for side, items in (("a", firsts), ("b", seconds)):
        for place, item in enumerate(items):
            check_item(graph, item, f"{side}[{place}]" if many else side)
    return many, firsts, seconds


def check_item(graph: AbstractGraph, item: Any, name: str) -> Item:
    """Raises unless this is an item of this graph."""
    if not isinstance(item, Item):
        raise InvalidTypeError(
            f"{name} is {type(item).__name__}; expected an Item: Item(neurons, n={graph.n})"
        )
    if item.n != graph.n:
        raise InvalidValueError(f"{name} is an item of a graph of {item.n} neurons; this graph has {graph.n}")
    return item
