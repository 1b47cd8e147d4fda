"""Pictures of combined cues and of where combining them by a sum breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fingerpost.lab import legend_outside, new_figure

FIRST, SECOND, BOTH, INK, LINE = "#0072B2", "#D55E00", "#009E73", "#000000", "#6e7781"
STYLES: dict[str, dict[str, Any]] = {
    "sum": {"color": SECOND, "marker": "o", "linestyle": "-"},
    "sum, read by its own law": {"color": "#CC79A7", "marker": "^", "linestyle": (0, (1, 1.2))},
    "repair": {"color": BOTH, "marker": "s", "linestyle": (0, (5, 2))},
}


def populations(example: Mapping[str, Any]) -> Any:
    """Counts of both cues and of their sum above, the posteriors that they encode below."""
    figure, grid = new_figure(2, 3, width=9.6, height=5.6, sharey="row")
    columns = (("r1", "first cue, r₁", FIRST), ("r2", "second cue, r₂", SECOND), ("r3", "r₃ = r₁ + r₂", BOTH))
    for (top, bottom), (key, title, colour) in zip(grid.T, columns):
        top.bar(example["preferred"], example[key], width=0.9, color=colour)
        top.set_title(title)
        top.set(xlim=(-20, 20), xticks=(-15, 0, 15), xlabel="preferred stimulus")
        bottom.plot(example["s"], example[f"p{key[1]}"], color=colour, linestyle="-")
        bottom.set(xlim=(-9, 9), xlabel="stimulus s")
    last = grid[1][2]
    last.plot(example["s"], example["formula"], color=INK, linestyle=(0, (1, 2)), label="formulas")
    last.legend(loc="upper left", frameon=False, handlelength=1.4)
    last.set_ylim(0, 1.3 * max(max(example[key]) for key in ("p1", "p2", "p3")))
    grid[0][0].set(ylabel="spikes")
    grid[1][0].set(ylabel="p(s | r)")
    return figure


def against_formulas(points: Mapping[str, Sequence[Sequence[float]]]) -> Any:
    """Mean and variance of the summed population's posterior against the formulas; one mark for each pair of gains."""
    figure, (left, right) = new_figure(1, 2, width=9.6, height=4.9)
    markers = "osD^vP"
    for number, (name, rows) in enumerate(points.items()):
        mean, formula_mean, variance, formula_variance = np.asarray(rows).T
        style = {"marker": markers[number % 6], "markersize": 4, "linestyle": "", "alpha": 0.8, "label": name}
        left.plot(formula_mean, mean, **style)
        right.loglog(formula_variance, variance, **style)
    for axes, what in ((left, "mean"), (right, "variance")):
        low, high = axes.get_xlim()
        axes.plot([low, high], [low, high], color=INK, linewidth=1, linestyle="-", zorder=1)
        axes.set(xlabel=f"{what} by the formula", ylabel=f"{what} of the sum's posterior")
    legend_outside(figure, left, columns=3)
    return figure


def deviations(
    conflicts: Sequence[float], curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> Any:
    """By conflict: how far μ₃ is from the formula, in σ₃, and the precision over what the formula gives."""
    figure, (left, right) = new_figure(1, 2, width=9.6, height=4.9)
    for number, (name, (mean, precision)) in enumerate(curves.items()):
        marker = "osD^v"[number % 5]
        left.semilogy(conflicts, np.maximum(mean, 1e-17), marker=marker, label=name)
        right.plot(conflicts, precision, marker=marker, label=name)
    left.set(xlabel="conflict (widths of tuning)", ylabel="|μ₃ − formula| / σ₃")
    right.set(xlabel="conflict (widths of tuning)", ylabel="precision / formula")
    legend_outside(figure, left)
    return figure


def behaviour(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
    """Mean estimate and its variance over trials, by conflict, for pairs of gains; lines are the predictions."""
    figure, (left, right) = new_figure(1, 2, width=9.6, height=4.9)
    for number, (name, cells) in enumerate(rows.items()):
        colour = (FIRST, SECOND, BOTH, "#CC79A7")[number % 4]
        conflict = [cell["conflict"] for cell in cells]
        for axes, key in ((left, "bias"), (right, "variance")):
            value = np.array([cell[key] for cell in cells])
            reach = (value[:, 0] - value[:, 1], value[:, 2] - value[:, 0])
            axes.errorbar(conflict, value[:, 0], yerr=reach, fmt="o", color=colour, markersize=5, capsize=2,
                          label=name)  # fmt: skip
            axes.plot(conflict, [cell[f"{key}_predicted"] for cell in cells], color=colour, linestyle="-",
                      linewidth=1.2)  # fmt: skip
    left.set(xlabel="conflict s₂ − s₁", ylabel="mean estimate − s₁")
    right.axhline(1, color=LINE, linewidth=1, linestyle=":")
    right.set(xlabel="conflict s₂ − s₁", ylabel="variance over trials / formula")
    legend_outside(figure, left, columns=3)
    return figure


def by_strength(
    panels: Sequence[tuple[str, str, Mapping[str, Sequence[Sequence[float]]]]], key: str, label: str
) -> Any:
    """One panel for each break: the figure against the break's strength, a line for each reading.

    Args:
      panels: Title, axis, and by reading rows (strength, value, low, high).
      key: "calibration" or "ratio".
      label: Of the ordinate.
    """
    columns = 5
    rows = -(-len(panels) // columns)
    figure, grid = new_figure(rows, columns, width=14.0, height=3.1 * rows + 0.6, sharey=True)
    for axes, (title, axis, readings) in zip(grid.flat, panels):
        for name, found in readings.items():
            x, value, low, high = np.asarray(found).T
            axes.plot(x, value, markersize=4, label=name, **STYLES[name])
            if name == "sum":
                axes.vlines(x, low, high, color=SECOND, linewidth=1.2)
        axes.set_title(title, fontsize=12)
        axes.set_xlabel(axis, fontsize=11)
        axes.set_yscale("log")
    for row in grid:
        row[0].set(ylabel=label)
    _plain_ticks(list(grid.flat), key)
    legend_outside(figure, grid[0][0], columns=3)
    return figure


def _plain_ticks(panels: Sequence[Any], key: str) -> None:
    low, high = panels[0].get_ylim()
    ticks = [t for t in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if low <= t <= high]
    for axes in panels:
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    panels[0].set_ylim(min(low, 0.9), max(high, 1.1 if key == "ratio" else 1.5))
