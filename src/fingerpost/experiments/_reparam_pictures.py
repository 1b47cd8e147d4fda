"""Pictures of the experiment reparam-variance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fingerpost.lab import legend_outside, new_figure

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
FUNCTIONS = ("straight", "curved", "step", "wave")
STYLES = {
    "explicit path": (BLUE, "o", 42, True),
    "score function": (ORANGE, "s", 78, False),
    "score function, baseline": (GREEN, "D", 24, True),
}


def ratios_figure(settings: Sequence[Any], score: str, baseline: str) -> Any:
    """One panel for each function; a row for each distribution and parameter."""
    rows = list(dict.fromkeys((s.case, s.parameter) for s in settings))
    figure, axes = new_figure(1, 4, width=13.5, height=8.4, sharey=True)
    for axis, name in zip(axes, FUNCTIONS):
        panel = [s for s in settings if s.function.name == name]
        for key, label in ((None, "explicit path"), (score, score), (baseline, baseline)):
            _points(axis, panel, rows, key, label)
        axis.axvline(1, color="0.25", linewidth=1.4, linestyle="-", marker="", zorder=1)
        axis.set(
            title=name, xlabel="variance ratio", xscale="log", xlim=(0.003, 400), ylim=(-0.7, len(rows) - 0.3)
        )
        axis.set_xticks([0.01, 1, 100], ["0.01", "1", "100"])
        axis.minorticks_off()
    axes[0].set_yticks(range(len(rows)), [f"{case} ({parameter})" for case, parameter in reversed(rows)])
    legend_outside(figure, axes[0], columns=3)
    return figure


def _points(
    axis: Any, panel: Sequence[Any], rows: Sequence[tuple[str, str]], key: str | None, label: str
) -> None:
    """One estimator's ratios with their intervals; without a key, the first explicit path's."""
    xs, ys = [], []
    for setting in panel:
        explicit = next((name for name in setting.ratio if not name.startswith("score")), None)
        value, low, high = setting.ratio.get(key or explicit or "", (math.nan,) * 3)
        if not math.isnan(value):
            place = len(rows) - 1 - rows.index((setting.case, setting.parameter))
            xs, ys = [*xs, value], [*ys, place]
            axis.plot(
                [low, high],
                [place, place],
                color=STYLES[label][0],
                linewidth=2,
                linestyle="-",
                marker="",
                zorder=2,
            )
    colour, marker, size, filled = STYLES[label]
    axis.scatter(
        xs, ys, marker=marker, s=size, zorder=3, label=label, edgecolors=colour, linewidths=1.8,
        facecolors=colour if filled else "none",
    )  # fmt: skip


def means_figure(items: Sequence[Any]) -> Any:
    """Explicit path derivatives against z: mean, band, and the velocity."""
    figure, axes = new_figure(2, 2, width=10.4, height=7.4)
    for axis, item in zip(axes.flat, items):
        z = item.z.numpy()
        axis.fill_between(
            z,
            item.low.numpy(),
            item.high.numpy(),
            color=BLUE,
            alpha=0.16,
            linewidth=0,
            step="mid",
            label="explicit, middle 80 %",
        )
        axis.plot(
            *(x.numpy() for x in item.curve),
            color=ORANGE,
            linestyle="-",
            marker="",
            linewidth=2.2,
            label="velocity",
        )
        axis.scatter(z, item.mean.numpy(), color=BLUE, s=22, zorder=3, label="explicit, mean given z")
        case, parameter = item.title.split(", ")
        axis.set(title=f"{case}: ∂z/∂{parameter.removesuffix('_0')}", xlabel="z")
    legend_outside(figure, axes.flat[0], columns=3)
    return figure


def fits_figure(curves: Mapping[str, Sequence[Sequence[float]]], steps: int) -> Any:
    """Mean divergence against steps for every estimator."""
    figure, axis = new_figure(width=8.4, height=5.0)
    at = np.linspace(0, steps - 1, 60).astype(int) + 1
    for name, rows in curves.items():
        values = np.array(rows)[:, :-1]
        (line,) = axis.plot(at, values.mean(0), label=name, marker="")
        low, high = np.quantile(values, (0.25, 0.75), axis=0)
        axis.fill_between(at, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    axis.set(xlabel="step", ylabel="KL(fit ‖ posterior), nats", yscale="log")
    legend_outside(figure, axis)
    return figure
