"""Chains of JOIN-LINKs: how far a noisy signal goes, what else fires C, and how many memories a graph takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _join_link_results as results
from fingerpost.experiments import _neuroidal_circuits as circuits
from fingerpost.experiments import _neuroidal_crowd as crowd
from fingerpost.lab import Run

np = lazy_import("numpy")

KINDS = ("A", "B", "A and D", "D and E")
"""What fires where C should stay silent: one part of its pair, a part with another item, two other items."""


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
      links: JOIN-LINKs of a chain.
      first: Shares of the first item that fire; all later partners fire whole.
      partners: Shares that fire of the first item and of every partner.
      probed: Links of each chain at which other items are fired too.
      graphs: Graphs, with one chain each.
      memories: Numbers of memories in one graph, increasing.
      crowd_graphs: Graphs that are filled so.
      crowd_probes: Memories whose firing is looked at.
      sample: Neurons whose synapses are followed there.
      device: cpu.
    """

    seed: int = 0
    n: int = 100_000
    degree: int = 512
    k: int = 16
    r: int = 2134
    lowered: tuple[int, ...] = (0, 1, 2, 3, 4, 6, 8)
    lowered_k_a: tuple[int, ...] = (0, 1, 2)
    links: int = 24
    first: tuple[float, ...] = (1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7)
    partners: tuple[float, ...] = (0.98, 0.95)
    probed: int = 8
    graphs: int = 6
    memories: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768)
    crowd_graphs: int = 4
    crowd_probes: int = 8
    sample: int = 4000
    device: str = "cpu"


PRESETS = {
    "quick": Config(
        lowered=(0, 1, 3, 4), lowered_k_a=(0,), links=20, first=(1.0, 0.95, 0.9), partners=(0.95,), probed=5, graphs=2,
        memories=(1, 4, 16, 64), crowd_graphs=2, crowd_probes=4, sample=2000,
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.device != "cpu":
        raise ConfigError(f"device is {config.device}; the graph is generated on the cpu")
    if not 0 < config.degree < config.n or not 1 <= 2 * config.k <= config.degree:
        raise ConfigError("degree must be between 0 and n, and 2 k at most the degree")
    if not (1 <= config.r <= config.n and 1 <= config.sample <= config.n):
        raise ConfigError(f"r and sample are numbers of neurons, from 1 to n = {config.n}")
    if min(config.graphs, config.crowd_graphs) < 2:
        raise ConfigError("graphs and crowd_graphs must be at least 2: intervals need them")
    if not 1 <= config.probed <= config.links or config.crowd_probes < 1:
        raise ConfigError("probed must be from 1 to links, and crowd_probes at least 1")
    if min(0, *config.lowered, *config.lowered_k_a) < 0 or not {0} <= {*config.lowered} & {
        *config.lowered_k_a
    }:
        raise ConfigError("lowered and lowered_k_a are whole numbers from 0 on, and 0 is among both")
    if max(config.lowered) >= 2 * config.k or max(config.lowered_k_a) >= config.k:
        raise ConfigError("thresholds must stay above 0: lower k_m by less than 2 k and k_a by less than k")
    if not all(0 < x <= 1 for x in (*config.first, *config.partners)) or 1.0 not in config.first:
        raise ConfigError("first and partners are shares in (0, 1], and 1 is among first")
    if sorted(set(config.memories)) != list(config.memories) or not config.memories or config.memories[0] < 1:
        raise ConfigError("memories are increasing numbers from 1 on")


def run(config: Config, run: Run) -> None:
    """Runs chains and probes on graphs, fills graphs with memories, and states what held."""
    chains = []
    for index in run.progress(range(config.graphs), "chains"):
        chains.append(run.once(f"chain-{index}", lambda i=index: _chain(config, i)))
    filled = []
    for index in run.progress(range(config.crowd_graphs), "crowds"):
        filled.append(run.once(f"crowd-{index}", lambda i=index: crowd.fill(config, index=i)))
    results.show(config, run, chains, filled)


def signals(config: Config) -> dict[str, tuple[float, float]]:
    """Shares that fire of the first item and of each partner, by name."""
    first = {f"first {x:g}": (x, 1.0) for x in config.first}
    return first | {f"every {q:g}": (q, q) for q in config.partners}


def _chain(config: Config, index: int) -> dict[str, Any]:
    """One chain on one graph, for all circuits at once: they share the items, not what fires."""
    seed = (config.seed, "chain", index)
    on = circuits.graph(config.n, config.degree, *seed)
    into = circuits.projection(config.n, config.degree, *seed)
    wired, kinds = circuits.settings(config), signals(config)
    item = circuits.item(config.n, config.r, *seed, "first").neurons
    begin = {name: circuits.part(item, x, *seed, "part") for name, (x, _) in kinds.items()}
    fires = {(circuit, name): begin[name] for circuit in wired for name in kinds}
    found: dict[str, Any] = {
        circuit.name: {
            "signals": {name: [] for name in kinds},
            "reached": [],
            "size": [],
            **{kind: [] for kind in KINDS},
        }
        for circuit in wired
    }
    probed = {round(place) for place in np.linspace(0, config.links - 1, config.probed)}
    for link in range(config.links):
        partner, target = (
            circuits.item(config.n, config.r, *seed, link, which).neurons for which in ("partner", "target")
        )
        synapses = circuits.Synapses(into, target)
        trained = circuits.reach(on, np.union1d(item, partner), wired)
        for circuit in wired:
            record = found[circuit.name]
            record["reached"].append(int(trained[circuit].sum()))
            record["size"].append(
                len(synapses.fired(trained[circuit], trained[circuit], circuit.k_a)) / config.r
            )
        if link in probed:
            others = [circuits.item(config.n, config.r, *seed, link, which).neurons for which in "de"]
            _probe(on, synapses, trained, (item, partner, *others), wired, found)
        fires = _send(config, on, synapses, trained, item, partner, fires, (*seed, link))
        for (circuit, name), fired in fires.items():
            found[circuit.name]["signals"][name].append(len(fired) / config.r)
        item = target
    return found


def _probe(
    on: Any, synapses: circuits.Synapses, trained: Any, items: Any, wired: list[circuits.Circuit], found: Any
) -> None:
    """Records the share of C that fires for what should not fire it."""
    a, b, d, e = items
    for kind, firing in zip(KINDS, (a, b, np.union1d(a, d), np.union1d(d, e))):
        reached = circuits.reach(on, firing, wired)
        for circuit in wired:
            fired = synapses.fired(trained[circuit], reached[circuit], circuit.k_a)
            found[circuit.name][kind].append(len(fired) / len(synapses.target))


def _send(
    config: Config,
    on: Any,
    synapses: circuits.Synapses,
    trained: Any,
    item: Any,
    partner: Any,
    fires: dict[tuple[circuits.Circuit, str], Any],
    seed: tuple[int | str, ...],
) -> dict[tuple[circuits.Circuit, str], Any]:
    """What each signal makes of this link; circuits whose signals are the same set of neurons are counted once."""
    groups: dict[tuple[float, bytes], list[tuple[circuits.Circuit, str]]] = {}
    kinds = signals(config)
    for key, fired in fires.items():
        groups.setdefault((kinds[key[1]][1], fired.tobytes()), []).append(key)
    sent = {}
    for (share, _), keys in groups.items():
        wired = sorted({circuit for circuit, _ in keys})
        firing = fires[keys[0]]
        if share == 1 and len(firing) == len(item):
            reached = trained
        else:
            other = circuits.part(partner, share, *seed, "part of partner")
            reached = circuits.reach(on, np.union1d(firing, other), wired)
        for circuit, name in keys:
            sent[circuit, name] = synapses.fired(trained[circuit], reached[circuit], circuit.k_a)
    return sent
