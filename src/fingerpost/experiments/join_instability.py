"""What becomes of an item's size when JOINs are chained: the size curve, chains that die or explode, Valiant's r."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _join_chains as chains
from fingerpost.experiments import _join_instability_results as results
from fingerpost.experiments import _neuroidal_circuits as circuits
from fingerpost.lab import Run, derive_seed

np = lazy_import("numpy")
neuroidal = lazy_import("fingerpost.neuroidal")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of graphs and items.
      n: Neurons.
      degree: Expected synapses out of a neuron.
      k: Threshold of a two-step JOIN, and half that of a one-step JOIN.
      r: Neurons of an item for the one-step JOIN.
      r_two_step: Neurons of an item for the two-step JOIN.
      sizes: Sizes of A and B, over r.
      graphs: Graphs of the size curve.
      pairs: Pairs of items on each, at each size.
      chain_graphs: Graphs of the chains and trees.
      chains: Chains with fresh partners on each, of each kind.
      trees: Trees on each, of each kind.
      length: JOINs of a chain.
      depth: Levels of a tree; it has 2^depth fresh items.
      stored: Pairs of items on a graph that is stored, drawn by other means; 0 leaves that comparison out.
      device: cpu.
    """

    seed: int = 0
    n: int = 100_000
    degree: int = 512
    k: int = 16
    r: int = 2134
    r_two_step: int = 2338
    sizes: tuple[float, ...] = (0.9, 0.95, 1.0, 1.05, 1.1)
    graphs: int = 20
    pairs: int = 20
    chain_graphs: int = 10
    chains: int = 20
    trees: int = 2
    length: int = 10
    depth: int = 6
    stored: int = 40
    device: str = "cpu"


PRESETS = {
    "quick": Config(graphs=6, pairs=8, chain_graphs=4, chains=8, trees=1, length=6, depth=5, stored=0),
    "full": Config(),
}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.device != "cpu":
        raise ConfigError(f"device is {config.device}; the graph is generated on the cpu")
    if min(config.graphs, config.chain_graphs) < 2 or config.pairs < 1:
        raise ConfigError(
            "graphs and chain_graphs must be at least 2, and pairs at least 1: intervals need them"
        )
    if min(config.chains, config.trees, config.length, config.depth) < 1 or config.stored < 0:
        raise ConfigError("chains, trees, length and depth must be at least 1, and stored at least 0")
    if config.depth > 12:
        raise ConfigError(f"depth is {config.depth}; a tree of more than 2^12 items takes days")
    if not 0 < config.degree < config.n:
        raise ConfigError(f"degree is {config.degree}; it must be between 0 and n = {config.n}")
    if not 1 <= 2 * config.k <= config.degree:
        raise ConfigError(f"k is {config.k}; 2 k must be between 1 and the degree, {config.degree}")
    largest = max(config.r, config.r_two_step) * max(config.sizes, default=0)
    if len(config.sizes) < 2 or min(config.sizes) <= 0 or largest > config.n:
        raise ConfigError("sizes are at least two numbers above 0, with items of at most n neurons")


def run(config: Config, run: Run) -> None:
    """Measures sizes on graphs, lets chains run, recomputes r, and states what held."""
    curve = []
    for index in run.progress(range(config.graphs), "size curve"):
        curve.append(run.once(f"sizes-{index}", lambda i=index: _sizes(config, i)))
    stored = run.once("stored", lambda: _stored(config)) if config.stored else None
    found: dict[chains.Kind, list[list[list[int]]]] = {}
    jobs = [(kind, index) for kind in chains.KINDS for index in range(config.chain_graphs)]
    for kind, index in run.progress(jobs, "chains"):
        levels = run.once(f"{kind.name}-{index}", lambda q=kind, i=index: _chains(config, q, i))
        found.setdefault(kind, []).append(levels)
    results.show(config, run, curve, stored, found)


def graph(config: Config, index: int) -> Any:
    """The graph of that index."""
    return circuits.graph(config.n, config.degree, config.seed, "graph", index)


def _sizes(config: Config, index: int) -> list[list[float]]:
    """|C| / r for each pair of items, at each size."""
    on = graph(config, index)
    return [
        [_size(config, on, size, ("sizes", index, place, pair)) for pair in range(config.pairs)]
        for place, size in enumerate(config.sizes)
    ]


def _size(config: Config, on: Any, size: float, names: tuple[int | str, ...]) -> float:
    count = round(size * config.r)
    a, b = (circuits.item(config.n, count, config.seed, *names, which) for which in "ab")
    return len(neuroidal.join(on, a, b, k=config.k)) / config.r


def _stored(config: Config) -> dict[str, Any]:
    """|C| / r on a stored graph drawn by other means, and where the implicit graph's JOIN parts from its stored copy."""
    other = neuroidal.StoredGraph.random(config.n, config.degree, seed=derive_seed(config.seed, "stored"))
    sizes = [_size(config, other, 1.0, ("stored", pair)) for pair in range(config.stored)]
    del other
    implicit = graph(config, 0)
    copy = neuroidal.StoredGraph.from_graph(implicit)
    a, b = (circuits.item(config.n, config.r, config.seed, "copy", which) for which in "ab")
    sets = [neuroidal.join(on, a, b, k=config.k).neurons for on in (implicit, copy)]
    return {"sizes": sizes, "differ": len(np.setxor1d(*sets)), "size": len(sets[0])}


def _chains(config: Config, kind: chains.Kind, index: int) -> list[list[int]]:
    """Sizes of all items of that kind on one graph, by the number of JOINs behind them."""
    on = graph(config, index)
    r = config.r if kind.steps == 1 else config.r_two_step

    def seed(which: int) -> int:
        return derive_seed(config.seed, kind.name, index, which)

    if kind.tree:
        grown = [chains.tree(on, r, config.k, kind.steps, config.depth, seed(t)) for t in range(config.trees)]
        return [[size for one in grown for size in one[level]] for level in range(config.depth + 1)]
    runs = [chains.chain(on, r, config.k, kind.steps, config.length, seed(c)) for c in range(config.chains)]
    return [list(level) for level in zip(*runs)]
