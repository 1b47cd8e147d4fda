"""Pictures of attention-alignment: maps beside the truth, offsets, errors by length, words that agree, what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fingerpost.experiments import _translation_pictures as shared
from fingerpost.experiments._attention_alignment_measures import OFFSETS, REACH
from fingerpost.experiments._attention_alignment_tasks import CHANCE
from fingerpost.lab import mean_interval, new_figure
from fingerpost.lab.style import PALETTE, figure_style, legend_outside

TRUTH = PALETTE[1]


def maps(found: Sequence[Mapping[str, Any]]) -> Any:
    """Alignment maps with the true cells outlined."""
    drawn = [shared.Map(np.array(m["weights"]), m["source"], m["target"], m["title"]) for m in found]
    figure = shared.alignment_maps(drawn, columns=3, cell=0.34)
    for axis, given in zip(figure.axes, found):
        for i, j in enumerate(given["truth"]):
            _outline(axis, i, j)
    return figure


def _outline(axis: Any, i: int, j: int) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=TRUTH, linewidth=1.4))


def offsets(shares: Mapping[str, Any]) -> Any:
    """Shares of target words (trainings, 7) by the offset of the largest weight, one line an order."""
    figure, axes = new_figure(width=7.4, height=4.6)
    for k, (order, values) in enumerate(shares.items()):
        x = np.array(OFFSETS) + 0.08 * (k - (len(shares) - 1) / 2)
        (line,) = axes.plot(x, values.mean(0), marker=shared.MARKS[k], label=order)
        axes.vlines(x, values.min(0), values.max(0), color=line.get_color(), linewidth=1.6)
    labels = [f"{k:+d}" if k else "0" for k in OFFSETS]
    labels[0], labels[-1] = f"−{REACH} …", f"… +{REACH}"
    axes.set_xticks(list(OFFSETS), [label.replace("-", "−") for label in labels])
    axes.set(
        xlabel="largest weight less right place (source words)", ylabel="share of target words", ylim=(0, 1)
    )
    legend_outside(figure, axes, columns=5)
    return figure


def lengths(curves: Mapping[str, Any], measured: Sequence[int], trained: int) -> Any:
    """Alignment errors with intervals by source length."""
    labels = [str(n) for n in measured]
    return shared.by_length(curves, labels, y_label="alignment error (share)", trained=trained, top=1.02)


def directions(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], distances: Sequence[int]
) -> Any:
    """Accuracy by distance from the noun, one panel a task, one line what the encoder reads."""
    figure, axes = new_figure(1, len(panels), width=10.4, height=4.7, sharey=True, squeeze=False)
    for axis, (title, curves) in zip(axes[0], panels.items()):
        for k, (name, columns) in enumerate(curves.items()):
            shift = 0.06 * (k - (len(curves) - 1) / 2)
            _with_intervals(axis, [d + shift for d in distances], columns, k, name)
        axis.axhline(CHANCE, color="0.45", linestyle=":", linewidth=1.4, label="guessing the class")
        axis.set_title(title)
        axis.set_xticks(list(distances))
        axis.set(xlabel="words to the noun", ylim=(0, 1.04))
    axes[0][0].set(ylabel="words that agree, right (share)")
    legend_outside(figure, axes[0][0], columns=2)
    return figure


def _with_intervals(
    axis: Any, x: Sequence[float], columns: Sequence[Sequence[float]], k: int, name: str
) -> None:
    """A mean and its t interval at each x."""
    found = [mean_interval(values) for values in columns]
    (line,) = axis.plot(x, [one.mean for one in found], marker=shared.MARKS[k], label=name)
    low, high = ([min(1.0, max(0.0, end)) for end in ends] for ends in zip(*(one.interval for one in found)))
    axis.vlines(x, low, high, color=line.get_color(), linewidth=1.6)


def late(bars: Mapping[str, Sequence[Sequence[float]]]) -> Any:
    """Accuracy in earlier phrases and in the last, a point each with its interval, for each reading."""
    figure, axes = new_figure(width=8.4, height=1.9 + 0.62 * len(bars))
    names = list(bars)
    for k, (phrases, mark) in enumerate((("earlier phrases", "o"), ("the last phrase", "s"))):
        found = [mean_interval(columns[k]) for columns in bars.values()]
        y = [place + 0.14 * (2 * k - 1) for place in range(len(names))]
        axes.plot([one.mean for one in found], y, mark, color=PALETTE[k], label=phrases)
        low, high = (
            [min(1.0, max(0.0, end)) for end in ends] for ends in zip(*(one.interval for one in found))
        )
        axes.hlines(y, low, high, color=PALETTE[k], linewidth=1.6)
    axes.axvline(CHANCE, color="0.45", linestyle=":", linewidth=1.4, label="guessing the class")
    axes.set_yticks(range(len(names)), [name.replace(", ", ",\n") for name in names])
    axes.set(xlabel="words that agree, right (share)", xlim=(0, 1.04), ylim=(len(names) - 0.5, -0.5))
    legend_outside(figure, axes, columns=3)
    return figure


def read(norms: Mapping[str, Any]) -> Any:
    """Three maps of ‖∂h_j/∂x_k‖ (S, S, 2): the onward unit, the backward unit, and the backward unit that starts late."""
    panels = {
        "onward unit": norms["both"][..., 0],
        "backward unit": norms["both"][..., 1],
        "backward unit, eq. 8": norms["late"][..., 1],
    }
    figure, axes = new_figure(1, len(panels), width=11.4, height=4.4)
    shown: Any = None
    with figure_style():
        for axis, (title, values) in zip(axes, panels.items()):
            tops = values.max()
            shares = np.ma.masked_equal(values / tops, 0)
            shown = axis.imshow(np.ma.log10(shares), cmap="viridis_r", vmin=-3, vmax=0)
            axis.grid(False)
            axis.set_title(title, fontsize=13)
            size = len(values)
            ticks = [*range(0, size - 1, 2), size - 1]
            names = [*(str(tick + 1) for tick in ticks[:-1]), "</s>"]
            axis.set_xticks(ticks, names)
            axis.set_yticks(ticks, names)
            axis.set(xlabel="source word k")
        axes[0].set(ylabel="annotation j")
        bar = figure.colorbar(shown, ax=list(axes), shrink=0.8, aspect=25, label="norm, over the largest")
        bar.set_ticks([-3, -2, -1, 0], labels=["0.001", "0.01", "0.1", "1"])
    return figure
