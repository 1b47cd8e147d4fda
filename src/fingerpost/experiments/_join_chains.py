"""Chains and trees of JOINs: their sizes on graphs, and what binomial counts alone would make of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost.experiments import _neuroidal_circuits as circuits
from fingerpost.lab import derive_seed

np = lazy_import("numpy")
neuroidal = lazy_import("fingerpost.neuroidal")
theory = lazy_import("fingerpost.neuroidal.theory")

NEARLY_ALL = 0.9
"""Share of the graph above which an item is nearly the entire graph."""


class Kind(NamedTuple):
    """A way to chain JOINs.

    Args:
      steps: 1 or 2, of Valiant's JOIN.
      tree: Whether both partners are JOINs themselves; otherwise one is a fresh item.
    """

    steps: int
    tree: bool

    @property
    def label(self) -> str:
        """How figures and tables call it."""
        return f"{'one' if self.steps == 1 else 'two'}-step, " + (
            "both partners joined" if self.tree else "fresh partner"
        )

    @property
    def name(self) -> str:
        """How stages and claims call it."""
        return f"{'one' if self.steps == 1 else 'two'}-step-{'tree' if self.tree else 'chain'}"


KINDS = tuple(Kind(steps, tree) for steps in (1, 2) for tree in (False, True))


def chain(graph: Any, r: int, k: int, steps: int, length: int, seed: int) -> list[int]:
    """Sizes of items, each the JOIN of the one before with a fresh one; it ends early at none or nearly all neurons."""
    item = circuits.item(graph.n, r, seed, "start")
    sizes = [len(item)]
    for t in range(length):
        if not 0 < sizes[-1] <= NEARLY_ALL * graph.n:
            break
        partner = circuits.item(graph.n, r, seed, "partner", t)
        item = neuroidal.join(graph, item, partner, k=k, steps=steps)
        sizes.append(len(item))
    return sizes + [sizes[-1]] * (length + 1 - len(sizes))


def tree(graph: Any, r: int, k: int, steps: int, depth: int, seed: int) -> list[list[int]]:
    """Sizes at each level of a binary tree of JOINs over 2^depth fresh items."""
    level = [circuits.item(graph.n, r, seed, "leaf", leaf) for leaf in range(1 << depth)]
    sizes = [[len(item) for item in level]]
    while len(level) > 1:
        level = neuroidal.join(graph, level[::2], level[1::2], k=k, steps=steps)
        sizes.append([len(item) for item in level])
    return sizes


def expected_sizes(n: int, degree: float, r: int, k: int, kind: Kind, length: int, seed: int) -> Any:
    """Sizes after 0, 1, …, length JOINs if each is a binomial draw given the sizes before it and their overlap.

    Returns:
      int64, shape (length + 1, draws).
    """
    generator = np.random.default_rng(derive_seed(seed, "binomial", kind.name))
    draws = 10_000
    sizes = [np.full(draws, r)]
    for _ in range(length):
        one = sizes[-1]
        other = generator.permutation(one) if kind.tree else np.full(draws, r)
        overlap = generator.hypergeometric(one, n - one, other)
        size = generator.binomial(n, _chance(n, degree, one, other, overlap, k, kind.steps))
        if not kind.tree:
            size = np.where((one == 0) | (one > NEARLY_ALL * n), one, size)
        sizes.append(size)
    return np.stack(sizes)


def _chance(n: int, degree: float, one: Any, other: Any, overlap: Any, k: int, steps: int) -> Any:
    """The chance to be in the JOIN of two items of these sizes and this overlap, where theory's `size_map` expects one."""
    if steps == 2:
        return theory.joint_tail(one, other, overlap, degree / n, k)
    return theory.binomial_tail(one + other - overlap, degree / n, 2 * k)
