"""The figures of td."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments import _td_own_fits as fits
from fingerpost.lab import Run, legend_outside, mean_interval, new_figure, paired_interval
from fingerpost.lab.style import PALETTE

if TYPE_CHECKING:
    from fingerpost.experiments.td import Config

np = lazy_import("numpy")

COLOURS = {
    "td": PALETTE[0],
    "td_once": PALETTE[2],
    "widrow_hoff": PALETTE[3],
    "regression": PALETTE[1],
    "mean": "0.45",
}
LONGEST = 40
"""Observations of a sequence that are drawn, and steps before its end."""
FEWEST = 8
"""Sequences that a mean at some step before the end needs, to be drawn."""


def by_lambda(config: Config, run: Run, found: dict[str, Any]) -> None:
    """Held-out error by λ, in the limit and after one presentation, and what it gains on λ = 1."""
    picture, axes = new_figure(1, 3, width=12.6, height=4.6)
    for key, words, name, axis, title in (
        ("limit", "in the limit", "td", axes[1], "Limit, less λ = 1"),
        ("once", "after one presentation", "td_once", axes[2], "One pass, less λ = 1"),
    ):
        values = np.asarray(found[key])
        axes[0].plot(config.lambdas, values.mean(0), color=COLOURS[name], marker="o", label=f"TD(λ), {words}")
        gaps = [paired_interval(list(column), list(values[:, -1])) for column in values.T[:-1]]
        half = [gap.mean - gap.low for gap in gaps]
        axis.errorbar(config.lambdas[:-1], [gap.mean for gap in gaps], half, color=COLOURS[name], marker="o")
        axis.axhline(0.0, color="#000000", linewidth=1.0, linestyle="-")
        axis.set(xlabel="λ", title=title)
    for name in ("regression", "mean"):
        level = float(np.mean(found["error"][name]))
        axes[0].axhline(level, color=COLOURS[name], linestyle="--", label=fits.NAMES[name])
    axes[0].set(xlabel="λ", ylabel="held-out squared error", ylim=(0, None), title="Error")
    legend_outside(picture, axes[0], columns=4)
    caption = (
        "Mean over held-out sequences, and differences with 95 % intervals, paired by sequence: below 0 λ errs less than "
        "λ = 1, which is Widrow–Hoff, and least squares in the limit."
    )
    run.figure("lambdas", picture, title="Held-out error by λ", caption=caption)


def few(config: Config, run: Run, sizes: list[int], found: dict[str, Any], near: int) -> None:
    """Held-out error against the number of training sequences."""
    picture, axes = new_figure(1, 2, width=11.8, height=4.8, sharey=True)
    top = 0.0
    for axis, key, title in ((axes[0], "limit", "In the limit"), (axes[1], "once", "After one presentation")):
        curves = {
            "TD(0)": ("td_once", [[row[0] for row in rows] for rows in found[key]]),
            f"TD({config.lambdas[near]:g})": ("td", [[row[near] for row in rows] for rows in found[key]]),
            "TD(1), Widrow–Hoff": ("widrow_hoff", [[row[-1] for row in rows] for rows in found[key]]),
            "ridge regression": ("regression", [[row[0] for row in rows] for rows in found["regression"]]),
            "mean outcome": ("mean", [[row[1] for row in rows] for rows in found["regression"]]),
        }
        for label, (name, values) in curves.items():
            means = [mean_interval(row) for row in values]
            half = [m.mean - m.low for m in means]
            axis.errorbar(sizes, [m.mean for m in means], half, color=COLOURS[name], marker="o", label=label)
            top = max(top, 1.25 * means[0].mean) if label in ("TD(0)", "mean outcome") else top
        axis.set(xlabel="training sequences", title=title, xscale="log")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
    axes[0].set(ylabel="held-out squared error", ylim=(0, top))
    legend_outside(picture, axes[0], columns=5)
    caption = (
        f"Means over {config.repeats} random orders of the sequences with 95 % intervals; ridge regression is the same on both "
        "sides. What is far above the mean outcome is cut off. After one presentation α is chosen for each λ."
    )
    run.figure("few", picture, title="Learning from few sequences", caption=caption)


def calibration(run: Run, found: dict[str, dict[str, Any]]) -> None:
    """Mean outcome against mean prediction in bins."""
    picture, axes = new_figure(width=6.4, height=5.4)
    ends = []
    for name, marker in (("td", "o"), ("regression", "s")):
        if not found[name]["bins"]:
            continue
        p, z, low, high, _ = (np.asarray(column) for column in zip(*found[name]["bins"]))
        axes.errorbar(
            p,
            z,
            [z - low, high - z],
            color=COLOURS[name],
            linestyle="",
            marker=marker,
            label=fits.NAMES[name],
        )
        ends += [float(p.min()), float(p.max())]
    if ends:
        axes.plot(
            [min(ends), max(ends)], [min(ends), max(ends)], color="0.45", linestyle=":", label="calibrated"
        )
    axes.set(xlabel="prediction", ylabel="mean outcome")
    legend_outside(picture, axes)
    slopes = ", ".join(f"{fits.NAMES[name]} {found[name]['slope']:.3f}" for name in ("td", "regression"))
    caption = (
        "Held-out observations in bins of as many each, with 95 % intervals that take each sequence as one. Slopes of outcomes "
        f"on predictions: {slopes}."
    )
    run.figure("calibration", picture, title="Calibration", caption=caption)


def examples(outcomes: list[float], lengths: list[int]) -> list[int]:
    """Six held-out sequences to draw: three with high and three with low outcomes, longer than most."""
    middle = float(np.median(outcomes))
    if not any(z > middle for z in outcomes):
        middle = float(np.mean(outcomes))
    wanted = float(np.quantile(lengths, 0.75))
    order = sorted(range(len(outcomes)), key=lambda k: (abs(lengths[k] - wanted), k))
    high = [k for k in order if outcomes[k] > middle][:3]
    return high + [k for k in order if outcomes[k] <= middle][: 6 - len(high)]


def over_time(run: Run, table: Any, predictions: dict[str, Any]) -> None:
    """The predictions of a few held-out sequences as they go."""
    outcomes, lengths = [float(row.outcome) for row in table], [len(row.observations) for row in table]
    picture, axes = new_figure(2, 3, width=11.8, height=6.2, sharey=True)
    for axis, place in zip(axes.flat, examples(outcomes, lengths)):
        steps = range(1, min(lengths[place], LONGEST) + 1)
        for name in ("td", "regression"):
            axis.plot(
                steps, predictions[name][place][: len(steps)], color=COLOURS[name], linestyle="-" if name == "td" else "--",
                marker="o" if len(steps) == 1 else "", label=fits.NAMES[name],
            )  # fmt: skip
        axis.axhline(outcomes[place], color="#000000", linestyle=":", label="outcome")
        axis.set(title=table.ids[place][:24])
    for axis in axes[1]:
        axis.set(xlabel="observation")
    for axis in axes[:, 0]:
        axis.set(ylabel="prediction")
    legend_outside(picture, axes.flat[0], columns=3)
    caption = f"Held-out sequences, longer than most (up to {LONGEST} observations); the dotted line is the outcome."
    run.figure("over-time", picture, title="Predictions over time", caption=caption)


def before_the_end(run: Run, outcomes: list[float], predictions: dict[str, Any]) -> None:
    """Squared error by the number of observations still to come."""
    picture, axes = new_figure(width=7.6, height=4.8)
    lengths = sorted((len(row) for row in predictions["td"]), reverse=True)
    most = min(LONGEST, lengths[min(FEWEST, len(lengths)) - 1])
    for name in fits.METHODS:
        means = []
        for back in range(most):
            at = [(row[-1 - back], z) for row, z in zip(predictions[name], outcomes) if len(row) > back]
            means.append(sum((z - p) ** 2 for p, z in at) / len(at))
        axes.plot(range(most), means, color=COLOURS[name], marker="o", markersize=4, label=fits.NAMES[name])
    axes.set(xlabel="observations still to come", ylabel="held-out squared error", ylim=(0, None))
    axes.invert_xaxis()
    legend_outside(picture, axes)
    caption = (
        f"Means over the held-out sequences that are so long, {FEWEST} at least; to the right is the last observation "
        "before the outcome."
    )
    run.figure("before-the-end", picture, title="Error as the end comes near", caption=caption)
