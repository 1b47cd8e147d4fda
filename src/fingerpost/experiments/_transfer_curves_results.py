"""What transfer-curves shows and claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.experiments import _neuroidal_circuits as circuits
from fingerpost.experiments._neuroidal_intervals import SOURCE, SPECIFICATION, percent, summary
from fingerpost.lab import Claim, Run, legend_outside, new_figure

if TYPE_CHECKING:
    from fingerpost.experiments.transfer_curves import Config

np = lazy_import("numpy")
theory = lazy_import("fingerpost.neuroidal.theory")
Found = list[list[dict[str, list[float]]]]
BLUES = ("#08306B", "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7")
SLACK = 0.01
"""Share of C that theory may be off by, as one standard error: it leaves out how neurons differ in their inputs."""


def show(config: Config, run: Run, found: Found) -> None:
    """Tables, figures and claims."""
    _join_figure(config, run, found)
    _circuit_figure(config, run, found)
    _margin_figure(config, run, found)
    _margin_table(config, run, found)
    _claim_join(config, run, found)
    _claim_circuits(config, run, found)
    _claim_theory(config, run, found)


def setting(config: Config) -> str:
    """What stands beside every figure."""
    return (
        f"n = {config.n:,}, d = {config.degree}, k_a = {config.k} and k_m = {2 * config.k} before lowering, r = {config.r}; "
        f"{config.graphs} graphs, {config.pairs} pairs each"
    )


def curves(found: Found, name: str) -> Any:
    """The mean curve of each graph, shape (graphs, fractions)."""
    return np.array([[pair[name] for pair in graph] for graph in found]).mean(1)


def expected(config: Config, name: str, x: Any) -> Any:
    """The expected curve of a circuit's or a JOIN's name."""
    x = np.asarray(x, float)
    world, part = (config.n, config.degree), config.r * x
    if name in _circuits(config):
        return theory.transfer_curve(*world, part, part, _circuits(config)[name])
    if name == "two-step":
        sizes = [theory.size_map(*world, size, size, config.k, steps=2) for size in (part, config.r)]
        return sizes[0] / sizes[1]
    threshold = int(name.rpartition("-")[2])
    k_m = 2 * config.k if name.startswith("recall-") else threshold
    recall = k_m - threshold if name.startswith("recall-") else k_m
    return theory.recall_curve(*world, config.r, config.r, x, x, k_m, recall=recall)


def _circuits(config: Config) -> dict[str, circuits.Circuit]:
    return {circuit.name: circuit for circuit in circuits.settings(config)}


def _draw(
    config: Config, axis: Any, found: Found, name: str, label: str, colour: str, line: Any = "-"
) -> None:
    """One curve: theory as a line, graphs as marks with intervals."""
    x = np.linspace(max(0.5, config.fractions[0]), 1, 76)
    axis.plot(x, expected(config, name, x), color=colour, linestyle=line, marker="", label=label)
    shown = [place for place, fraction in enumerate(config.fractions) if fraction >= x[0]]
    measured = [summary(list(values)) for values in curves(found, name).T[shown]]
    bars = [0 if interval is None else (interval[1] - interval[0]) / 2 for _, interval in measured]
    x = [config.fractions[place] for place in shown]
    means = [mean for mean, _ in measured]
    axis.errorbar(x, means, bars, linestyle="", marker="o", markersize=4, color=colour)


def _frame(axis: Any, title: str, low: float = 0.5) -> None:
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":", marker="")
    axis.set(xlabel="share of A and of B that fires", title=title, xlim=(low, 1.01), ylim=(-0.02, 1.03))


def _join_figure(config: Config, run: Run, found: Found) -> None:
    figure, axes = new_figure(1, 2, width=11.4, height=5.0, sharey=True)
    k_m = 2 * config.k
    _draw(config, axes[0], found, f"join-{k_m}", f"k_m = {k_m}", BLUES[1])
    _draw(config, axes[0], found, "two-step", f"two steps, k = {config.k}", BLUES[3], "--")
    lowest = max(config.lowered)
    if lowest:
        _draw(config, axes[0], found, f"join-{k_m - lowest}", f"k_m = {k_m - lowest}", BLUES[5], "-.")
    for by, colour in zip(config.recall, BLUES[1:]):
        _draw(config, axes[1], found, f"recall-{by}", f"recalled at {k_m - by}", colour)
    _frame(axes[0], "JOIN")
    _frame(axes[1], f"Formed at {k_m}, recalled lower")
    axes[0].set(ylabel="share of C that fires")
    for axis in axes:
        axis.legend(loc="upper left")
    caption = f"Marks on graphs, lines in theory; dotted: as much out as in. The table counts others. {setting(config)}."
    run.figure("join", figure, title="JOIN loses signal from the first silent neuron", caption=caption)


def _circuit_figure(config: Config, run: Run, found: Found) -> None:
    figure, axes = new_figure(1, 2, width=11.4, height=5.2, sharey=True)
    direct = circuits.best_direct(config.n, config.degree, config.r)
    for axis, form in zip(axes, ("join-link", "via-join")):
        for by, colour in zip(config.lowered, BLUES):
            k_m = 2 * config.k - by
            _draw(config, axis, found, circuits.Circuit(form, k_m, config.k).name, f"k_m = {k_m}", colour)
        _draw(config, axis, found, direct.name, f"LINK, k = {direct.k_a}", "#000000", (0, (1, 1.2)))
        _frame(axis, circuits.FORMS[form] if form == "join-link" else "JOIN’s neurons as relays")
    axes[0].set(ylabel="share of C that fires")
    legend_outside(figure, axes[0], columns=3)
    caption = (
        f"k_a = {config.k}. Marks on graphs, lines in theory; dotted: as much out as in. {setting(config)}."
    )
    run.figure("circuits", figure, title="Lowered thresholds move the curve from the corner", caption=caption)


def measured_margins(config: Config, found: Found, name: str) -> list[tuple[float, float]]:
    """Lower and upper margin on each graph, from the fractions that were measured: no larger than the curve's own."""
    x = np.concatenate([[0.0], config.fractions])
    return [theory.noise_margin(x, np.concatenate([[0.0], curve])) for curve in curves(found, name)]


def expected_margins(config: Config, circuit: circuits.Circuit) -> tuple[float, float]:
    """The same of the theory's curve."""
    return circuits.margins(config.n, config.degree, config.r, circuit, np.linspace(0, 1, 2001))


def _margin_figure(config: Config, run: Run, found: Found) -> None:
    figure, axes = new_figure(1, 2, width=11.4, height=4.8, sharey=True)
    steps = list(range(max(config.lowered) + 1))
    for axis, form in zip(axes, ("join-link", "via-join")):
        for less, colour in zip(config.lowered_k_a, (BLUES[1], BLUES[3], BLUES[5])):
            wired = [circuits.Circuit(form, 2 * config.k - by, config.k - less) for by in steps]
            line = [expected_margins(config, circuit)[1] for circuit in wired]
            axis.plot(steps, line, color=colour, linestyle="-", marker="", label=f"k_a = {config.k - less}")
            for by in config.lowered:
                mean, interval = summary(
                    [high for _, high in measured_margins(config, found, wired[by].name)]
                )
                bar = 0 if interval is None else (interval[1] - interval[0]) / 2
                axis.errorbar([by], [mean], [bar], linestyle="", marker="o", markersize=5, color=colour)
        axis.set(
            xlabel=f"lowering of k_m below {2 * config.k}",
            title=circuits.FORMS[form] if form == "join-link" else "JOIN’s neurons as relays",
        )
        axis.set_xticks(steps)
    axes[0].set(ylabel="upper noise margin")
    axes[0].legend(loc="upper left")
    caption = (
        "The largest share of C above the share of A and B, which is at the point of unity gain. Marks on graphs, from the "
        f"measured fractions only, lines in theory. {setting(config)}."
    )
    run.figure("margins", figure, title="The upper margin that lowering buys", caption=caption)


def _margin_table(config: Config, run: Run, found: Found) -> None:
    rows = []
    joins = [f"join-{2 * config.k - by}" for by in config.lowered] + ["two-step"]
    for name in joins:
        low, high = zip(*measured_margins(config, found, name))
        x = np.linspace(1e-6, 1, 2001)
        rows.append(
            [
                _join_label(config, name),
                *_cells(low, high),
                *theory.noise_margin(x, expected(config, name, x)),
            ]
        )
        rows[-1] += [_full(found, name), None]
    for by in config.recall[1:]:
        low, high = zip(*measured_margins(config, found, f"recall-{by}"))
        x = np.linspace(1e-6, 1, 2001)
        rows.append([f"JOIN, formed at {2 * config.k}, recalled at {2 * config.k - by}", *_cells(low, high)])
        rows[-1] += [
            *theory.noise_margin(x, expected(config, f"recall-{by}", x)),
            _full(found, f"recall-{by}"),
        ]
        rows[-1].append(float(curves(found, f"outside-{by}")[:, -1].mean()))
    for circuit in _circuits(config).values():
        low, high = zip(*measured_margins(config, found, circuit.name))
        rows.append(
            [
                circuit.label,
                *_cells(low, high),
                *expected_margins(config, circuit),
                _full(found, circuit.name),
                0.0,
            ]
        )
    heads = [
        "circuit",
        "lower margin",
        "upper margin",
        "interval",
        "lower, theory",
        "upper, theory",
        "full output",
    ]
    caption = (
        "Margins: largest differences between input and output share below and above the threshold, on the mean curve of each "
        "graph over the measured fractions; intervals over graphs. Full output: share of C at full input. Others: neurons "
        "outside C that fire at full input, over the size of C; raised synapses lead to C alone, and a JOIN at its own "
        f"threshold fires C by definition. {setting(config)}."
    )
    run.table("margins", Table([*heads, "others, over C"], rows, title="Noise margins", caption=caption))


def _join_label(config: Config, name: str) -> str:
    return (
        f"JOIN, two steps, k = {config.k}" if name == "two-step" else f"JOIN, k_m = {name.rpartition('-')[2]}"
    )


def _cells(low: Any, high: Any) -> list[Any]:
    mean, interval = summary(high)
    return [sum(low) / len(low), mean, f"{interval[0]:.3f} … {interval[1]:.3f}" if interval else ""]


def _full(found: Found, name: str) -> float:
    return float(curves(found, name)[:, -1].mean())


# Claims.


def _largest_gain(config: Config, found: Found, name: str) -> tuple[float, tuple[float, float] | None]:
    """The largest mean of y − x over the measured fractions below 1, with its interval."""
    difference = curves(found, name)[:, :-1] - np.array(config.fractions[:-1])
    best = int(difference.mean(0).argmax())
    return summary(list(difference[:, best]))


def _claim_join(config: Config, run: Run, found: Found) -> None:
    k_m, note = 2 * config.k, setting(config)
    mean, interval = _largest_gain(config, found, f"join-{k_m}")
    run.claim(
        Claim(
            name="join-no-upper-margin",
            statement="JOIN has no upper noise margin: at no share of input does more of C fire.",
            source=SOURCE,
            expected="≤ 0",
            measured=mean,
            high=0.0,
            interval=interval,
            decided_by="interval",
            unit="share of C less share of A and B, the largest over shares below 1",
            note=note,
        )
    )
    last = config.fractions[-2]
    losses = [(1 - curve[-2]) / (1 - last) for curve in curves(found, f"join-{k_m}")]
    mean, interval = summary(losses)
    run.claim(
        Claim(
            name="join-degrades",
            statement="Minimal noise degrades JOIN's signal significantly.",
            source=SOURCE,
            expected="≥ 5",
            measured=mean,
            low=5.0,
            interval=interval,
            decided_by="interval",
            unit="share of C lost over share of A and B lost",
            note=f"at {percent(1 - last)} lost; {note}",
        )
    )
    lowered = [_largest_gain(config, found, f"join-{k_m - by}")[0] for by in config.lowered if by]
    if lowered:
        run.claim(
            Claim(
                name="lowering-needs-the-link",
                statement="Lowering k_m gives no upper margin to a JOIN without an association stage.",
                source=f"{SOURCE}: both changes are needed",
                expected="≤ 0",
                measured=max(lowered),
                high=0.0,
                unit="share of C less share of A and B, the largest over shares and thresholds",
                note=f"formed and recalled at k_m = {k_m - max(config.lowered)} … {k_m - 1}; {note}",
            )
        )
    _claim_recall(config, run, found)


def _claim_recall(config: Config, run: Run, found: Found) -> None:
    """What a JOIN recalled at a lower threshold fires besides C, where that gives a margin."""
    means = {
        by: summary([m[1] for m in measured_margins(config, found, f"recall-{by}")])[0]
        for by in config.recall
    }
    first = next((by for by, margin in sorted(means.items()) if margin >= circuits.ADEQUATE), None)
    if first is None:
        return
    mean, interval = summary(list(curves(found, f"outside-{first}")[:, -1]))
    run.claim(
        Claim(
            name="lowered-recall-fires-others",
            statement="A JOIN whose threshold is lowered at recall to gain an upper margin fires more others than C.",
            source="fingerpost: the source does not count what else fires",
            expected="> 1",
            measured=mean,
            low=1.0,
            interval=interval,
            decided_by="interval",
            unit="neurons outside C that fire, over the size of C",
            note=f"recalled at {2 * config.k - first}, upper margin {means[first]:.3f}; {setting(config)}",
        )
    )


def _upper(
    config: Config, found: Found, circuit: circuits.Circuit
) -> tuple[float, tuple[float, float] | None]:
    return summary([high for _, high in measured_margins(config, found, circuit.name)])


def _claim_circuits(config: Config, run: Run, found: Found) -> None:
    k_m, note = 2 * config.k, setting(config)
    plain = circuits.Circuit("join-link", k_m, config.k)
    ratios = [
        a / b for a, b in zip(_widths(config, found, f"join-{k_m}"), _widths(config, found, plain.name))
    ]
    mean, interval = summary(ratios)
    run.claim(
        Claim(
            name="link-steepens",
            statement="The association stage steepens the transfer curve.",
            source=SOURCE,
            expected="> 1",
            measured=mean,
            low=1.0,
            interval=interval,
            decided_by="interval",
            unit="input between 10 % and 90 % of C, of JOIN over JOIN-LINK",
            note=f"k_m = {k_m}, k_a = {config.k}; between measured fractions the curve is taken as straight; {note}",
        )
    )
    mean, interval = _upper(config, found, plain)
    run.claim(
        Claim(
            name="unlowered-margin-too-small",
            statement="Without lowered thresholds JOIN-LINK still has no adequate upper margin.",
            source=f"{SOURCE}, which lowers them for that",
            expected=f"< {circuits.ADEQUATE:g}",
            measured=mean,
            high=circuits.ADEQUATE,
            interval=interval,
            decided_by="interval",
            unit="upper margin",
            note=note,
        )
    )
    for form in ("join-link", "via-join") if max(config.lowered) else ():
        circuit = circuits.Circuit(form, k_m - max(config.lowered), config.k)
        mean, interval = _upper(config, found, circuit)
        run.claim(
            Claim(
                name=f"lowered-margin-{form}",
                statement="Slightly lowered thresholds give an adequate upper margin"
                + ("." if form == "join-link" else ", with JOIN's neurons as relays."),
                source=SOURCE,
                expected=f"≥ {circuits.ADEQUATE:g}",
                measured=mean,
                low=circuits.ADEQUATE,
                interval=interval,
                decided_by="interval",
                unit="upper margin",
                note=f"{circuit.label}; {note}",
            )
        )
    _claim_bottoms(config, run, found)


def _claim_bottoms(config: Config, run: Run, found: Found) -> None:
    lower = {
        name: min(m[0] for m in measured_margins(config, found, name))
        for name, circuit in _circuits(config).items()
        if circuit.form != "link"
    }
    worst = min(lower, key=lambda name: lower[name])
    run.claim(
        Claim(
            name="lower-margins",
            statement="Every JOIN-LINK has a flat bottom: an ample lower noise margin.",
            source=SOURCE,
            expected="≥ 0.25",
            measured=lower[worst],
            low=0.25,
            unit="lower margin, the smallest over circuits and graphs",
            note=f"at {_circuits(config)[worst].label}; {setting(config)}",
        )
    )


def _widths(config: Config, found: Found, name: str) -> list[float]:
    """Input from where 10 % of C fires to where 90 % does, on each graph."""
    x = np.concatenate([[0.0], config.fractions])
    return [
        float(np.diff(np.interp([0.1, 0.9], np.maximum.accumulate(np.concatenate([[0.0], curve])), x))[0])
        for curve in curves(found, name)
    ]


def _claim_theory(config: Config, run: Run, found: Found) -> None:
    joins = [f"join-{2 * config.k - by}" for by in config.lowered] + [f"recall-{by}" for by in config.recall]
    for called, names in (("join", [*joins, "two-step"]), ("circuits", list(_circuits(config)))):
        scores = {name: _scores(config, found, name) for name in names}
        name = max(scores, key=lambda one: float(np.abs(scores[one]).max()))
        place = int(np.abs(scores[name]).argmax())
        run.claim(
            Claim(
                name=f"theory-{called}",
                statement="Transfer curves on graphs are those of binomial theory"
                + (" (JOIN)." if called == "join" else " (JOIN-LINK and LINK)."),
                source=SPECIFICATION,
                expected="|z| ≤ 4",
                measured=float(scores[name][place]),
                low=-4.0,
                high=4.0,
                unit="z, the largest over inputs and circuits",
                note=f"{SLACK:g} of share is allowed to theory; at {name}, x = {config.fractions[place]:g}; {setting(config)}",
            )
        )


def _scores(config: Config, found: Found, name: str) -> Any:
    """Scores z of the mean over all pairs against theory, by fraction."""
    pairs = np.array([pair[name] for graph in found for pair in graph])
    error = pairs.std(0, ddof=1) / np.sqrt(len(pairs))
    return (pairs.mean(0) - expected(config, name, np.array(config.fractions))) / np.hypot(error, SLACK)
