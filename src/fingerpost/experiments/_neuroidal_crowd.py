"""Many memories in one graph: each raises synapses of its own, and any firing meets those of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments import _neuroidal_circuits as circuits

if TYPE_CHECKING:
    from fingerpost.experiments.join_link_composition import Config

np = lazy_import("numpy")

KINDS = ("A and B", "A and D", "D and E")


def settings(config: Config) -> list[circuits.Circuit]:
    """The circuits that graphs are filled with."""
    whole, k = 2 * config.k, config.k
    steps = [by for by in config.lowered if by in (0, 1)]
    via = [by for by in config.lowered if by in (3, 4)]
    return [
        *(circuits.Circuit("join-link", whole - by, k) for by in steps),
        *(circuits.Circuit("via-join", whole - by, k) for by in via),
        circuits.best_direct(config.n, config.degree, config.r),
    ]


def fill(config: Config, index: int) -> dict[str, dict[str, list[list[float]]]]:
    """Fills a graph with memories, and looks at a sample of neurons at each number of them.

    Returns:
      By circuit and by kind of firing, for each number of memories: the share of C that fires, and the neurons outside C
      that fire over r.
    """
    seed = (config.seed, "crowd", index)
    on = circuits.graph(config.n, config.degree, *seed)
    into = circuits.projection(config.n, config.degree, *seed)
    wired = settings(config)
    synapses = circuits.Synapses(into, circuits.item(config.n, config.sample, *seed, "sample").neurons)
    raised = {circuit: np.zeros(len(synapses.source), bool) for circuit in wired}
    probes = [_probe(config, on, synapses, wired, seed, memory) for memory in range(config.crowd_probes)]
    found: dict[str, Any] = {circuit.name: {kind: [] for kind in KINDS} for circuit in wired}
    for memory in range(config.memories[-1]):
        _, _, reached, member = _memory(config, on, synapses, wired, seed, memory)
        rows = np.flatnonzero(member[synapses.place])
        for circuit in wired:
            raised[circuit][rows] |= reached[circuit][synapses.source[rows]]
        if memory + 1 in config.memories:
            for circuit in wired:
                for kind in KINDS:
                    looked = probes[: memory + 1]
                    found[circuit.name][kind].append(
                        _look(config, synapses, raised[circuit], circuit, kind, looked)
                    )
    return found


def _memory(
    config: Config,
    on: Any,
    synapses: circuits.Synapses,
    wired: list[circuits.Circuit],
    seed: Any,
    memory: int,
) -> tuple[Any, Any, dict[circuits.Circuit, Any], Any]:
    """A and B of a memory, what they reach, and which neurons of the sample belong to its C."""
    a, b, c = (circuits.item(config.n, config.r, *seed, memory, which) for which in "abc")
    inside = np.zeros(config.n, bool)
    inside[c.neurons] = True
    return a, b, circuits.reach(on, (a | b).neurons, wired), inside[synapses.target]


def _probe(
    config: Config,
    on: Any,
    synapses: circuits.Synapses,
    wired: list[circuits.Circuit],
    seed: Any,
    memory: int,
) -> dict[str, Any]:
    """What is reached by a memory's pair, by half of it with another item, and by two others."""
    a, _, reached, member = _memory(config, on, synapses, wired, seed, memory)
    d, e = (circuits.item(config.n, config.r, *seed, memory, which) for which in "de")
    return {
        "member": member,
        "A and B": reached,
        "A and D": circuits.reach(on, (a | d).neurons, wired),
        "D and E": circuits.reach(on, (d | e).neurons, wired),
    }


def _look(
    config: Config,
    synapses: circuits.Synapses,
    raised: Any,
    circuit: circuits.Circuit,
    kind: str,
    probes: Any,
) -> list[float]:
    inside = outside = members = 0
    for probe in probes:
        active = np.flatnonzero(raised & probe[kind][circuit][synapses.source])
        fires = np.bincount(synapses.place[active], minlength=config.sample) >= circuit.k_a
        inside += int((fires & probe["member"]).sum())
        outside += int((fires & ~probe["member"]).sum())
        members += int(probe["member"].sum())
    scale = config.n / config.sample / config.r / len(probes)
    return [inside / max(1, members), outside * scale]
