"""The pictures of fourier-p."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost.experiments import _fourier_p_sweep as exact
from fingerpost.experiments._fourier_p_nets import Trained
from fingerpost.lab import legend_outside, new_figure

if TYPE_CHECKING:
    from fingerpost.experiments.fourier_p import Config

torch = lazy_import("torch")
ticker = lazy_import("matplotlib.ticker")

BLUE, ORANGE = "#0072B2", "#D55E00"
Curve = tuple[list[float], list[list[float]]]


def place_of(config: Config, p: float) -> float:
    """Where a p is drawn: ∞ stands right of the largest other."""
    top = max(q for q in config.powers if not math.isinf(q))
    return top + 0.75 if math.isinf(p) else p


def between_powers(config: Config, alpha: float) -> Curve:
    """Mean test losses at both times on a fine grid of p, from the smallest to the largest finite one."""
    powers = [p for p in config.powers if not math.isinf(p)]
    fine = torch.linspace(min(powers), max(powers), 25, dtype=torch.float64).tolist()
    times = torch.tensor([config.time, config.late * config.time], dtype=torch.float64)
    losses = [exact.sweep(config, alpha, p, times).test.mean(1).tolist() for p in fine]
    return fine, [list(row) for row in zip(*losses)]


def _thousandths(values: list[float]) -> list[float]:
    return [1e3 * value for value in values]


def _scale(axis: Any) -> None:
    """Logarithmic losses where they span more than a factor of two, with plain numbers."""
    low, high = axis.dataLim.intervaly
    if low > 0 and high / low > 2:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())


def sweep(config: Config, sweeps: Any, dense: dict[float, Curve], floors: dict[float, float]) -> Any:
    """A panel for each signal: test loss against p at both times."""
    figure, axes = new_figure(
        1, len(config.alphas), width=4.2 * len(config.alphas), height=4.8, squeeze=False
    )
    for axis, alpha in zip(axes[0], config.alphas):
        fine, lines = dense[alpha]
        for place, (colour, line, name) in enumerate(
            ((BLUE, "-", "the paper's time"), (ORANGE, (0, (5, 2)), f"{config.late:g} × that"))
        ):
            axis.plot(fine, _thousandths(lines[place]), color=colour, linestyle=line, label=name)
            losses = [1e3 * float(sweeps[alpha, p].test[place].mean()) for p in config.powers]
            places = [place_of(config, p) for p in config.powers]
            axis.plot(places, losses, "o", color=colour, markersize=5)
            low = min(range(len(losses)), key=losses.__getitem__)
            axis.plot(places[low], losses[low], "o", color=colour, markersize=13, markerfacecolor="none")
        axis.axhline(1e3 * floors[alpha], color="#000000", linestyle=":", linewidth=1.4, label="best linear")
        ticks = [p for p in config.powers if p in (0.0, 1.0, 2.0) or math.isinf(p)]
        axis.set_xticks([place_of(config, p) for p in ticks], [exact.shown(p) for p in ticks])
        axis.set(title=f"α = {alpha:g}", xlabel="p")
        _scale(axis)
    axes[0][0].set_ylabel("test loss × 1000")
    legend_outside(figure, axes[0][0], columns=3)
    return figure


def curves(config: Config, times: Any, sweeps: Any) -> Any:
    """A panel for each signal: test loss against time, a line for each p."""
    figure, axes = new_figure(
        1, len(config.alphas), width=4.2 * len(config.alphas), height=4.8, squeeze=False
    )
    shown = (times[2:] / config.time).tolist()
    for axis, alpha in zip(axes[0], config.alphas):
        for p in config.powers:
            losses = _thousandths(sweeps[alpha, p].test[2:].mean(1).tolist())
            axis.semilogx(shown, losses, label=f"p = {exact.shown(p)}")
        for mark in (1.0, config.late):
            axis.axvline(mark, color="#777777", linewidth=1.0, linestyle="-")
        axis.set(title=f"α = {alpha:g}", xlabel="time, of the paper's")
        _scale(axis)
    axes[0][0].set_ylabel("test loss × 1000")
    legend_outside(figure, axes[0][0], columns=len(config.powers))
    return figure


def spectra(config: Config) -> Any:
    """Eigenvalues against frequency, a line for each p."""
    figure, axis = new_figure(width=7.6, height=4.6)
    half = config.points // 2 + 1
    for p in config.powers:
        values = exact.kernel(config, p, config.width).eigenvalues()[:half].tolist()
        axis.semilogy(range(half), values, label=f"p = {exact.shown(p)}")
    axis.set(xlabel="frequency, cycles per unit", ylabel="eigenvalue")
    legend_outside(figure, axis, place="right upper", columns=1)
    return figure


def networks(config: Config, trained: list[Trained]) -> Any:
    """A panel for each signal: losses of real networks as lines, predictions as rings."""
    alphas = list(dict.fromkeys(net.alpha for net in trained))
    figure, axes = new_figure(1, len(alphas), width=max(7.6, 4.4 * len(alphas)), height=4.8, squeeze=False)
    for axis, alpha in zip(axes[0], alphas):
        for net in (net for net in trained if net.alpha == alpha):
            kept = [i for i, time in enumerate(net.times) if time > 0]
            times = [net.times[i] for i in kept]
            (line,) = axis.semilogx(
                times, [1e3 * net.real[i] for i in kept], label=f"p = {exact.shown(net.p)}"
            )
            axis.semilogx(
                times[::3], [1e3 * net.predicted[i] for i in kept[::3]], "o", color=line.get_color(), markerfacecolor="none"
            )  # fmt: skip
        axis.set(title=f"α = {alpha:g}", xlabel="time, of the paper's")
        _scale(axis)
    axes[0][0].set_ylabel("test loss × 1000")
    legend_outside(figure, axes[0][0], columns=min(6, len(config.trained)))
    return figure
