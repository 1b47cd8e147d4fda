"""Pictures of attention-signal: maps, norms against distance and length, and what becomes of them in translations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments._translation import MODELS
from fingerpost.lab import mean_interval, new_figure
from fingerpost.lab.style import LINES, PALETTE, figure_style, legend_outside

np = lazy_import("numpy")

MARKS = dict(zip(MODELS, ("o", "s", "^")))
COLOURS = dict(zip(MODELS, PALETTE))
DASHES = dict(zip(MODELS, LINES))
NAMES = {"start": "at the start", "trained": "trained"}
"""Of states, in panels."""
SHORT = {"search": "attention", "fixed": "fixed, both ways", "encdec": "fixed, forwards"}
FLOOR = -4.0
"""Lowest log₁₀ share that a map tells apart."""


def maps(shares: Mapping[tuple[str, str], Any]) -> Any:
    """log₁₀ of each source word's share of a target word's squared gradient (T, S), by state (rows) and model (columns)."""
    figure, axes = new_figure(2, len(MODELS), width=11.4, height=7.8, squeeze=False)
    shown: Any = None
    with figure_style():
        for (kind, state), values in shares.items():
            axis = axes[list(NAMES).index(state)][list(MODELS).index(kind)]
            shown = axis.imshow(np.asarray(values) / np.log(10), cmap="Blues", vmin=FLOOR, vmax=0)
            axis.grid(False)
            axis.set_title(f"{SHORT[kind]}, {NAMES[state]}", fontsize=12)
            axis.set(xlabel="source word j", ylabel="target word i")
            size = len(values)
            ticks = range(0, size, max(1, round(size / 5)))
            axis.set_xticks(ticks, [str(tick + 1) for tick in ticks])
            axis.set_yticks(ticks, [str(tick + 1) for tick in ticks])
        bar = figure.colorbar(shown, ax=axes, shrink=0.7, aspect=30, label="share of the squared gradient")
        bar.set_ticks([-4, -3, -2, -1, 0], labels=["0.0001 or less", "0.001", "0.01", "0.1", "1"])
    return figure


def by_distance(curves: Mapping[tuple[str, str, str], Sequence[Sequence[float]]]) -> Any:
    """Mean log-norms of each training against distance: by state (rows), kind of distance (columns) and model (lines)."""
    figure, axes = new_figure(2, 2, width=11.4, height=8.0, sharey="row")
    labels = {
        "by_end": "words between source word and the end",
        "by_apart": "words between source word and the true one",
    }
    for (kind, state, distance), rows in curves.items():
        axis = axes[list(NAMES).index(state)][list(labels).index(distance)]
        values = np.asarray(rows) / np.log(10)
        x = np.arange(values.shape[1]) + (distance == "by_end")
        style = {"color": COLOURS[kind], "linestyle": DASHES[kind]}
        axis.plot(x, 10 ** values.mean(0), label=MODELS[kind], **style)
        axis.fill_between(x, 10 ** values.min(0), 10 ** values.max(0), color=COLOURS[kind], alpha=0.15)
        axis.set_yscale("log")
        axis.set(xlabel=labels[distance])
        axis.set_title(NAMES[state].capitalize(), fontsize=13)
    for row in axes:
        row[0].set(ylabel="norm of ∂ log-odds(y$_i$) / ∂x$_j$")
    legend_outside(figure, axes[0][0], columns=3)
    return figure


def by_source_length(curves: Mapping[tuple[str, str], Mapping[int, Sequence[float]]], trained: int) -> Any:
    """Mean norm against words to the end, one line a source length: by state (rows) and model (columns)."""
    figure, axes = new_figure(2, len(MODELS), width=12.0, height=7.6, sharey="row", sharex=True)
    for (kind, state), lines in curves.items():
        axis = axes[list(NAMES).index(state)][list(MODELS).index(kind)]
        for place, (n, values) in enumerate(lines.items()):
            shade = 0.15 + 0.7 * place / max(1, len(lines) - 1)
            axis.plot(
                np.arange(1, len(values) + 1),
                np.exp(values),
                color=_viridis(shade),
                linestyle="-" if n <= trained else ":",
                label=f"{n} words" + ("" if n <= trained else " (not trained on)"),
            )
        axis.set_yscale("log")
        axis.set_title(f"{SHORT[kind]}, {NAMES[state]}", fontsize=12)
    for axis in axes[-1]:
        axis.set(xlabel="words to the end")
    for row in axes:
        row[0].set(ylabel="norm of ∂ log-odds / ∂x$_j$")
    legend_outside(figure, axes[0][0], columns=3)
    return figure


def _viridis(place: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](place)


def by_length(
    panels: Sequence[tuple[str, str, Mapping[str, Sequence[Sequence[float]]]]],
    lengths: Sequence[int],
    trained: int,
) -> Any:
    """Means over trainings with 95 % intervals against source length, a panel each.

    Args:
      panels: Heading, what is on the ordinate, and for each model a list of values for each length; logs where the ordinate
        begins with "norm".
      lengths: Source lengths.
      trained: The longest trained on; beyond, panels are shaded.
    """
    figure, axes = new_figure(1, len(panels), width=5.7 * len(panels), height=4.8, squeeze=False)
    for axis, (title, label, curves) in zip(axes[0], panels):
        for kind, columns in curves.items():
            found = [mean_interval(values) for values in columns]
            shape = {"color": COLOURS[kind], "linestyle": DASHES[kind], "marker": MARKS[kind]}
            logs = label.startswith("norm")
            as_shown = np.exp if logs else np.asarray
            mean, low, high = (
                as_shown([getattr(f, part) for f in found]) for part in ("mean", "low", "high")
            )
            axis.plot(lengths, mean, label=MODELS[kind], **shape)
            axis.vlines(lengths, low, high, color=COLOURS[kind], linewidth=1.4)
            if logs:
                axis.set_yscale("log")
        if not label.startswith("norm"):
            axis.set_ylim(0, 1.03)
        if max(lengths) > trained:
            beyond = (trained + 0.5, max(lengths) * 1.03)
            axis.axvspan(*beyond, color="0.93", zorder=0, label="longer than trained on")
        axis.set(xlabel="source length (words)", ylabel=label, xlim=(0, max(lengths) * 1.03))
        axis.set_title(title, fontsize=13)
    legend_outside(figure, axes[0][0], columns=4)
    return figure
