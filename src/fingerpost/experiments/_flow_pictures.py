"""Pictures of flows in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.lab import legend_outside, new_figure

np = lazy_import("numpy")

NOISE, DATA, LINE = "#E69F00", "#0072B2", "#6e7781"
LINES = 25


def trajectories(results: Mapping[str, Any]) -> Any:
    """Start, way and end of some samples, one panel for each flow."""
    columns = 2 if len(results) == 4 else min(len(results), 3)
    rows = -(-len(results) // columns)
    figure, grid = new_figure(rows, columns, width=4.1 * columns, height=4.5 * rows, squeeze=False)
    for axes in grid.flat[len(results) :]:
        axes.set_visible(False)
    for axes, (name, result) in zip(grid.flat, results.items()):
        lines = np.asarray(result["trajectories"]).reshape(LINES, -1, 2)
        axes.plot(
            lines[:, :, 0], lines[:, :, 1], color=LINE, linewidth=0.7, linestyle="-", alpha=0.6, zorder=1
        )
        axes.scatter(*lines[0].T, s=14, color=NOISE, label="t = 0", zorder=2, linewidths=0)
        axes.scatter(*lines[-1].T, s=14, color=DATA, label="t = 1", zorder=3, linewidths=0)
        axes.set_title(f"{name}\nstraightness defect {result['straightness']:.3f}")
        axes.set(xlim=(-6.6, 6.6), ylim=(-6.6, 6.6))
        _bare(axes)
    legend_outside(figure, grid.flat[0])
    _room(figure)
    return figure


def _room(figure: Any) -> None:
    """Keeps two-line titles off the edge, which the default padding cuts where panels are square."""
    figure.set_layout_engine("constrained", h_pad=0.16, w_pad=0.08)


def samples(results: Mapping[str, Mapping[str, Any]], data: Mapping[str, Any]) -> Any:
    """Data and samples, one row for each target."""
    columns = 1 + max(len(row) for row in results.values())
    figure, grid = new_figure(
        len(results), columns, width=3.1 * columns, height=3.5 * len(results), squeeze=False
    )
    for row, (target, arms) in zip(grid, results.items()):
        panels = {
            f"data: {target}": data[target],
            **{name: np.asarray(one["samples"]) for name, one in arms.items()},
        }
        for axes, (name, points) in zip(row, panels.items()):
            axes.scatter(*np.asarray(points).T, s=4, color=DATA, linewidths=0, alpha=0.7)
            axes.set_title("\n".join(name.split(", ")) if ", " in name else name)
            axes.set(xlim=(-5.2, 5.2), ylim=(-5.2, 5.2))
            _bare(axes)
        for axes in row[len(panels) :]:
            axes.set_visible(False)
    _room(figure)
    return figure


def _bare(axes: Any) -> None:
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def against_evaluations(panels: Mapping[str, Mapping[str, Any]], floors: Mapping[str, float]) -> Any:
    """W₂ against the number of Euler steps, one panel for each task."""
    figure, grid = new_figure(1, len(panels), width=4.6 * len(panels) + 0.6, height=5.0, squeeze=False)
    names = list(dict.fromkeys(name for arms in panels.values() for name in arms))
    for axes, (task, arms) in zip(grid[0], panels.items()):
        for name in names:  # every name on every panel, so that a flow keeps its colour
            curve = arms[name]["wasserstein"] if name in arms else {}
            axes.plot([int(k) for k in curve], list(curve.values()), marker="o", label=name)
        axes.axhline(floors[task], color="0.6", linewidth=1.6, linestyle="-", label="data against data")
        axes.set(xscale="log", yscale="log", xlabel="Euler steps = evaluations", title=task)
        _ticks(
            axes,
            sorted({int(k) for arms in panels.values() for one in arms.values() for k in one["wasserstein"]}),
        )
    grid[0][0].set_ylabel("2-Wasserstein distance to data")
    legend_outside(figure, grid[0][0])
    return figure


def _ticks(axes: Any, steps: Sequence[int]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    axes.set_xticks(steps, [str(step) for step in steps])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
