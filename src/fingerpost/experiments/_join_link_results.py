"""What join-link-composition shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.experiments import _join_link_claims as claims
from fingerpost.experiments import _neuroidal_circuits as circuits
from fingerpost.experiments._join_link_claims import (
    FALSE,
    KINDS,
    LIMIT,
    Chains,
    Crowds,
    crowded,
    falsely,
    frontiers,
    measured_capacity,
    passed,
    setting,
    signal,
    survives,
    usable,
    worst_kind,
)
from fingerpost.experiments._neuroidal_intervals import percent, summary
from fingerpost.lab import Run, legend_outside, new_figure

if TYPE_CHECKING:
    from fingerpost.experiments.join_link_composition import Config

np = lazy_import("numpy")
theory = lazy_import("fingerpost.neuroidal.theory")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
TITLES = {"join-link": "JOIN-LINK", "via-join": "JOIN’s neurons as relays", "link": "LINK in one step"}


def show(config: Config, run: Run, chains: Chains, filled: Crowds) -> None:
    """Tables, figures and claims."""
    from fingerpost.experiments import _neuroidal_crowd as crowd

    wired = circuits.settings(config)
    _signal_figure(config, run, chains)
    _price_figure(config, run, chains)
    _frontier_figure(config, run)
    _crowd_figure(config, run, filled, crowd.settings(config))
    _table(config, run, chains, wired)
    _crowd_table(config, run, filled, crowd.settings(config))
    _settings_table(config, run)
    claims.state(config, run, chains, filled, wired, crowd.settings(config))


def _signal_figure(config: Config, run: Run, chains: Chains) -> None:
    """Share of C that fires along the chain."""
    shown = [by for by in config.lowered if by <= 4]
    shown = sorted({shown[0], shown[len(shown) // 2], shown[-1]})
    figure, axes = new_figure(2, len(shown), width=12.0, height=7.4, sharex=True, sharey=True, squeeze=False)
    links = range(config.links + 1)
    direct = circuits.best_direct(config.n, config.degree, config.r)
    for row, form in zip(axes, ("join-link", "via-join")):
        for axis, by in zip(row, shown):
            circuit = circuits.Circuit(form, 2 * config.k - by, config.k)
            for x, colour in zip(config.first, COLOURS):
                curves = signal(chains, circuit, f"first {x:g}")
                axis.plot(
                    links, [x, *curves.mean(0)], color=colour, linestyle="-", label=f"first item {percent(x)}"
                )
            for q, line in zip(config.partners, ((0, (5, 2)), (0, (1, 1.2)))):
                curves = signal(chains, circuit, f"every {q:g}")
                axis.plot(
                    links,
                    [q, *curves.mean(0)],
                    color="0.35",
                    linestyle=line,
                    label=f"every item {percent(q)}",
                )
            curves = signal(chains, direct, f"first {min(config.first):g}")
            axis.plot(
                links,
                [min(config.first), *curves.mean(0)],
                color="0.6",
                linewidth=1,
                label="LINK, worst first item",
            )
            axis.set(title=f"{circuits.FORMS[form]}, k_m = {circuit.k_m}", ylim=(-0.03, 1.05))
    for axis in axes[1]:
        axis.set(xlabel="links")
    for axis in axes[:, 0]:
        axis.set(ylabel="share of C that fires")
    legend_outside(figure, axes[0, 0], columns=4)
    caption = f"Each C is joined with a fresh item. k_a = {config.k}; means of {config.graphs} chains. {setting(config)}."
    run.figure("signals", figure, title="Noise along a chain", caption=caption)


def _price_figure(config: Config, run: Run, chains: Chains) -> None:
    """What lowering k_m buys, the noise that a chain survives, over what it costs, false firing."""
    figure, axes = new_figure(2, 2, width=11.4, height=7.6, sharex=True, sharey="row")
    for column, form in zip(axes.T, ("join-link", "via-join")):
        for less, colour in zip(config.lowered_k_a, COLOURS):
            wired = [circuits.Circuit(form, 2 * config.k - by, config.k - less) for by in config.lowered]
            lost = [_survived(config, chains, circuit) for circuit in wired]
            column[0].plot(
                config.lowered,
                lost,
                marker="o",
                linestyle="-",
                color=colour,
                label=f"k_a = {config.k - less}",
            )
        for kind, colour, marker in zip(("D and E", "A and D", "A"), COLOURS[1:], "soD"):
            wired = [circuits.Circuit(form, 2 * config.k - by, config.k) for by in config.lowered]
            found = [summary(falsely(chains, circuit, kind)) for circuit in wired]
            bars = [0 if interval is None else (interval[1] - interval[0]) / 2 for _, interval in found]
            column[1].errorbar(
                config.lowered, [mean for mean, _ in found], bars, linestyle="", marker=marker, color=colour,
                label="A fires" if kind == "A" else f"{kind} fire", markersize=9 - 2 * "soD".index(marker),
            )  # fmt: skip
            steps = range(max(config.lowered) + 1)
            line = [
                theory.interference(
                    config.n,
                    config.degree,
                    config.r,
                    circuits.Circuit(form, 2 * config.k - by, config.k),
                    kind,
                )
                for by in steps
            ]
            column[1].plot(steps, line, linestyle="-", marker="", color=colour)
        column[0].set(title=TITLES[form])
        column[1].set_xticks(range(max(config.lowered) + 1))
        column[1].axhline(0.5, color="0.5", linewidth=1, linestyle=":")
        column[1].set(xlabel=f"lowering of k_m below {2 * config.k}", ylim=(-0.03, 1.05))
    axes[0, 0].set(ylabel="noise in the first item\nthat a chain survives")
    axes[1, 0].set(ylabel="share of C that fires")
    axes[0, 0].legend(loc="upper left")
    axes[1, 1].legend(loc="upper left")
    caption = (
        f"Above: the largest silent share of the first item, of those tried, after which C is recognised at each of "
        f"{config.links} links on every graph. Below, k_a = {config.k}: marks on graphs with intervals, lines in "
        f"theory; dotted: C is recognised. {setting(config)}."
    )
    run.figure("price", figure, title="What lowering buys, and what it costs", caption=caption)


def _survived(config: Config, chains: Chains, circuit: circuits.Circuit) -> float:
    """The largest noise in the first item that all chains survive; NaN if none, not even no noise."""
    noises = [round(1 - x, 6) for x in config.first if survives(chains, circuit, f"first {x:g}")]
    return max(noises, default=math.nan)


def _frontier_figure(config: Config, run: Run) -> None:
    figure, axis = new_figure(width=8.0, height=5.0)
    for (form, best), colour, marker in zip(
        frontiers(config.n, config.degree, config.r, config.k).items(), COLOURS, "os^"
    ):
        shown = [one for one in best if one.upper <= 0.3]
        axis.plot(
            [one.upper for one in shown], [one.false for one in shown], color=colour, marker=marker, markersize=5,
            linestyle="-", label=TITLES[form],
        )  # fmt: skip
    axis.axhline(0.5, color="0.5", linewidth=1, linestyle=":")
    axis.set(
        xlabel="upper noise margin",
        ylabel="share of C that fires\nfor A and another item",
        ylim=(-0.03, 1.05),
    )
    axis.legend(loc="lower right")
    caption = (
        "In theory, over all thresholds k_m and k_a of a wide grid: those that no others of the same form beat in margin and "
        f"false firing at once. Dotted: above it C is recognised. {setting(config)}."
    )
    run.figure("frontier", figure, title="Margin against specificity, at any thresholds", caption=caption)


def _crowd_figure(config: Config, run: Run, filled: Crowds, wired: list[circuits.Circuit]) -> None:
    figure, axes = new_figure(1, 2, width=12.0, height=5.4)
    fine = np.unique(np.geomspace(1, config.memories[-1], 60).round())
    for circuit, colour, marker in zip(wired, COLOURS, "os^Dv<>"):
        found = [summary(list(values)) for values in crowded(filled, circuit, "D and E")[..., 0].T]
        bars = [0 if interval is None else (interval[1] - interval[0]) / 2 for _, interval in found]
        axes[0].errorbar(
            config.memories, [mean for mean, _ in found], bars, linestyle="", marker=marker, markersize=5, color=colour,
            label=circuit.label,
        )  # fmt: skip
        line = theory.crowding(config.n, config.degree, config.r, circuit, fine)
        axes[0].plot(fine, line, color=colour, linestyle="-", marker="")
        others = crowded(filled, circuit, "A and B")[..., 1].mean(0)
        axes[1].plot(config.memories, others, color=colour, linestyle="-", marker=marker, markersize=5)
    for axis in axes:
        axis.set_xscale("log", base=2)
        ticks = [m for m in (1, 4, 16, 64, 256, 1024) if m <= config.memories[-1]]
        axis.set_xticks(ticks, [str(m) for m in ticks])
        axis.minorticks_off()
        axis.set(xlabel="memories in the graph")
    axes[0].set(ylabel="share of C that fires", title="Two other items fire", ylim=(-0.03, 1.05))
    axes[1].set(ylabel="others that fire, over r", title="A and B fire")
    legend_outside(figure, axes[0], columns=3)
    caption = (
        f"Marks on {config.crowd_graphs} graphs, {config.crowd_probes} memories looked at in each, synapses of "
        f"{config.sample:,} neurons followed; lines left in theory. Right: neurons outside C that fire "
        f"for its own pair. {setting(config)}."
    )
    run.figure("crowd", figure, title="Memories that share a graph", caption=caption)


def _table(config: Config, run: Run, chains: Chains, wired: list[circuits.Circuit]) -> None:
    rows = []
    for circuit in wired:
        size = min(min(chain[circuit.name]["size"]) for chain in chains)
        noise = _survived(config, chains, circuit)
        every = [survives(chains, circuit, f"every {q:g}") for q in config.partners]
        shares = [summary(falsely(chains, circuit, kind))[0] for kind in KINDS]
        kind, worst = worst_kind(chains, circuit)
        margins = circuits.margins(config.n, config.degree, config.r, circuit, np.linspace(0, 1, 2001))
        rows.append([circuit.label, size, margins.upper, noise, *every, *shares])
        rows[-1] += [
            f"{percent(worst.share)} ({kind})" if worst.share else "0",
            usable(config, chains, circuit),
        ]
    heads = [
        "circuit",
        "smallest C",
        "upper margin",
        "noise survived",
        *(f"every {percent(q)}" for q in config.partners),
    ]
    heads += [*KINDS, "recognised falsely", "usable"]
    probes = config.probed * config.graphs
    caption = (
        f"Smallest C: smallest share of C that fires for A and B, over {config.links} links and {config.graphs} graphs. "
        "Upper margin: of the theory's transfer curve, both inputs alike. Noise survived: largest silent share of the first "
        "item, of those tried, after which C is recognised at every link on every graph; then whether that holds with every "
        "item noisy. Then the mean share of C that fires when it should not, and how often C is recognised by the worst of "
        f"these, of {probes} trials each. Usable: survives a tenth of noise in the first item, and is falsely recognised in at "
        f"most {percent(FALSE)} of trials of each kind. {setting(config)}."
    )
    run.table("circuits", Table(heads, rows, title="Stability and specificity", caption=caption))


def _settings_table(config: Config, run: Run) -> None:
    """The best margins in the three graphs of Valiant's tables, by theory."""
    worlds = {(n, degree, k): r for (n, degree, k, steps), r in theory.PRINTED.items() if steps == 1}
    if worlds.get((config.n, config.degree, config.k)) != config.r:
        return
    rows = []
    for (n, degree, k), r in worlds.items():
        for form, one in claims.best_margins(n, degree, r, k).items():
            row = [n, degree, r, TITLES[form]]
            rows.append([*row, *((one.circuit.label, one.upper, one.false) if one else ("none", 0.0, None))])
    heads = ["n", "d", "r", "circuit", "thresholds", "upper margin", "A and D"]
    caption = (
        "The largest upper noise margin of each form over k_m from 2 k − 10 to 2 k + 4 and k_a from k/2 to 2 k + 2, in theory, "
        "of those by which A and another item fire at most half of C; the last column: that share."
    )
    run.table(
        "settings", Table(heads, rows, title="The best thresholds in Valiant’s graphs", caption=caption)
    )


def _crowd_table(config: Config, run: Run, filled: Crowds, wired: list[circuits.Circuit]) -> None:
    rows = []
    for circuit in wired:
        expected = theory.crowding(config.n, config.degree, config.r, circuit, np.array(config.memories))
        found = {kind: crowded(filled, circuit, kind).mean(0) for kind in ("A and B", "A and D", "D and E")}
        for place, memories in enumerate(config.memories):
            row = [circuit.label, memories, *(float(found[kind][place, 0]) for kind in found)]
            rows.append(
                [
                    *row,
                    float(expected[place]),
                    float(found["A and B"][place, 1]),
                    float(found["D and E"][place, 1]),
                ]
            )
    heads = [
        "circuit",
        "memories",
        "A and B",
        "A and D",
        "D and E",
        "D and E, theory",
        "others of A and B",
        "others of D and E",
    ]
    limits = "; ".join(
        f"{circuit.label}: {passed(measured_capacity(config, filled, circuit))}" for circuit in wired
    )
    caption = (
        "Share of C that fires, mean over memories and graphs, by what fires; others: neurons outside C that fire, over r. "
        f"Memories at which D and E first fire more than {percent(LIMIT)} of C: {limits}. {setting(config)}."
    )
    run.table("crowd", Table(heads, rows, title="Memories that share a graph", caption=caption))
