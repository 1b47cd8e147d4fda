"""Pictures of the translation experiments: a score by length for each model, and maps of alignments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fingerpost.lab import new_figure
from fingerpost.lab.style import figure_style, legend_outside

MARKS = ("o", "s", "^", "D", "v", "P")


def by_length(
    curves: Mapping[str, Sequence[tuple[float, float, float]]],
    labels: Sequence[str],
    *,
    y_label: str,
    x_label: str = "source length (words)",
    trained: int | None = None,
    top: float | None = None,
) -> Any:
    """Scores with intervals, one line a model, one place a bucket.

    Args:
      curves: By the model's name, (mean, low, high) for each bucket.
      labels: The buckets' names.
      y_label: What is scored, and its unit.
      x_label: What buckets are of.
      trained: How many of the buckets, from the left, are of lengths that were trained on; the others are shaded.
      top: Upper end of the ordinate; None fits the data.
    """
    figure, axes = new_figure(width=7.4, height=4.6)
    places = range(len(labels))
    for k, (name, points) in enumerate(curves.items()):
        shift = 0.06 * (k - (len(curves) - 1) / 2)
        x = [place + shift for place in places]
        means = [point[0] for point in points]
        (line,) = axes.plot(x, means, marker=MARKS[k % len(MARKS)], label=name)
        axes.vlines(
            x,
            [point[1] for point in points],
            [point[2] for point in points],
            color=line.get_color(),
            linewidth=1.6,
        )
    if trained is not None and trained < len(labels):
        axes.axvspan(trained - 0.5, len(labels) - 0.5, color="0.93", zorder=0, label="longer than trained on")
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(0, top), xlim=(-0.4, len(labels) - 0.6))
    axes.set_xticks(list(places), list(labels))
    legend_outside(figure, axes, columns=2)
    return figure


class Map(NamedTuple):
    """Weights (target words, source words) in [0, 1], their words, and a short heading."""

    weights: Any
    source: Sequence[str]
    target: Sequence[str]
    title: str = ""


def alignment_maps(maps: Sequence[Map], *, columns: int = 2, cell: float = 0.27) -> Any:
    """Attention as in the paper's Fig. 3, the darker the larger: source words above, target words on the left.

    Args:
      maps: What to draw.
      columns: Maps in a row.
      cell: Inches of a cell.
    """
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    letters = [max(len(word) for word in words) for m in maps for words in (m.source, m.target)]
    room = 0.115 * max(letters)
    wide = max(len(m.source) for m in maps) * cell + room
    high = max(len(m.target) for m in maps) * cell + room + 0.35
    figure, axes = new_figure(
        rows, columns, width=columns * wide + 0.3, height=rows * high + 0.5, squeeze=False
    )
    with figure_style():
        shown: Any = None
        for axis, given in zip(axes.flat, maps):
            shown = axis.imshow(given.weights, cmap="Blues", vmin=0, vmax=1, aspect="equal")
            axis.grid(False)
            axis.xaxis.tick_top()
            axis.set_xticks(range(len(given.source)), given.source, rotation=90)
            axis.set_yticks(range(len(given.target)), given.target)
            axis.tick_params(length=0)
            axis.set_title(given.title)
        for axis in list(axes.flat)[len(maps) :]:
            axis.axis("off")
        figure.colorbar(shown, ax=axes, shrink=0.6, label="weight α", aspect=30)
    return figure
