"""What spectral-bias shows and claims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.experiments import _tangent_training as tangent
from fingerpost.lab import Claim, Run, legend_outside, new_figure
from fingerpost.lab.style import PALETTE

if TYPE_CHECKING:
    from fingerpost.experiments.spectral_bias import Config

np = lazy_import("numpy")
stats = lazy_import("scipy.stats")

Found = dict[tuple[float, int], list[dict[str, Any]]]


def show(config: Config, run: Run, found: Found) -> None:
    """Tables, figures and claims."""
    _table(config, run, found)
    _rates_figure(config, run, found)
    _order_figure(config, run, found)
    _claim_rates(config, run, found)
    _claim_order(config, run, found)


def setting(config: Config) -> str:
    """What stands beside every figure."""
    return (
        f"NTK parametrization, {config.depth} hidden layers, {config.activation}, α = {config.scale:g}, η λ_max = "
        f"{config.share:g}, {config.points} points, {config.steps} full-batch steps, {config.dtype}, {config.seeds} seed(s)"
    )


def named(p: float) -> str:
    """How an encoding is shown."""
    return "p = ∞" if math.isinf(p) else f"p = {p:g}"


def ratios(result: dict[str, Any]) -> Any:
    """Measured over predicted rate of the modes that were fast enough to measure; a mode that grew counts as 0.01."""
    pairs = [(m, p) for m, p in zip(result["measured"], result["predicted"]) if m is not None]
    return np.array([max(m / p, 0.01) for m, p in pairs])


def middle(result: dict[str, Any]) -> float:
    """Geometric mean of measured over predicted."""
    return float(np.exp(np.log(ratios(result)).mean()))


def spread(result: dict[str, Any]) -> float:
    """Root mean square of log(measured / predicted)."""
    return float(np.sqrt(np.square(np.log(ratios(result))).mean()))


def slope(result: dict[str, Any]) -> float:
    """Slope of log measured against log predicted; NaN where all modes are as fast."""
    kept = [(m, p) for m, p in zip(result["measured"], result["predicted"]) if m is not None and m > 0]
    x, y = np.log([p for _, p in kept]), np.log([m for m, _ in kept])
    return float(np.polyfit(x, y, 1)[0]) if len(kept) > 2 and np.ptp(x) > 0.1 else math.nan


def _table(config: Config, run: Run, found: Found) -> None:
    rows = []
    for (p, width), all_results in found.items():
        measured = sum(len(ratios(r)) for r in all_results) / len(all_results)
        row: list[Any] = [named(p), width, measured]
        for statistic in (middle, slope, spread):
            mean, interval = tangent.summary([statistic(r) for r in all_results])
            row += [mean, f"{interval[0]:.3f} … {interval[1]:.3f}" if interval else ""]
        rows.append(row)
    heads = [
        "encoding", "width", "modes", "measured / predicted", "interval", "log–log slope", "interval ", "rms log ratio",
        "interval  ",
    ]  # fmt: skip
    caption = (
        f"Rates of decay of the eigenmodes of f − y, fitted over {config.folds:g} predicted e-fold(s) from the start, against "
        f"−log(1 − ηλ); modes that should lose less than {config.least:g} e-folds in all are left out. The geometric mean and "
        f"the rms are over modes, then over seeds with a 95 % t interval. Every mode has the same to learn. {setting(config)}."
    )
    run.table("rates", Table(heads, rows, title="Measured against predicted decay", caption=caption))


def _rates_figure(config: Config, run: Run, found: Found) -> None:
    figure, axes = new_figure(
        1, len(config.powers), width=4.4 * len(config.powers), height=4.8, sharey=True, squeeze=False
    )
    for axis, p in zip(axes[0], config.powers):
        for width, colour in zip(config.widths, PALETTE):
            points = [
                (b, a)
                for r in found[p, width]
                for a, b in zip(r["measured"], r["predicted"])
                if a is not None and a > 0
            ]
            axis.plot(
                *zip(*points), linestyle="", marker="o", markersize=4, color=colour, alpha=0.55, markeredgewidth=0,
                label=f"width {width}",
            )  # fmt: skip
        low, high = 0.5 * config.least / config.steps, -1.5 * math.log1p(-config.share)
        axis.plot(
            [low, high], [low, high], color="0.3", linewidth=1.2, linestyle="-", marker="", label="equal"
        )
        axis.set(xscale="log", yscale="log", title=named(p), xlabel="predicted, −log(1 − ηλ)")
    axes[0][0].set(ylabel="measured rate per step")
    legend_outside(figure, axes[0][0], columns=len(config.widths) + 1)
    caption = f"One point a mode and seed. {setting(config)}. p is the decay of the encoding's weights, a_j = 1/j^p."
    run.figure("rates", figure, title="Each eigenmode of the error decays at its own rate", caption=caption)


def _order_figure(config: Config, run: Run, found: Found) -> None:
    """Eigenvalue by frequency, and what is left in each frequency of a trained network's error."""
    width = max(config.widths)
    figure, axes = new_figure(1, 2, width=11.4, height=4.8)
    for p, colour, mark in zip(config.powers, PALETTE, "osD^vP"):
        results = found[p, width]
        for k, r in enumerate(results):
            axes[0].plot(
                r["frequencies"], r["eigenvalues"], linestyle="", marker=mark, markersize=4.5, color=colour, alpha=0.6,
                markeredgewidth=0, label=named(p) if k == 0 else None,
            )  # fmt: skip
        left = np.array([r["left"] for r in results])
        j = np.arange(1, left.shape[1] + 1)
        axes[1].plot(j, np.median(left, 0), color=colour, marker=mark, linestyle="-", label=named(p))
        axes[1].fill_between(j, left.min(0), left.max(0), color=colour, alpha=0.13, linewidth=0)
    axes[0].set(
        yscale="log",
        xlabel="mean frequency of the eigenvector",
        ylabel="eigenvalue over the largest",
        title="Kernel",
    )
    axes[1].set(
        xlabel="frequency of the error",
        ylabel="share left",
        title="Trained: half is left in the median",
        ylim=(0, 1.5),
    )
    axes[1].axhline(0.5, color="0.45", linewidth=1, linestyle=":", marker="")
    legend_outside(figure, axes[1], columns=len(config.powers))
    caption = (
        f"Left: modes of the kernel at the start, all seeds. Right: median and range over seeds. Low frequencies go first "
        f"where the encoding's weights fall; at p = 0, a flat spectrum, all but 0 and n/2, whose sine vanishes on the points, "
        f"go together. Width {width}; {setting(config)}."
    )
    run.figure("order", figure, title="Which frequencies are learned first", caption=caption)


# Claims.


def _claim_rates(config: Config, run: Run, found: Found) -> None:
    width = max(config.widths)
    for p in config.powers:
        mean, interval = tangent.summary([middle(r) for r in found[p, width]])
        off = tangent.summary([spread(r) for r in found[p, width]])[0]
        run.claim(
            Claim(
                name=f"decay-p-{p:g}",
                statement=f"The error of each eigenmode of a trained network decays by log(1 − ηλ) a step ({named(p)}).",
                source=f"{tangent.TANCIK}, eq. 4, in discrete time",
                expected="1, within 0.1",
                measured=mean,
                low=0.9,
                high=1.1,
                interval=interval,
                unit="measured over predicted rate, geometric mean over modes",
                note=f"width {width}; rms log ratio {off:.3f}; {setting(config)}",
            )
        )
    if len(config.widths) > 1:
        narrow = min(config.widths)
        for p in config.powers:
            falls = [spread(a) / spread(b) for a, b in zip(found[p, narrow], found[p, width])]
            mean, interval = tangent.summary(falls)
            run.claim(
                Claim(
                    name=f"decay-by-width-p-{p:g}",
                    statement=f"The rates come closer to the prediction as the network gets wider ({named(p)}).",
                    source=f"{tangent.LEE}, theorem 2.1",
                    expected="> 1",
                    measured=mean,
                    low=1.0,
                    interval=interval,
                    unit=f"rms log ratio at width {narrow} over that at {width}",
                    note=f"paired over seeds; {setting(config)}",
                )
            )


def orders(results: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Spearman's rank correlations with the frequency, for each seed: of −eigenvalue, and of the error left.

    Frequencies from 0.75 on: the constant, which every kernel here favours, is no frequency to order.
    """
    kernel, trained = [], []
    for r in results:
        pairs = [(f, -v) for f, v in zip(r["frequencies"], r["eigenvalues"]) if f >= 0.75]
        kernel.append(float(stats.spearmanr(*zip(*pairs)).statistic))
        trained.append(float(stats.spearmanr(range(len(r["left"])), r["left"]).statistic))
    return kernel, trained


def _claim_order(config: Config, run: Run, found: Found) -> None:
    width = max(config.widths)
    for p in config.powers:
        falling = p > 0
        for name, values, what in zip(
            ("kernel-order", "learned-order"),
            orders(found[p, width]),
            ("larger eigenvalue, lower frequency", "lower frequency, learned first"),
        ):
            mean, interval = tangent.summary(values)
            statement = (
                f"{what[0].upper()}{what[1:]} holds behind an encoding with falling weights ({named(p)})."
            )
            if not falling:
                statement = f"“{what[0].upper()}{what[1:]}” fails for a flat spectrum ({named(p)})."
            run.claim(
                Claim(
                    name=f"{name}-p-{p:g}",
                    statement=statement,
                    source="the source's reading of eq. 4 (spectral-bias); specification of the spectral experiments",
                    expected="≥ 0.7" if falling else "within 0.4 of 0",
                    measured=mean,
                    low=0.7 if falling else -0.4,
                    high=None if falling else 0.4,
                    interval=interval,
                    unit="Spearman's correlation with the frequency",
                    note=f"without the constant; width {width}; {setting(config)}",
                )
            )
