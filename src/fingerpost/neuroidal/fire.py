"""Which neurons fire when others do: those with enough inputs, tile by tile over the targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.neuroidal.graphs.base import AbstractGraph, Neurons

SHARDS = 64
"""Most pieces of work that an executor is handed."""
Group = tuple[Neurons, ...]


def fire(
    graph: AbstractGraph,
    firing: ArrayLike | Sequence[ArrayLike],
    k: int,
    *,
    executor: Executor | None = None,
    progress: bool = False,
    tile: int | None = None,
) -> Any:
    """The neurons that fire next: those with at least k inputs among the neurons that fire.

    Valiant (2005), Memorization and association on a realistic neural model,
    https://doi.org/10.1162/0899766053019890: every synapse has weight 1/k and a neuron's threshold is 1.

    Args:
      graph: The graph.
      firing: Neurons, or an object with such an array as its `neurons`; or a list of such, for many at once.
      k: Threshold, from 1 to the graph's degree.
      executor: Any of concurrent.futures; shards of the targets go to it. None computes here.
      progress: Whether to show a bar.
      tile: Targets counted at a time; the result is the same for any.

    Returns:
      Sorted int64 array; a list of such if a list was given.

    Raises:
      InvalidValueError: For k outside its range, or a neuron outside the graph, before anything is drawn.

    >>> from fingerpost.neuroidal.graphs import ImplicitGraph
    >>> graph = ImplicitGraph(100_000, 512, seed=0)
    >>> fired = fire(graph, range(2338), 16)
    >>> len(fired)
    15486
    """
    many = is_list(firing)
    groups = [(graph.neurons(item),) for item in (firing if many else [firing])]  # type: ignore
    found = _sweep(graph, groups, k, executor, progress, tile)
    return found if many else found[0]


def fire_jointly(
    graph: AbstractGraph,
    groups: Sequence[ArrayLike] | Sequence[Sequence[ArrayLike]],
    k: int,
    *,
    executor: Executor | None = None,
    progress: bool = False,
    tile: int | None = None,
) -> Any:
    """The neurons with at least k inputs from each of several firing sets: a two-step JOIN.

    The sets are counted and compared tile by tile, so that what fires for one of them alone is never kept.

    Args:
      graph: The graph.
      groups: The firing sets; or a list of such lists, for many at once.
      k: Threshold, from 1 to the graph's degree.
      executor: Any of concurrent.futures.
      progress: Whether to show a bar.
      tile: Targets counted at a time; the result is the same for any.

    Returns:
      Sorted int64 array; a list of such for a list of lists.

    Raises:
      InvalidValueError: For k outside its range, or a neuron outside the graph, before anything is drawn.
    """
    many = bool(len(groups)) and is_list(groups[0])
    lists = groups if many else [groups]
    checked = [tuple(graph.neurons(item) for item in group) for group in lists]  # type: ignore
    if not all(checked):
        raise InvalidValueError("fire_jointly needs at least one firing set in each group; got none")
    found = _sweep(graph, checked, k, executor, progress, tile)
    return found if many else found[0]


def is_list(given: Any) -> bool:
    """Whether these are several firing sets, and not one."""
    if not isinstance(given, (list, tuple)):
        return False
    return not given or not isinstance(given[0], (int, np.integer))


def _sweep(
    graph: AbstractGraph,
    groups: Sequence[Group],
    k: int,
    executor: Executor | None,
    progress: bool,
    tile: int | None,
) -> list[Neurons]:
    check_threshold(k, graph)
    tile = graph.tile if tile is None else tile
    if isinstance(tile, bool) or not isinstance(tile, (int, np.integer)) or tile < 1:
        raise InvalidValueError(f"tile is a number of targets, at least 1; got {tile!r}")
    tiles = -(-graph.n // tile)
    if executor is None:
        starts = _bar(range(0, graph.n, tile), progress, tiles)
        parts = [_count(graph, groups, k, start, min(start + tile, graph.n)) for start in starts]
    else:
        step = -(-tiles // SHARDS) * tile
        futures: list[Future[Any]] = [
            executor.submit(_shard, graph, groups, k, start, min(start + step, graph.n), tile)
            for start in range(0, graph.n, step)
        ]
        try:
            for future in _bar(as_completed(futures), progress, len(futures)):
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        parts = [future.result() for future in futures]
    return [np.concatenate(found) for found in zip(*parts)]


def _shard(
    graph: AbstractGraph, groups: Sequence[Group], k: int, start: int, stop: int, tile: int
) -> list[Neurons]:
    parts = [_count(graph, groups, k, low, min(low + tile, stop)) for low in range(start, stop, tile)]
    return [np.concatenate(found) for found in zip(*parts)]


def _count(graph: AbstractGraph, groups: Sequence[Group], k: int, start: int, stop: int) -> list[Neurons]:
    """The neurons of one tile that fire, for each group."""
    found = []
    for group in groups:
        fires = graph.counts(group[0], start, stop) >= k
        for firing in group[1:]:
            fires &= graph.counts(firing, start, stop) >= k
        found.append(np.flatnonzero(fires).astype(np.int64, copy=False) + start)
    return found


def check_threshold(k: int, graph: AbstractGraph, name: str = "k") -> None:
    """Raises unless 1 ≤ k ≤ degree, with the argument's name."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise InvalidTypeError(f"{name} is a number of inputs, an integer; got {k!r}")
    if not 1 <= k <= graph.degree:
        raise InvalidValueError(
            f"{name} must be from 1 to the graph's degree {graph.degree:g}: a threshold above it is met by hardly any "
            f"neuron; got {k}"
        )


def _bar(items: Iterable[Any], progress: bool, total: int) -> Iterator[Any]:
    if not progress:
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, desc="targets", unit="tile")
