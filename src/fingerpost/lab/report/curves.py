"""Long curves: thinned without losing a peak, summarised in words and numbers, drawn by uPlot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fingerpost._table import Table
from fingerpost.errors import RunError
from fingerpost.lab.report.markup import Markup, json_block, tag
from fingerpost.lab.report.reading import number

MOST_POINTS = 1500


def curve(row: Mapping[str, Any], table: Table) -> Markup:
    """Renders one curve: a place where the script draws it, its data, and a summary that needs no script.

    Args:
      row: The row of ``contents.json``: ``title, caption, x, series, x_label, y_label``.
      table: The table that holds the columns.

    Raises:
      RunError: If a column that the row names is not in the table, or no point is a number.
    """
    xs, series = _columns(row, table)
    kept = thin(series, MOST_POINTS)
    title = str(row.get("title") or row.get("name") or "Curve")
    labels = [str(name) for name in row["series"]]
    data = {
        "title": title,
        "x": [_rounded(xs[i], 9) for i in kept],
        "series": [
            {"label": label, "values": [_rounded(ys[i], 6) for i in kept]}
            for label, ys in zip(labels, series)
        ],
        "x_label": str(row.get("x_label") or row["x"]),
        "y_label": str(row.get("y_label") or ""),
    }
    note = f" {len(kept)} of {len(xs)} points are drawn: the lowest and highest of each stretch." * (
        len(kept) < len(xs)
    )
    caption = tag("figcaption", tag("strong", title), f" {row.get('caption') or ''}{note}")
    spoken = f"{title}. The table below gives where each curve starts and ends."
    canvas = tag(
        "div",
        tag("noscript", "The curve is drawn by this page's script."),
        class_="canvas",
        role="img",
        aria_label=spoken,
    )
    summary = _summary(labels, series)
    return tag("figure", caption, canvas, json_block(data, class_="curve-data"), summary, class_="curve")


def _columns(row: Mapping[str, Any], table: Table) -> tuple[list[float], list[list[float]]]:
    names = row.get("series")
    if not isinstance(names, list) or not names:
        raise RunError("contents.json names no series for this curve")
    missing = [str(name) for name in (row.get("x"), *names) if name not in table.columns]
    if missing:
        raise RunError(f"the curve needs the columns {missing}; its table has {list(table.columns)}")
    places = [list(table.columns).index(name) for name in (row["x"], *names)]
    points = [[number(cells[place]) for place in places] for cells in table.rows]
    points = sorted((point for point in points if math.isfinite(point[0])), key=lambda point: point[0])
    if not points:
        raise RunError(f"the column {row['x']!r} holds no number")
    xs, *series = (list(column) for column in zip(*points))
    return xs, series


def thin(series: Sequence[Sequence[float]], most: int) -> list[int]:
    """Chooses which points to draw: of each stretch, every series' lowest and highest, and both ends.

    Args:
      series: Values of each series at the same points; NaN where there is none.
      most: How many points to keep at most, about.

    Returns:
      Indices in rising order; all of them when there are no more than `most`.

    >>> thin([[0.0, 9.0, 0.0, 0.0, -9.0, 0.0]], most=4)
    [0, 1, 4, 5]
    """
    total = len(series[0])
    if total <= most:
        return list(range(total))
    stretches = max(1, (most - 2) // (2 * len(series)))
    kept = {0, total - 1}
    for stretch in range(stretches):
        indices = range(stretch * total // stretches, (stretch + 1) * total // stretches)
        for values in series:
            finite = [i for i in indices if math.isfinite(values[i])]
            if finite:
                kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
    return sorted(kept)


def _rounded(value: float, digits: int) -> float | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _summary(labels: Sequence[str], series: Sequence[Sequence[float]]) -> Markup:
    rows = []
    for label, values in zip(labels, series):
        finite = [value for value in values if math.isfinite(value)]
        rows.append([label, *([finite[0], min(finite), max(finite), finite[-1]] if finite else [None] * 4)])
    table = Table(
        ["series", "first", "lowest", "highest", "last"], rows, caption="The curves in numbers.", digits=4
    )
    inner = tag(
        "div",
        Markup(table.to_html()),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Curves in numbers",
    )
    return tag("details", tag("summary", "In numbers"), inner)
