"""What ntk-dynamics shows and claims."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.experiments import _tangent_training as tangent
from fingerpost.lab import Claim, Run, legend_outside, new_figure

if TYPE_CHECKING:
    from fingerpost.experiments.ntk_dynamics import Config

np = lazy_import("numpy")

Errors = dict[tuple[int, float, bool], list[dict[str, Any]]]
Rates = dict[float, list[dict[str, Any]]]


def show(config: Config, run: Run, errors: Errors, rates: Rates) -> None:
    """Tables, figures and claims."""
    _table(config, run, errors)
    _width_figure(config, run, errors)
    _curves_figure(config, run, errors)
    _rates_figure(config, run, rates)
    _claim_accuracy(config, run, errors)
    _claim_initial_output(config, run, errors)
    _claim_rates(config, run, rates)


def setting(config: Config) -> str:
    """What stands beside every figure."""
    return (
        f"NTK parametrization, {config.depth} hidden layers, {config.activation}, {config.points} training points, full-batch "
        f"gradient descent, {config.dtype}, {config.seeds} seed(s)"
    )


def worst(results: list[dict[str, Any]], form: str = "corrected") -> list[float]:
    """The largest error over the times, for each seed."""
    return [max(result[form]) for result in results]


def typical(results: list[dict[str, Any]], form: str) -> list[float]:
    """The root mean square error over the times after the start, for each seed."""
    return [math.sqrt(float(np.mean(np.square(result[form][1:])))) for result in results]


def _name(scale: float, centred: bool) -> str:
    return f"α = {scale:g}, " + ("labels moved by f₀" if centred else "labels as they are")


def _table(config: Config, run: Run, errors: Errors) -> None:
    rows = []
    for (width, scale, centred), found in errors.items():
        mean, interval = tangent.summary(worst(found))
        around = f"{100 * interval[0]:.2g} … {100 * interval[1]:.2g}" if interval else ""
        rows.append([width, scale, "y + f₀" if centred else "y", 100 * mean, around])
        rows[-1] += [
            100 * tangent.summary(typical(found, form))[0] for form in ("corrected", "without f0", "printed")
        ]
    heads = [
        "width",
        "α",
        "labels",
        "largest (%)",
        "interval",
        "rms (%)",
        "rms without f₀ (%)",
        "rms of eq. 3 as printed (%)",
    ]
    caption = (
        f"Difference between trained and predicted outputs at {config.points} test points, root mean square, over that of "
        f"y − f₀ on the training points: the largest over {config.steps} steps, and the rms over log-spaced times from 1 on. "
        "Eq. 3 as printed leaves f₀ out and runs in continuous "
        f"time. η λ_max = {config.share:g}; {setting(config)}. Labels y + f₀ leave the same y to be learned at every α; labels "
        "y leave y − f₀, which grows with α."
    )
    run.table("errors", Table(heads, rows, title="Predicted against real training", caption=caption))


def _width_figure(config: Config, run: Run, errors: Errors) -> None:
    figure, axes = new_figure(1, 2, width=11.4, height=4.8, sharey=True)
    for axis, centred in zip(axes, (True, False)):
        for scale in config.scales:
            values = [[100 * v for v in worst(errors[w, scale, centred])] for w in config.widths]
            means = [sum(row) / len(row) for row in values]
            (line,) = axis.loglog(config.widths, means, marker="o", label=f"α = {scale:g}")
            low, high = [min(row) for row in values], [max(row) for row in values]
            axis.fill_between(config.widths, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        first = 100 * tangent.summary(worst(errors[config.widths[0], config.scales[0], centred]))[0]
        guide = [first * (config.widths[0] / w) ** 0.5 for w in config.widths]
        axis.loglog(
            config.widths, guide, color="0.5", linewidth=1.2, linestyle=":", marker="", label="1/√width"
        )
        axis.set(
            xlabel="width", title="Labels y + f₀: the same to learn" if centred else "Labels y: f₀ to unlearn"
        )
        axis.set_xticks(config.widths, [str(w) for w in config.widths])
        axis.minorticks_off()
    axes[0].set(ylabel="largest error over training (%)")
    _plain_ticks(axes[0])
    legend_outside(figure, axes[0], columns=len(config.scales) + 1)
    caption = (
        f"f₀ + K_test φ(K)(y − f₀) against the trained network at test points; over the rms of y − f₀. η λ_max = "
        f"{config.share:g}; {setting(config)}; lines are means, bands the range over seeds."
    )
    run.figure(
        "error-by-width", figure, title="Wider and lazier networks follow their kernel", caption=caption
    )


def _plain_ticks(axis: Any) -> None:
    """Per cents on a logarithmic axis, written out."""
    low, high = axis.get_ylim()
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if low <= t <= high]
    axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()


def _curves_figure(config: Config, run: Run, errors: Errors) -> None:
    """The outputs over the circle at three times, trained and predicted, by the widest network at the first scale."""
    width, scale = max(config.widths), config.scales[0]
    found = errors[width, scale, False][0]
    times, curves, points = found["times"], found["curves"], found["points"]
    shown = [0, _nearest(times, 8), len(times) - 1]
    figure, axes = new_figure(1, 3, width=12.6, height=4.4, sharey=True)
    for axis, place in zip(axes, shown):
        axis.plot(
            points, curves["real"][place], linestyle="", marker="o", color="#000000", label="trained network"
        )
        axis.plot(
            points, curves["corrected"][place], linestyle="-", color="#0072B2", label="predicted, with f₀"
        )
        axis.plot(
            points,
            curves["printed"][place],
            linestyle="--",
            color="#D55E00",
            label="eq. 3 as printed, without f₀",
        )
        axis.set(title=f"after {times[place]} steps", xlabel="v, once around the circle")
    axes[0].set(ylabel="output at test points")
    legend_outside(figure, axes[0], columns=3)
    caption = f"Width {width}, α = {scale:g}, η λ_max = {config.share:g}, labels y; {setting(config)}, the first shown."
    run.figure("outputs", figure, title="What eq. 3 leaves out", caption=caption)


def _nearest(times: list[int], t: int) -> int:
    return min(range(len(times)), key=lambda k: abs(times[k] - t))


def _rates_figure(config: Config, run: Run, rates: Rates) -> None:
    figure, axes = new_figure(1, 2, width=11.8, height=4.8)
    for time, label in (("steps", "steps, (1 − ηλ)ᵗ"), ("flow", "flow, exp(−ηλt)")):
        values = [[100 * r[time] for r in rates[share]] for share in config.shares]
        (line,) = axes[0].semilogy(config.shares, [sum(v) / len(v) for v in values], marker="o", label=label)
        low, high = [min(v) for v in values], [max(v) for v in values]
        axes[0].fill_between(config.shares, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes[0].set(xlabel="η λ_max", ylabel="largest error over training (%)", title="Below the stable limit, 2")
    axes[0].legend()
    _plain_ticks(axes[0])
    for share, colour in zip(config.beyond, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")):
        found = rates[share][0]
        t = found["times"]
        real = [math.nan if v is None else v for v in found["real"]]
        axes[1].semilogy(t, real, color=colour, linestyle="-", label=f"η λ_max = {share:g}")
        axes[1].semilogy(t, found["linear"], color=colour, linestyle=":")
    seen = [v for share in config.beyond for v in rates[share][0]["real"] if v is not None]
    axes[1].set(
        xlabel="step", ylabel="mean squared error", title="Above it", ylim=(0.3 * min(seen), 300 * max(seen))
    )
    axes[1].plot([], [], color="0.3", linestyle=":", label="linear theory")
    axes[1].legend(loc="upper right")
    caption = (
        f"Left: the two predictions against real training for the same η t. Right: real training (solid) and linear theory "
        f"(dotted), which leaves the frame. Width {config.rate_width}, α = 1, labels y; {setting(config)}; left means and "
        "range over seeds, right the first seed."
    )
    run.figure("learning-rates", figure, title="Steps, flow, and above the limit", caption=caption)


# Claims.


def _claim_accuracy(config: Config, run: Run, errors: Errors) -> None:
    lazy = [scale for scale in config.scales if scale >= 10]
    for scale in lazy if 1024 in config.widths else []:
        mean, interval = tangent.summary(worst(errors[1024, scale, True]))
        run.claim(
            Claim(
                name=f"two-percent-alpha-{scale:g}",
                statement=f"At width 1024 and α = {scale:g} the corrected eq. 3 predicts real training within 2 %.",
                source=tangent.SPECIFICATION,
                expected="≤ 2",
                measured=100 * mean,
                high=2.0,
                interval=_percent(interval),
                unit="%",
                note=f"largest error over {config.steps} steps, mean over seeds; labels y + f₀; η λ_max = {config.share:g}; "
                f"{setting(config)}",
            )
        )
    widths, scale = config.widths, config.scales[0]
    if len(widths) > 1:
        slopes = [
            _slope(widths, [worst(errors[w, scale, True])[seed] for w in widths])
            for seed in range(config.seeds)
        ]
        mean, interval = tangent.summary(slopes)
        run.claim(
            Claim(
                name="error-falls-with-width",
                statement="The distance to the linear theory falls as 1/√width.",
                source=f"{tangent.LEE}, theorem 2.1",
                expected="−0.5",
                measured=mean,
                low=-0.75,
                high=-0.25,
                interval=interval,
                unit="slope of log error against log width",
                note=f"α = {scale:g}, widths {widths[0]} to {widths[-1]}; η λ_max = {config.share:g}; {setting(config)}",
            )
        )
    if lazy:
        width = max(widths)
        ratios = [
            a / b for a, b in zip(worst(errors[width, scale, True]), worst(errors[width, lazy[0], True]))
        ]
        mean, interval = tangent.summary(ratios)
        run.claim(
            Claim(
                name="lazier-with-alpha",
                statement=f"α = {lazy[0]:g} follows the linear theory closer than α = {scale:g} if it has the same to learn.",
                source="Chizat et al. 2019, lazy training (arXiv:1812.07956), theorem 2.2",
                expected="> 1",
                measured=mean,
                low=1.0,
                interval=interval,
                unit="ratio of errors",
                note=f"width {width}, labels y + f₀, paired over seeds; η λ_max = {config.share:g}; {setting(config)}",
            )
        )


def _percent(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])


def _slope(x: Any, y: Any) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _claim_initial_output(config: Config, run: Run, errors: Errors) -> None:
    width = 1024 if 1024 in config.widths else max(config.widths)
    found = errors[width, config.scales[0], False]
    for form, name, what in (
        ("without f0", "initial-output", "Ignoring f₀"),
        ("printed", "eq-3-printed", "Eq. 3 as printed, without f₀ and in continuous time,"),
    ):
        ratios = [a / b for a, b in zip(typical(found, form), typical(found, "corrected"))]
        mean, interval = tangent.summary(ratios)
        run.claim(
            Claim(
                name=name,
                statement=f"{what} costs a factor of about six in error at width {width}.",
                source=tangent.SPECIFICATION,
                expected="3 to 12",
                measured=mean,
                low=3.0,
                high=12.0,
                interval=interval,
                unit="ratio of rms errors",
                note=f"over times 1 to {config.steps} spaced in the logarithm; α = {config.scales[0]:g}, labels y, η λ_max = "
                f"{config.share:g}; the factor depends on the times: slow modes of f₀ stay for long; {setting(config)}",
            )
        )


def _claim_rates(config: Config, run: Run, rates: Rates) -> None:
    def ratio(share: float) -> tuple[float, tuple[float, float] | None]:
        return tangent.summary([r["flow"] / r["steps"] for r in rates[share]])

    below = min(config.shares)
    above = min((share for share in config.shares if share > 0.5), default=None)
    note = f"width {config.rate_width}, α = 1, largest error over training; {setting(config)}"
    if below <= 0.1:
        mean, interval = ratio(below)
        run.claim(
            Claim(
                name="flow-at-small-rates",
                statement=f"At η λ_max = {below:g} flow and steps predict alike.",
                source=tangent.SPECIFICATION,
                expected="1",
                measured=mean,
                low=0.9,
                high=1.1,
                interval=interval,
                unit="error of flow over error of steps",
                note=note,
            )
        )
    if above is not None:
        mean, interval = ratio(above)
        run.claim(
            Claim(
                name="flow-parts-from-steps",
                statement=f"At η λ_max = {above:g} the flow is a worse prediction of gradient descent than steps.",
                source=tangent.SPECIFICATION,
                expected="> 1.5",
                measured=mean,
                low=1.5,
                interval=interval,
                unit="error of flow over error of steps",
                note=note,
            )
        )
    _claim_beyond(config, run, rates)


def _claim_beyond(config: Config, run: Run, rates: Mapping[float, list[dict[str, Any]]]) -> None:
    for share in config.beyond:
        found = rates[share]
        ends = [math.inf if r["real"][-1] is None else r["real"][-1] / r["real"][0] for r in found]
        grown = min(r["linear"][-1] / r["linear"][0] for r in found)
        after = [r["after"] for r in found if r["after"] is not None]
        run.claim(
            Claim(
                name=f"beyond-{share:g}",
                statement=f"At η λ_max = {share:g} the linear theory explodes, and the real network still learns.",
                source="Lewkowycz et al. 2020, the catapult (arXiv:2003.02218); specification of the spectral experiments",
                expected="≤ 0.1",
                measured=max(ends),
                high=0.1,
                unit="loss at the end over loss at the start, the worst seed",
                note=f"linear theory: × {grown:.0e}; η λ_max at the end {min(after, default=math.nan):.2f} to "
                f"{max(after, default=math.nan):.2f}; {config.beyond_steps} steps; width {config.rate_width}, α = 1; "
                f"{setting(config)}",
            )
        )
