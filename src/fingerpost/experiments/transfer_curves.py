"""How much of C fires when only part of A and B does: transfer curves and noise margins of JOIN and JOIN-LINK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _neuroidal_circuits as circuits
from fingerpost.experiments import _transfer_curves_results as results
from fingerpost.lab import Run

np = lazy_import("numpy")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of graphs, items and of which neurons stay silent.
      n: Neurons.
      degree: Expected synapses out of a neuron.
      k: Threshold k_a; k_m is twice that where nothing is lowered.
      r: Neurons of an item.
      lowered: By how much k_m is lowered.
      lowered_k_a: By how much k_a is lowered.
      recall: By how much a JOIN's threshold is lowered when C is fired, and not when C is formed.
      fractions: Shares of A and of B that fire.
      graphs: Graphs.
      pairs: Pairs of items, with a C each, on each graph.
      device: cpu.
    """

    seed: int = 0
    n: int = 100_000
    degree: int = 512
    k: int = 16
    r: int = 2134
    lowered: tuple[int, ...] = (0, 1, 2, 3, 4)
    lowered_k_a: tuple[int, ...] = (0, 1, 2)
    recall: tuple[int, ...] = (0, 2, 4, 6, 8)
    fractions: tuple[float, ...] = (
        0.2, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.775, 0.8, 0.825, 0.85, 0.875, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985,
        0.99, 0.995, 1.0,
    )  # fmt: skip
    graphs: int = 8
    pairs: int = 5
    device: str = "cpu"


PRESETS = {
    "quick": Config(
        lowered=(0, 2, 4), lowered_k_a=(0, 2), recall=(0, 4, 8), graphs=3, pairs=2,
        fractions=(0.4, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 1.0),
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.device != "cpu":
        raise ConfigError(f"device is {config.device}; the graph is generated on the cpu")
    if not 0 < config.degree < config.n or not 1 <= 2 * config.k <= config.degree:
        raise ConfigError("degree must be between 0 and n, and 2 k at most the degree")
    if not 1 <= config.r <= config.n:
        raise ConfigError(f"r is {config.r}; an item has from 1 to n = {config.n} neurons")
    if config.graphs < 2 or config.pairs < 1:
        raise ConfigError("graphs must be at least 2 and pairs at least 1: intervals need them")
    lowest = min((*config.lowered, *config.lowered_k_a, *config.recall), default=-1)
    if lowest < 0 or 0 not in config.lowered or 0 not in config.lowered_k_a or 0 not in config.recall:
        raise ConfigError("lowered, lowered_k_a and recall are whole numbers from 0 on, and 0 is among each")
    if max(*config.lowered, *config.recall) >= 2 * config.k or max(config.lowered_k_a) >= config.k:
        raise ConfigError("thresholds must stay above 0: lower k_m by less than 2 k and k_a by less than k")
    ordered = sorted(set(config.fractions)) == list(config.fractions)
    if not ordered or len(config.fractions) < 3 or config.fractions[0] <= 0 or config.fractions[-1] != 1:
        raise ConfigError("fractions are at least three increasing numbers above 0, and the last is 1")


def run(config: Config, run: Run) -> None:
    """Fires parts of items on graphs, holds the curves to theory, and states what held."""
    found = []
    for index in run.progress(range(config.graphs), "graphs"):
        found.append(run.once(f"graph-{index}", lambda i=index: _on_graph(config, i)))
    results.show(config, run, found)


def _on_graph(config: Config, index: int) -> list[dict[str, list[float]]]:
    """Curves of each pair of items on one graph, by name."""
    on = circuits.graph(config.n, config.degree, config.seed, "graph", index)
    into = circuits.projection(config.n, config.degree, config.seed, "graph", index)
    return [_curves(config, on, into, (config.seed, index, pair)) for pair in range(config.pairs)]


def _curves(config: Config, on: Any, into: Any, seed: tuple[int, ...]) -> dict[str, list[float]]:
    """The shares of C that fire, by fraction, for each circuit and each JOIN."""
    wired = circuits.settings(config)
    a, b, c = (circuits.item(config.n, config.r, *seed, which).neurons for which in "abc")
    synapses = circuits.Synapses(into, c)
    trained = circuits.reach(on, np.union1d(a, b), wired)
    formed = _joins(config, on, a, b)
    found: dict[str, list[float]] = {}
    for x in config.fractions:
        one, other = circuits.part(a, x, *seed, "part of a"), circuits.part(b, x, *seed, "part of b")
        reached = circuits.reach(on, np.union1d(one, other), wired)
        shares = {
            circuit.name: len(synapses.fired(trained[circuit], reached[circuit], circuit.k_a)) / len(c)
            for circuit in wired
        }
        shares |= _join_shares(config, formed, _joins(config, on, one, other))
        for name, value in shares.items():
            found.setdefault(name, []).append(value)
    return found


def _joins(config: Config, on: Any, a: Any, b: Any) -> dict[str, Any]:
    """Masks of what fires in a JOIN, at each threshold, and in two steps."""
    inputs = on.counts(np.union1d(a, b))
    lowered = {*config.lowered, *config.recall}
    found = {f"join-{2 * config.k - by}": inputs >= 2 * config.k - by for by in lowered}
    found["two-step"] = (on.counts(a) >= config.k) & (on.counts(b) >= config.k)
    return found


def _join_shares(config: Config, formed: dict[str, Any], fires: dict[str, Any]) -> dict[str, float]:
    """Shares of a JOIN's own C that fire; and, for a threshold lowered afterwards, what else fires, over the size of C."""
    shares = {name: float((fires[name] & mask).sum() / max(1, mask.sum())) for name, mask in formed.items()}
    own = formed[f"join-{2 * config.k}"]
    for by in config.recall:
        now = fires[f"join-{2 * config.k - by}"]
        shares[f"recall-{by}"] = float((now & own).sum() / max(1, own.sum()))
        shares[f"outside-{by}"] = float((now & ~own).sum() / max(1, own.sum()))
    return shares
