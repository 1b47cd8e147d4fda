"""What join-instability shows and claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.experiments import _join_chains as chains
from fingerpost.experiments import _join_valiant as valiant
from fingerpost.experiments._neuroidal_intervals import (
    BEAL,
    SOURCE,
    SPECIFICATION,
    mean_and_error,
    percent,
    share,
    summary,
)
from fingerpost.lab import Claim, Run, legend_outside, new_figure

if TYPE_CHECKING:
    from fingerpost.experiments.join_instability import Config

np = lazy_import("numpy")
theory = lazy_import("fingerpost.neuroidal.theory")

Curve = list[list[list[float]]]
Chains = Mapping[chains.Kind, list[list[list[int]]]]
PRINTED = {0.9: 0.26, 0.95: 0.53, 1.0: 1.0, 1.05: 1.75, 1.1: 2.86}
PRINTED_SETTING = (100_000, 512, 16, 2134)
ROUNDING = 0.01 / math.sqrt(12)
"""Standard deviation of what is lost when a number is printed to the hundredth."""
FEW = 5
COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00")


def show(config: Config, run: Run, curve: Curve, stored: dict[str, Any] | None, found: Chains) -> None:
    """Tables, figures and claims."""
    expected = {
        kind: chains.expected_sizes(
            config.n, config.degree, _r(config, kind), config.k, kind, len(found[kind][0]) - 1, config.seed
        )
        for kind in found
    }
    _curve_table(config, run, curve)
    _curve_figure(config, run, curve)
    _chain_figure(config, run, found)
    _share_figure(config, run, found, expected)
    _chain_table(config, run, found, expected)
    valiant.table(run)
    _claim_curve(config, run, curve)
    _claim_stored(config, run, curve, stored)
    _claim_chains(config, run, found, expected)
    valiant.state(config, run, found)


def setting(config: Config) -> str:
    """What stands beside every figure."""
    return (
        f"n = {config.n:,}, d = {config.degree}, k = {config.k}, k_m = {2 * config.k}, r = {config.r} "
        f"(two-step {config.r_two_step})"
    )


def _r(config: Config, kind: chains.Kind) -> int:
    return config.r if kind.steps == 1 else config.r_two_step


# The size curve.


def _theory(config: Config, size: float) -> float:
    count = round(size * config.r)
    return float(theory.size_map(config.n, config.degree, count, count, config.k)) / config.r


def _values(curve: Curve, place: int) -> list[float]:
    return [value for graph in curve for value in graph[place]]


def _means(curve: Curve, place: int) -> list[float]:
    return [math.fsum(graph[place]) / len(graph[place]) for graph in curve]


def _printed(config: Config, size: float) -> float | None:
    """Beal & Knight's value, if this is the setting that it is thought to belong to."""
    same = (config.n, config.degree, config.k, config.r) == PRINTED_SETTING
    return PRINTED.get(size) if same else None


def _scores(config: Config, curve: Curve, place: int) -> tuple[float, float | None]:
    """Scores z against the binomial theory and against the printed value, whose rounding counts as error."""
    size = config.sizes[place]
    mean, error = mean_and_error(_values(curve, place))
    printed = _printed(config, size)
    against = None if printed is None else (mean - printed) / math.hypot(error, ROUNDING)
    return (mean - _theory(config, size)) / error, against


def _curve_table(config: Config, run: Run, curve: Curve) -> None:
    rows = []
    for place, size in enumerate(config.sizes):
        mean, interval = summary(_means(curve, place))
        low, high = interval or (math.nan, math.nan)
        z_theory, z_printed = _scores(config, curve, place)
        rows.append([size, mean, f"{low:.4f} … {high:.4f}", _theory(config, size), z_theory])
        rows[-1] += [_printed(config, size), z_printed]
    heads = [
        "size of A and B over r",
        "size of C over r",
        "interval",
        "theory",
        "z",
        "printed",
        "z, with rounding",
    ]
    caption = (
        f"One-step JOIN, {setting(config)}; {config.graphs} graphs with {config.pairs} pairs of random items each, intervals "
        "over graphs. Theory: n B(2s − s²/n, p, k_m). z by the standard error over all pairs; a printed value's rounding "
        "to the hundredth counts as error. Which setting Beal & Knight printed is inferred from the values."
    )
    run.table("sizes", Table(heads, rows, title="The size curve in numbers", caption=caption, digits=4))


def _curve_figure(config: Config, run: Run, curve: Curve) -> None:
    figure, axis = new_figure(width=7.6, height=4.8)
    sizes = np.linspace(min(config.sizes) - 0.05, max(config.sizes) + 0.05, 61)
    axis.semilogy(
        sizes, [_theory(config, s) for s in sizes], linestyle="-", color=COLOURS[0], label="binomial theory"
    )
    axis.semilogy(sizes, sizes, color="0.5", linestyle=":", label="as large as its parents")
    means = [summary(_means(curve, place)) for place in range(len(config.sizes))]
    bars = [0 if interval is None else (interval[1] - interval[0]) / 2 for _, interval in means]
    axis.errorbar(
        config.sizes, [mean for mean, _ in means], bars, linestyle="", marker="o", color="#000000", label="on graphs"
    )  # fmt: skip
    printed = [(size, _printed(config, size)) for size in config.sizes if _printed(config, size)]
    if printed:
        axis.plot(*zip(*printed), linestyle="", marker="x", markersize=12, color=COLOURS[2], label="printed")
    axis.set(xlabel="size of A and of B, over r", ylabel="size of C, over r")
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10) if axis.get_ylim()[0] <= t <= axis.get_ylim()[1]]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.legend(loc="upper left")
    caption = f"One-step JOIN, {setting(config)}; {config.graphs} graphs, {config.pairs} pairs each."
    run.figure("size-curve", figure, title="Five per cent in, a half out", caption=caption)


def _claim_curve(config: Config, run: Run, curve: Curve) -> None:
    scores = [_scores(config, curve, place) for place in range(len(config.sizes))]
    note = f"{config.graphs} graphs, {config.pairs} pairs each; one-step JOIN, {setting(config)}"
    printed = [score for _, score in scores if score is not None]
    alone = max(float(np.std(_values(curve, place))) for place in range(len(config.sizes)))
    for name, values, statement, source in (
        ("printed-sizes", printed, "Measured sizes are the printed ones.", f"{BEAL}, by the {SPECIFICATION}"),
        (
            "theory-sizes",
            [z for z, _ in scores],
            "Measured sizes are those of binomial theory.",
            SPECIFICATION,
        ),
    ):
        if not values:
            continue
        run.claim(
            Claim(
                name=name,
                statement=statement,
                source=source,
                expected="|z| ≤ 3",
                measured=max(values, key=abs),
                low=-3.0,
                high=3.0,
                unit="z, the largest over sizes",
                note=f"{note}; a single JOIN varies by up to {alone:.2g} r",
            )
        )
    low, high = _nearest(config.sizes, 0.95), _nearest(config.sizes, 1.05)
    slopes = [
        math.log(_mean(graph[high]) / _mean(graph[low])) / math.log(config.sizes[high] / config.sizes[low])
        for graph in curve
    ]
    mean, interval = summary(slopes)
    run.claim(
        Claim(
            name="small-variations-amplified",
            statement="A JOIN greatly amplifies small variations in the size of its items.",
            source=SOURCE,
            expected="≥ 5",
            measured=mean,
            low=5.0,
            interval=interval,
            decided_by="interval",
            unit="d log |C| / d log |A|, both items varied",
            note=f"between {config.sizes[low]:g} r and {config.sizes[high]:g} r; {note}",
        )
    )


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _nearest(sizes: tuple[float, ...], size: float) -> int:
    return min(range(len(sizes)), key=lambda place: abs(sizes[place] - size))


def _claim_stored(config: Config, run: Run, curve: Curve, stored: dict[str, Any] | None) -> None:
    if stored is None:
        return
    run.claim(
        Claim(
            name="stored-copy",
            statement="The graph that is generated gives the JOIN of its stored copy, neuron by neuron.",
            source="fingerpost: its own check",
            expected="0",
            measured=stored["differ"],
            high=0,
            unit=f"neurons that differ, of {stored['size']}",
        )
    )
    if 1.0 in config.sizes:
        ours, error = mean_and_error(_values(curve, config.sizes.index(1.0)))
        theirs, other = mean_and_error(stored["sizes"])
        run.claim(
            Claim(
                name="stored-graph",
                statement="A stored graph drawn by other means gives the same sizes.",
                source="fingerpost: its own check",
                expected="|z| ≤ 3",
                measured=(ours - theirs) / math.hypot(error, other),
                low=-3.0,
                high=3.0,
                unit="z of the mean size at r",
                note=f"{ours:.4f} r and {theirs:.4f} r; {len(stored['sizes'])} pairs on the stored graph",
            )
        )


# Chains.

Event = Callable[[Any, int, int], Any]


def ended(sizes: Any, n: int, r: int) -> Any:
    """No neurons, or nearly the entire graph."""
    return (sizes == 0) | (sizes > chains.NEARLY_ALL * n)


def alive(sizes: Any, n: int, r: int) -> Any:
    """Between half and twice r."""
    return (2 * sizes >= r) & (sizes <= 2 * r)


def _level(found: list[list[list[int]]], level: int) -> Any:
    return np.array([size for graph in found for size in graph[level]])


def _share(config: Config, found: Chains, kind: chains.Kind, level: int, event: Event) -> Any:
    sizes = _level(found[kind], level)
    return share(int(event(sizes, config.n, _r(config, kind)).sum()), len(sizes))


def _chain_figure(config: Config, run: Run, found: Chains) -> None:
    figure, axes = new_figure(2, 2, width=11.0, height=7.6, sharey=True, sharex=True)
    for axis, kind, colour in zip(axes.flat, chains.KINDS, COLOURS):
        levels = [_level(found[kind], level)[:24] for level in range(len(found[kind][0]))]
        if kind.tree:
            for level, sizes in enumerate(levels):
                axis.plot(
                    [level] * len(sizes),
                    sizes,
                    linestyle="",
                    marker="o",
                    markersize=4,
                    color=colour,
                    alpha=0.5,
                )
        else:
            axis.plot(np.stack(levels), linestyle="-", linewidth=1, color=colour, alpha=0.6)
        axis.axhline(_r(config, kind), color="0.3", linewidth=1, linestyle=":")
        axis.set_yscale("symlog", linthresh=10)
        axis.set_yticks([0, 10, 100, 1e3, 1e4, 1e5], ["0", "10", "100", "1,000", "10,000", "100,000"])
        axis.set(title=kind.label[0].upper() + kind.label[1:], ylim=(-1, 1.6 * config.n))
        axis.minorticks_off()
    for axis in axes[1]:
        axis.set(xlabel="JOINs behind the item")
    for axis in axes[:, 0]:
        axis.set(ylabel="neurons of the item")
    caption = (
        f"Up to 24 items of each number of JOINs; dotted: r. {setting(config)}; {config.chain_graphs} graphs with "
        f"{config.chains} chains and {config.trees} tree(s) of 2^{config.depth} fresh items of each kind."
    )
    run.figure("chains", figure, title="Chained JOINs die or explode", caption=caption)


def _share_figure(config: Config, run: Run, found: Chains, expected: Mapping[chains.Kind, Any]) -> None:
    figure, axes = new_figure(1, 2, width=11.4, height=4.8, sharey=True)
    for axis, event, title in (
        (axes[0], alive, "Between r/2 and 2 r"),
        (axes[1], ended, "None, or over 90 % of the graph"),
    ):
        for place, (kind, colour) in enumerate(zip(chains.KINDS, COLOURS)):
            steps = np.arange(len(found[kind][0]))
            axis.plot(
                steps, event(expected[kind], config.n, _r(config, kind)).mean(1), color=colour, linestyle="-"
            )
            shares = [_share(config, found, kind, level, event) for level in steps]
            bars = np.array([(max(0, s.share - s.low), max(0, s.high - s.share)) for s in shares]).T
            axis.errorbar(
                steps + 0.06 * (place - 1.5), [s.share for s in shares], bars, linestyle="", marker="os^D"[place],
                markersize=5, color=colour, label=kind.label,
            )  # fmt: skip
        axis.set(xlabel="JOINs behind the item", title=title)
    axes[0].set(ylabel="share of items")
    legend_outside(figure, axes[0], columns=2)
    caption = (
        "Marks: on graphs, with Clopper–Pearson intervals. Lines: the same chains if each size were a binomial draw given "
        f"those before it. {setting(config)}; {config.chain_graphs} graphs."
    )
    run.figure("shares", figure, title="How long a size lasts", caption=caption)


def _chain_table(config: Config, run: Run, found: Chains, expected: Mapping[chains.Kind, Any]) -> None:
    rows = []
    for kind in chains.KINDS:
        for level in range(1, len(found[kind][0])):
            sizes = _level(found[kind], level)
            held, end = (_share(config, found, kind, level, event) for event in (alive, ended))
            expects = float(alive(expected[kind][level], config.n, _r(config, kind)).mean())
            rows.append(
                [kind.label, level, len(sizes), held.share, f"{held.low:.2f} … {held.high:.2f}", expects]
            )
            rows[-1] += [end.share, float((sizes == 0).mean()), float(np.median(sizes)), int(sizes.max())]
    heads = [
        "chain",
        "JOINs",
        "items",
        "in [r/2, 2 r]",
        "interval",
        "theory",
        "ended",
        "of these empty",
        "median",
        "largest",
    ]
    caption = (
        f"Ended: no neurons, or more than {percent(chains.NEARLY_ALL)} of the graph. Theory: binomial draws given the sizes "
        f"and the overlap of what is joined. {setting(config)}; {config.chain_graphs} graphs."
    )
    run.table("chains", Table(heads, rows, title="Chains in numbers", caption=caption))


def _claim_chains(config: Config, run: Run, found: Chains, expected: Mapping[chains.Kind, Any]) -> None:
    for kind in chains.KINDS:
        if len(found[kind][0]) <= FEW:
            continue
        measured = _share(config, found, kind, FEW, ended)
        sizes = _level(found[kind], FEW)
        empty, most = int((sizes == 0).sum()), int(sizes.max())
        run.claim(
            Claim(
                name=f"ends-{kind.name}",
                statement=f"After a few JOINs an item has no neurons or nearly the entire graph ({kind.label}).",
                source=SOURCE,
                expected="≥ 0.9",
                measured=measured.share,
                low=0.9,
                interval=measured.interval,
                unit=f"share of items after {FEW} JOINs with none or over {percent(chains.NEARLY_ALL)} of all neurons",
                note=f"{len(sizes)} items on {config.chain_graphs} graphs, {empty} of them empty, the largest "
                f"{percent(most / config.n)} of the graph; within a factor 2 of r: "
                f"{percent(_share(config, found, kind, FEW, alive).share)}; {setting(config)}",
            )
        )
    worst, where = 0.0, ""
    for kind in chains.KINDS:
        for level in range(1, len(found[kind][0])):
            p = float(alive(expected[kind][level], config.n, _r(config, kind)).mean())
            count = len(_level(found[kind], level))
            if count * p * (1 - p) < 2:
                continue
            z = (_share(config, found, kind, level, alive).share - p) / math.sqrt(p * (1 - p) / count)
            if abs(z) > abs(worst):
                worst, where = z, f"{kind.label}, after {level}"
    run.claim(
        Claim(
            name="chains-as-theory",
            statement="How long chains stay within a factor 2 of r is what binomial draws make of it.",
            source="fingerpost: its own check",
            expected="|z| ≤ 4",
            measured=worst,
            low=-4.0,
            high=4.0,
            unit="z, the largest over kinds and steps",
            note=f"at {where}; {config.chain_graphs} graphs; {setting(config)}",
        )
    )
