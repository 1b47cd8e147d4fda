"""Pictures of merged amplitudes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from fingerpost.lab import MeanInterval, legend_outside, new_figure

ACENTRIC, CENTRIC, LINE = "#0072B2", "#D55E00", "#6e7781"
BAND = "#d0d4d9"
LINKS = ("-", "-", "none", "none", "none")  # lines that would lie on one another are left out
KINDS = {False: "acentric", True: "centric"}
COLOURS = {False: ACENTRIC, True: CENTRIC}


def wilson(truth: Tensor, centric: Tensor) -> Any:
    """Histograms of the true normalised amplitudes with Wilson's densities."""
    figure, panels = new_figure(1, 2, width=9.2, height=4.2, sharey=True)
    e = np.linspace(1e-3, 4, 200)
    lines = {False: 2 * e * np.exp(-e * e), True: math.sqrt(2 / math.pi) * np.exp(-e * e / 2)}
    for axes, (kind, word) in zip(panels, KINDS.items()):
        values = truth[centric == kind].numpy()
        axes.hist(values, bins=np.arange(0, 4.01, 0.16), density=True, color=COLOURS[kind], alpha=0.55)
        axes.plot(e, lines[kind], color="#000000", linestyle="-")
        axes.set_title(f"{word}, {len(values):,} reflections")
        axes.set(xlabel="|E| = |F| over its expected size", xlim=(0, 4), xticks=(0, 1, 2, 3))
    panels[0].set(ylabel="density")
    return figure


def by_resolution(
    squared: Sequence[float], curves: Mapping[str, Sequence[MeanInterval]], ratio: Sequence[float]
) -> Any:
    """R of each way by shell, over 1/4d² with d at the ticks, and the strength of the data above."""
    figure, (top, axes) = new_figure(
        2, 1, width=8.0, height=7.0, sharex=True, gridspec_kw={"height_ratios": (1, 2.6)}
    )
    top.semilogy(squared, ratio, color=LINE, marker="o", linestyle="-")
    top.axhline(1, color="0.45", linewidth=1, linestyle=":")
    ticks = [tick for tick in (0.3, 1, 3, 10, 30, 100) if min(ratio) / 1.5 < tick < 1.5 * max(ratio)]
    top.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    top.minorticks_off()
    top.set(ylabel="mean I/σ")
    markers = "osD^v"
    for number, (name, curve) in enumerate(curves.items()):
        mean = np.array([one.mean for one in curve])
        reach = np.array([one.high - one.mean for one in curve])
        shift = (number - (len(curves) - 1) / 2) * 0.012 * (squared[-1] - squared[0])
        axes.errorbar(
            np.array(squared) + shift, mean, yerr=reach, capsize=2, marker=markers[number], markersize=5,
            linestyle=LINKS[number], linewidth=1.6, label=name,
        )  # fmt: skip
    spacing = [
        d
        for d in (10, 6, 4, 3.5, 3, 2.7, 2.5, 2.3, 2.2, 2.1, 2.0, 1.9, 1.8)
        if 0.25 / d**2 <= 1.06 * squared[-1]
    ]
    kept: list[float] = []
    for d in reversed(spacing):
        if not kept or 0.25 / kept[-1] ** 2 - 0.25 / d**2 > 0.07 * squared[-1]:
            kept.append(d)
    axes.set_xticks([0.25 / d**2 for d in kept], [f"{d:g}" for d in kept])
    axes.set(xlabel="resolution d (Å)", ylabel="R against the truth")
    axes.set_ylim(bottom=0)
    legend_outside(figure, axes)
    return figure


def calibration(ranks: Mapping[str, Tensor], centric: Tensor) -> Any:
    """Coverage minus level for all central intervals."""
    figure, panels = new_figure(1, 2, width=9.6, height=4.9, sharey=True)
    levels = np.linspace(0.02, 0.98, 49)
    for axes, (kind, word) in zip(panels, KINDS.items()):
        chosen = centric == kind
        count = int(chosen.sum())
        reach = 1.96 * np.sqrt(levels * (1 - levels) / count)
        axes.fill_between(levels, -reach, reach, color=BAND, linewidth=0)
        for name, rank in ranks.items():
            distance = (2 * (rank[chosen] - 0.5).abs()).numpy()
            inside = (distance[:, None] <= levels).mean(0)
            axes.plot(levels, inside - levels, label=name)
        axes.set_title(f"{word}, {count:,} reflections")
        axes.set(xlabel="level of the central interval", xlim=(0, 1), xticks=(0.2, 0.4, 0.6, 0.8))
    panels[0].set(ylabel="coverage − level")
    legend_outside(figure, panels[0])
    return figure


def ranks(ranks: Mapping[str, Tensor], centric: Tensor, bins: int = 20) -> Any:
    """Histograms of the truth's ranks, relative to uniform."""
    figure, grid = new_figure(2, len(ranks), width=3.4 * len(ranks), height=5.8, sharex=True, sharey=True)
    for row, (kind, word) in zip(grid, KINDS.items()):
        chosen = centric == kind
        count = int(chosen.sum())
        low, high = (stats.binom.ppf(p, count, 1 / bins) * bins / count for p in (0.025, 0.975))
        for axes, (name, rank) in zip(row, ranks.items()):
            axes.axhspan(low, high, color=BAND, linewidth=0)
            axes.hist(
                rank[chosen].numpy(), bins=bins, range=(0, 1), color=COLOURS[kind], alpha=0.7,
                weights=np.full(count, bins / count),
            )  # fmt: skip
            axes.set_title(name if kind is False else "")
        row[0].set(ylabel=f"{word}\nshare / uniform")
    for axes in grid[-1]:
        axes.set(xlabel="rank of the truth", xlim=(0, 1), xticks=(0.2, 0.4, 0.6, 0.8))
    return figure


def amplitudes(truth: Tensor, found: Mapping[str, Tensor], centric: Tensor) -> Any:
    """Recovered against true amplitudes."""
    figure, panels = new_figure(1, len(found), width=3.9 * len(found), height=4.9, sharex=True, sharey=True)
    for axes, (name, values) in zip(panels, found.items()):
        for kind, word in KINDS.items():
            rows = centric == kind
            axes.scatter(
                truth[rows].numpy(), values[rows].numpy(), s=5, color=COLOURS[kind], alpha=0.45, linewidths=0,
                rasterized=True, zorder=2 + kind,
            )  # fmt: skip
            axes.scatter([], [], s=40, color=COLOURS[kind], linewidths=0, label=word)  # legible in the legend
        axes.plot([0, 3.5], [0, 3.5], color="#000000", linewidth=1, linestyle="-", zorder=4)
        axes.set_title(name)
        axes.set(
            xlabel="true |F| / √(εΣ)",
            xlim=(0, 3.2),
            ylim=(-0.06, 3.2),
            xticks=(0, 1, 2, 3),
            yticks=(0, 1, 2, 3),
        )
        axes.set_aspect("equal")
    panels[0].set(ylabel="recovered |F| / √(εΣ)")
    legend_outside(figure, panels[0])
    return figure


def curves(setting: Any, arms: Mapping[str, Any], rows: Tensor) -> list[dict[str, Any]]:
    """Densities of each way for each chosen reflection, over where the exact posterior is."""
    posterior = setting.posterior
    low = (posterior.mean - 5 * posterior.deviation)[rows].clamp(min=1e-4)
    high = (posterior.mean + 5 * posterior.deviation)[rows]
    e = low + (high - low) * torch.linspace(0, 1, 240, dtype=torch.float64)[:, None]
    found = {name: arm.density(e, rows) for name, arm in arms.items()}
    found = {"Wilson's prior": setting.merged.of(rows).prior.log_prob(e).exp(), **found}
    return [
        {"e": e[:, i].tolist(), **{name: y[:, i].tolist() for name, y in found.items()}}
        for i in range(len(rows))
    ]


def posteriors(curves: Sequence[Mapping[str, Any]], truth: Sequence[float], labels: Sequence[str]) -> Any:
    """One panel for each reflection."""
    figure, grid = new_figure(2, 2, width=9.6, height=7.4)
    styles = {
        "Wilson's prior": {"color": LINE, "linestyle": ":"},
        "exact posterior": {"color": "#000000", "linestyle": "-", "linewidth": 3.0, "alpha": 0.55},
        "Rice–Woolfson": {"color": ACENTRIC, "linestyle": "-"},
        "truncated normal": {"color": CENTRIC, "linestyle": (0, (5, 2))},
    }
    for axes, curve, e, label in zip(grid.flat, curves, truth, labels):
        for name, style in styles.items():
            axes.plot(curve["e"], curve[name], label=name, **style)
        axes.axvline(e, color="#009E73", linewidth=1.5, label="truth")
        axes.set_title(label)
        axes.set(xlabel="|F| / √(εΣ)")
        axes.set_ylim(bottom=0)
    for row in grid:
        row[0].set(ylabel="density")
    legend_outside(figure, grid.flat[0])
    return figure
