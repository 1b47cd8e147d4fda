"""Pictures of a decoded recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fingerpost.lab import legend_outside, new_figure
from fingerpost.lab.style import PALETTE

SHOWN = 8
BAND, LINE = "#d0d4d9", "#6e7781"
MARKERS = "osD^v"


def tuning(
    names: Sequence[str], grid: Any, rates: Any, points: Sequence[Sequence[Sequence[float]]], listed: bool
) -> Any:
    """A panel for each neuron: the smoothed curve, and means by bins."""
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure, panels = new_figure(
        rows, columns, width=10.0, height=2.1 * rows + 0.5, squeeze=False, sharex=True
    )
    for axes in panels.flat[len(names) :]:
        axes.set_visible(False)
    for k, (axes, name) in enumerate(zip(panels.flat, names)):
        if not listed:
            step = max(1, len(grid) // 60)
            axes.plot(grid[::step], rates[::step, k], color=PALETTE[0], linestyle="-")
        if points[k]:
            x, mean, low, high = np.asarray(points[k]).T
            axes.errorbar(
                x, mean, yerr=(mean - low, high - mean), fmt="o", markersize=3, capsize=0, color=PALETTE[1],
                linestyle="-" if listed else "", linewidth=1,
            )  # fmt: skip
        axes.set_title(name if len(name) <= 18 else f"{name[:17]}…", fontsize=11)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=10)
        axes.locator_params(nbins=4)
    for axes in panels[-1]:
        axes.set_xlabel("stimulus")
    for row in panels:
        row[0].set_ylabel("spikes")
    return figure


def error_by_stimulus(curves: Mapping[str, Sequence[Sequence[float]]]) -> Any:
    """Root mean square errors by stimulus, a line for each decoder, moved apart a little."""
    figure, axes = new_figure(width=8.4, height=5.0)
    for number, (name, rows) in enumerate(curves.items()):
        if not rows:
            continue
        x, *square = np.asarray(rows).T
        value, low, high = (np.sqrt(np.maximum(part, 0)) for part in square)
        gap = (x[-1] - x[0]) / max(len(x) - 1, 1)
        axes.errorbar(
            x + 0.08 * gap * (number - 2), value, yerr=(value - low, high - value), marker=MARKERS[number % 5],
            markersize=4, capsize=0, elinewidth=0.8, linewidth=1.4, label=name,
        )  # fmt: skip
    axes.set(xlabel="stimulus", ylabel="root mean square error")
    axes.set_ylim(bottom=0)
    legend_outside(figure, axes)
    return figure


def calibration(
    coverage: Mapping[str, Sequence[Sequence[float]]],
    reliability: Mapping[str, Sequence[Sequence[float]]],
    trials: int,
) -> Any:
    """Coverage minus level for all levels, and real against claimed deviation by fifths of trials."""
    figure, (left, right) = new_figure(1, 2, width=9.8, height=5.4)
    levels = np.linspace(0.01, 0.99, 50)
    reach = 1.96 * np.sqrt(levels * (1 - levels) / trials)
    left.fill_between(levels, -reach, reach, color=BAND, linewidth=0)
    for name, rows in coverage.items():
        level, share = np.asarray(rows).T
        left.plot(level, share - level, label=name)
    left.set(xlabel="mass of the region", ylabel="stimuli inside − mass", xlim=(0, 1))
    ends = [np.inf, 0.0]
    for number, (name, rows) in enumerate(reliability.items()):
        claimed, value, low, high = np.asarray(rows).T
        right.errorbar(claimed, value, yerr=(value - low, high - value), marker=MARKERS[number], markersize=5, capsize=2,
                       label=name)  # fmt: skip
        ends = [min(ends[0], claimed.min()), max(ends[1], claimed.max())]
    right.plot(ends, ends, color=LINE, linewidth=1, linestyle="-")
    right.set(xlabel="decoded standard deviation", ylabel="real error (root mean square)")
    right.set_ylim(bottom=0)
    legend_outside(figure, left)
    return figure
