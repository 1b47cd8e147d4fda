"""The figures of td."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments import _td_own_fits as fits
from fingerpost.lab import Run, legend_outside, mean_interval, new_figure
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
    """Held-out error by λ, in the limit and after one presentation."""
    picture, axes = new_figure(width=7.6, height=4.8)
    names = (("limit", "in the limit", "td"), ("once", "after one presentation", "td_once"))
    for key, words, name in names:
        means = [mean_interval(column) for column in zip(*found[key])]
        half = [m.mean - m.low for m in means]
        axes.errorbar(
            config.lambdas,
            [m.mean for m in means],
            half,
            color=COLOURS[name],
            marker="o",
            label=f"TD(λ), {words}",
        )
    for name in ("regression", "mean"):
        level = float(np.mean(found["error"][name]))
        axes.axhline(level, color=COLOURS[name], linestyle="--", label=fits.NAMES[name])
    axes.set(xlabel="λ", ylabel="held-out squared error", ylim=(0, None))
    legend_outside(picture, axes)
    caption = (
        "Mean over held-out sequences with 95 % intervals, which are much wider than those of the paired differences in the "
        "table below; λ = 1 is Widrow–Hoff, and least squares in the limit."
    )
    run.figure("lambdas", picture, title="Held-out error by λ", caption=caption)


def few(config: Config, run: Run, sizes: list[int], found: dict[str, Any], near: int) -> None:
    """Held-out error against the number of training sequences."""
    picture, axes = new_figure(width=7.6, height=4.8)
    curves = {
        "TD(0)": ("td_once", [[row[0] for row in rows] for rows in found["limit"]]),
        f"TD({config.lambdas[near]:g})": ("td", [[row[near] for row in rows] for rows in found["limit"]]),
        "TD(1), least squares": ("widrow_hoff", [[row[-1] for row in rows] for rows in found["limit"]]),
        "ridge regression": ("regression", [[row[0] for row in rows] for rows in found["regression"]]),
        "mean outcome": ("mean", [[row[1] for row in rows] for rows in found["regression"]]),
    }
    for label, (name, values) in curves.items():
        means = [mean_interval(row) for row in values]
        half = [m.mean - m.low for m in means]
        axes.errorbar(sizes, [m.mean for m in means], half, color=COLOURS[name], marker="o", label=label)
    axes.set(xlabel="training sequences", ylabel="held-out squared error", xscale="log")
    top = 1.25 * max(
        mean_interval(row).mean for _, values in (curves["mean outcome"], curves["TD(0)"]) for row in values
    )
    axes.set(ylim=(0, top))
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    legend_outside(picture, axes, columns=3)
    caption = (
        f"Means over {config.repeats} random orders of the sequences with 95 % intervals; all in the limit. What is far above "
        "the mean outcome is cut off."
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
