"""What td-equals-supervised shows and claims."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.lab import Claim, Run, legend_outside, mean_interval, new_figure, paired_interval
from fingerpost.lab.style import PALETTE

if TYPE_CHECKING:
    from fingerpost.experiments.td_equals_supervised import Config

np = lazy_import("numpy")

SOURCE = "summary of Sutton 1988 (Temporal Difference Methods in Machine Learning, 2021)"
SUTTON = "Sutton 1988, https://doi.org/10.1007/BF00115009"
SPECIFICATION = "specification of the td experiments"
SEIJEN = "van Seijen et al. 2016, https://jmlr.org/papers/v17/15-599.html"
ROUNDING = 1e-12
TOP = 0.75
STATES = ("random", "trained")
STYLES = {
    ("linear", "random"): (PALETTE[0], "-"),
    ("linear", "trained"): (PALETTE[0], "--"),
    ("network", "random"): (PALETTE[1], "-"),
    ("network", "trained"): (PALETTE[1], "--"),
}

Reports = dict[tuple[str, str, float], Any]


def show(
    config: Config, run: Run, identity: dict[str, float], reports: Reports, asymmetry: dict[float, float],
    online: dict[str, dict[str, list[list[float]]]], walks: dict[str, list[list[float]]], outcome: dict[str, Any],
) -> None:  # fmt: skip
    """Tables, figures and claims."""
    _audit_table(config, run, reports, asymmetry)
    _audit_figure(config, run, reports)
    _online_table(config, run, online)
    _online_figure(config, run, online)
    _walk_figure(config, run, walks)
    _claim_identity(config, run, identity)
    _claim_audits(run, reports, asymmetry)
    _claim_online(config, run, online)
    _claim_walks(config, run, walks)
    _claim_source(config, run, reports, outcome)


def of_weights(report: Any, figure: str = "gamma") -> Any:
    """A figure of the weights that the observations enter by; a bias of one number has no more than a sign."""
    return report.layers[0].figures[figure]


def _audit_table(config: Config, run: Run, reports: Reports, asymmetry: dict[float, float]) -> None:
    rows = []
    for kind in ("linear", "network"):
        for lam in config.lambdas:
            row: list[Any] = [kind, lam]
            for state in STATES:
                report = reports[kind, state, lam]
                row += [report.verdict.name, of_weights(report).value, of_weights(report, "scale").value]
            rows.append([*row, asymmetry[lam] if kind == "linear" else None])
    heads = [
        "predictor", "λ", "random weights", "Γ", "scale", "trained weights", "Γ ", "scale ", "‖M − Mᵀ‖/‖M‖",
    ]  # fmt: skip
    caption = (
        f"The audit of TD(λ), weights kept within a sequence, against the gradient of ½ Σ (z − P_t)²: {config.units} parts of "
        f"{config.sequences} sequences of 2 to {config.length} observations. Γ and scale are those of the weights that "
        "observations enter by, verdicts those of all parameters. FAULT says that one wrong factor, or the like, "
        "explains most of the difference: λ below 1 is no mistake, but it is another signal. "
        "The last column is 0 if, and only if, the linear rule descends some function."
    )
    table = Table(heads, rows, title="TD(λ) against the supervised gradient", caption=caption)
    run.table("audits", table)
    title = "TD(1) of a network, audited"
    run.audit("td-1", reports["network", "random", 1.0], title=title, caption="At random weights.")


def _audit_figure(config: Config, run: Run, reports: Reports) -> None:
    picture, axes = new_figure(1, 2, width=11.4, height=4.6)
    for axis, figure, label in zip(
        axes, ("gamma", "scale"), ("Γ: cosine with the gradient", "scale along the gradient")
    ):
        for (kind, state), (colour, line) in STYLES.items():
            found = [of_weights(reports[kind, state, lam], figure) for lam in config.lambdas]
            values = np.asarray([f.value for f in found])
            spread = np.asarray([[f.value - f.low, f.high - f.value] for f in found]).T
            axis.errorbar(
                config.lambdas,
                values,
                np.maximum(spread, 0),
                color=colour,
                linestyle=line,
                label=f"{kind}, {state} weights",
            )
        axis.set(xlabel="λ", ylabel=label, ylim=(0, 1.05))
    legend_outside(picture, axes[0], columns=4)
    caption = (
        f"Of the weights that observations enter by, with 95 % intervals over {config.units} parts; 1 is the "
        "supervised gradient, and is reached at λ = 1 alone."
    )
    run.figure("audits", picture, title="How far TD(λ) is from the supervised gradient", caption=caption)


NAMES = {
    "accumulating": "linear, accumulating traces",
    "true online": "linear, true online (dutch traces)",
    "network": "network, accumulating traces",
}


def _online_table(config: Config, run: Run, online: dict[str, dict[str, list[list[float]]]]) -> None:
    rows = []
    for place, alpha in enumerate(config.alphas):
        for rule, against in online.items():
            row: list[Any] = [alpha, NAMES[rule]]
            for values in against.values():
                mean = mean_interval(values[place])
                row += [100 * mean.mean, format_interval([100 * end for end in mean.interval])]
            rows.append(row)
    heads = [
        "α",
        "TD(1), changes at each step",
        "to Widrow–Hoff at the end (%)",
        "interval",
        "at each step (%)",
        "interval ",
    ]
    caption = (
        "Difference of what TD(1) and Widrow–Hoff change in the course of one sequence, over the latter's length; mean over "
        f"{config.sequences} sequences with 95 % intervals."
    )
    table = Table(heads, rows, title="Weights that change within a sequence", caption=caption)
    run.table("online", table)


def _online_figure(config: Config, run: Run, online: dict[str, dict[str, list[list[float]]]]) -> None:
    picture, axes = new_figure(1, 2, width=11.4, height=4.8, sharey=True)
    names = {"offline": "Against Widrow–Hoff at the end", "online": "Against Widrow–Hoff at each step"}
    for axis, (against, title) in zip(axes, names.items()):
        for rule, found in online.items():
            means = [sum(values) / len(values) for values in found[against]]
            axis.loglog(config.alphas, means, marker="o", label=NAMES[rule])
        axis.set(xlabel="α", title=title)
    axes[0].set(ylabel="relative difference")
    legend_outside(picture, axes[0], columns=3)
    caption = (
        "TD(1) whose weights change at each step, beside Widrow–Hoff. The differences are proportional to α; true online TD "
        "is Widrow–Hoff at each step, to rounding."
    )
    run.figure("online", picture, title="What changes on the way do to the identity", caption=caption)


def _walk_figure(config: Config, run: Run, walks: dict[str, list[list[float]]]) -> None:
    picture, axes = new_figure(width=7.6, height=5.0)
    for name, found in walks.items():
        if name.startswith("TD"):
            means = [mean_interval(values) for values in found]
            half = [m.mean - m.low if m.mean < TOP else math.nan for m in means]
            axes.errorbar(config.walk_alphas, [m.mean for m in means], half, label=name)
        else:
            means = [sum(values) / len(values) for values in found]
            axes.plot(
                config.walk_alphas, means, linestyle="", marker="o" if "kept" in name else "s", color="#000000",
                markerfacecolor="none", markersize=10, label=name,
            )  # fmt: skip
    axes.set(xlabel="α", ylabel="root mean square error", ylim=(0, TOP))
    legend_outside(picture, axes, columns=2)
    caption = (
        f"Sutton's random walk, ten sequences, weights ½ at first; means over {config.sets} training sets with 95 % intervals. "
        f"Means above {TOP:g} are cut off."
    )
    run.figure("walk", picture, title="Three kinds of TD(1), two of Widrow–Hoff", caption=caption)


def _claim_identity(config: Config, run: Run, identity: dict[str, float]) -> None:
    statements = {
        "linear": "With weights kept, linear TD(1) changes them as Widrow–Hoff does, over a sequence.",
        "discounted": "The same holds with γ < 1 and rewards, where Widrow–Hoff learns the discounted return.",
        "network": "The same holds for a network.",
        "autograd": "TD(1) of a network is autograd's gradient of ½ Σ (z − P_t)².",
    }
    for key, statement in statements.items():
        run.claim(
            Claim(
                name=f"identity-{key}",
                statement=statement,
                source=f"{SOURCE}, eq. 3; {SUTTON}, section 2" if key != "discounted" else SPECIFICATION,
                expected="0, to rounding",
                measured=identity[key],
                high=ROUNDING,
                unit="difference over the summed lengths of all changes",
                note=f"the worst of {config.trials} random sequences of 1 to {10 * config.length} observations, float64",
            )
        )


def _claim_audits(run: Run, reports: Reports, asymmetry: dict[float, float]) -> None:
    for kind, words in (("linear", "linear predictor"), ("network", "network")):
        verdicts = [reports[kind, state, 1.0].verdict.name for state in STATES]
        run.claim(
            Claim(
                name=f"{kind}-td-1-is-exact",
                statement=f"The audit finds TD(1) of a {words} equal to the supervised gradient.",
                source=f"{SOURCE}, eq. 3",
                expected="EXACT, at random and at trained weights",
                measured=float(verdicts.count("EXACT")),
                low=2.0,
                unit="of two audits",
                note=f"verdicts {', '.join(verdicts)}",
            )
        )
    below = {key: report for key, report in reports.items() if key[2] < 1}
    run.claim(
        Claim(
            name="below-1-another-signal",
            statement="For λ < 1 TD(λ) isn't the supervised gradient.",
            source=f"{SUTTON}, section 2.2",
            expected="never EXACT",
            measured=float(sum(report.verdict.name == "EXACT" for report in below.values())),
            high=0.0,
            unit=f"EXACT of {len(below)} audits",
            note=f"verdicts: {', '.join(sorted({report.verdict.name for report in below.values()}))}",
        )
    )
    first = of_weights(reports["network", "random", 0.0])
    run.claim(
        Claim(
            name="td-0-points-elsewhere",
            statement="TD(0) points another way than the supervised gradient.",
            source=f"{SUTTON}, section 2.2",
            expected="< 0.95",
            measured=first.value,
            high=0.95,
            interval=(first.low, first.high),
            unit="Γ",
            note="network at random weights, its first layer's",
            decided_by="interval",
        )
    )
    _claim_asymmetry(run, asymmetry)


def _claim_asymmetry(run: Run, asymmetry: dict[float, float]) -> None:
    least = min((lam for lam in asymmetry if lam < 1), key=lambda lam: asymmetry[lam])
    run.claim(
        Claim(
            name="td-1-descends-a-function",
            statement="At λ = 1 the linear rule's matrix is symmetric: it descends a function.",
            source="fingerpost: a linear field is a gradient if and only if its matrix is symmetric",
            expected="0, to rounding",
            measured=asymmetry[1.0],
            high=ROUNDING,
            unit="‖M − Mᵀ‖ / ‖M‖",
        )
    )
    run.claim(
        Claim(
            name="below-1-descends-none",
            statement="For λ < 1 it isn't symmetric: the rule is the gradient of no function.",
            source="fingerpost: a linear field is a gradient if and only if its matrix is symmetric",
            expected="> 0.001",
            measured=asymmetry[least],
            low=1e-3,
            unit="‖M − Mᵀ‖ / ‖M‖",
            note=f"least over λ < 1, at λ = {least:g}; λ = 0: {asymmetry[0.0]:.3g}",
        )
    )


def _claim_online(config: Config, run: Run, online: dict[str, dict[str, list[list[float]]]]) -> None:
    for rule, kind in (("accumulating", "linear predictor"), ("network", "network")):
        large = mean_interval(online[rule]["offline"][-1])
        run.claim(
            Claim(
                name=f"online-{rule}-breaks",
                statement=f"TD(1) of a {kind} isn't Widrow–Hoff if weights change at each step.",
                source=SPECIFICATION,
                expected="> 0.05",
                measured=large.mean,
                low=0.05,
                interval=large.interval,
                unit="relative difference of a sequence's change",
                note=f"α = {config.alphas[-1]:g}; α = {config.alphas[0]:g}: {np.mean(online[rule]['offline'][0]):.2g}; against "
                f"Widrow–Hoff at each step {np.mean(online[rule]['online'][-1]):.2g}",
                decided_by="interval",
            )
        )
        small, next_one = (np.mean(values) for values in online[rule]["offline"][:2])
        slope = math.log(next_one / small) / math.log(config.alphas[1] / config.alphas[0])
        run.claim(
            Claim(
                name=f"online-{rule}-first-order",
                statement=f"For a {kind} the difference is proportional to α where α is small.",
                source="fingerpost: weights on the way differ from those kept by terms of order α",
                expected="1",
                measured=slope,
                low=0.95,
                high=1.05,
                unit="slope of log difference on log α",
                note=f"between α = {config.alphas[0]:g} and {config.alphas[1]:g}",
            )
        )
    run.claim(
        Claim(
            name="true-online-is-widrow-hoff-at-each-step",
            statement="True online TD(1) ends a sequence where Widrow–Hoff with a change at each step does.",
            source=f"{SEIJEN}: it equals the online λ-return algorithm, whose last targets at λ = 1 are z",
            expected="0, to rounding",
            measured=max(max(values) for values in online["true online"]["online"]),
            high=ROUNDING,
            unit="relative difference of a sequence's change",
            note=f"the worst of {config.sequences} sequences and {len(config.alphas)} α",
        )
    )


def _claim_walks(config: Config, run: Run, walks: dict[str, list[list[float]]]) -> None:
    pairs = {
        "kept": ("TD(1), weights kept", "Widrow–Hoff, weights kept", "with weights kept within a walk"),
        "true-online": (
            "TD(1), true online",
            "Widrow–Hoff, at each step",
            "if TD is true online and both change at each step",
        ),
    }
    for name, (one, other, words) in pairs.items():
        run.claim(
            Claim(
                name=f"walks-{name}",
                statement=f"On the random walk TD(1) and Widrow–Hoff make the same errors {words}.",
                source=f"{SUTTON}, section 3.2" if name == "kept" else SEIJEN,
                expected="0, to rounding",
                measured=float(np.abs(np.asarray(walks[one]) - np.asarray(walks[other])).max()),
                high=ROUNDING,
                unit="largest difference of root mean square errors",
                note=f"{config.sets} training sets of ten walks, {len(config.walk_alphas)} α",
            )
        )
    place = len(config.walk_alphas) // 2
    gap = paired_interval(walks["TD(1), weights kept"][place], walks["TD(1), at each step"][place])
    run.claim(
        Claim(
            name="walks-accumulating-online",
            statement="TD(1) with accumulating traces that changes at each step errs otherwise than with weights kept.",
            source=SPECIFICATION,
            expected="> 0: it errs less at this α",
            measured=gap.mean,
            low=0.0,
            interval=gap.interval,
            unit="root mean square error, kept less at each step",
            note=f"α = {config.walk_alphas[place]:g}, paired over {config.sets} training sets",
            decided_by="interval",
        )
    )


def _claim_source(config: Config, run: Run, reports: Reports, outcome: dict[str, Any]) -> None:
    share = mean_interval(outcome["shares"])
    run.claim(
        Claim(
            name="independent-of-z",
            statement="Equation 3 is an update independent of z.",
            source=f"{SOURCE}, below eq. 3",
            expected="0",
            measured=share.mean,
            high=ROUNDING,
            interval=share.interval,
            unit="change of Σ Δw_t if z is one more, over its length",
            note="its last step uses P_{m+1} = z; sequences with weights kept",
        )
    )
    run.claim(
        Claim(
            name="all-but-the-last-independent-of-z",
            statement="All steps of equation 3 but the last are independent of z.",
            source="fingerpost: the corrected statement",
            expected="0",
            measured=outcome["earlier"],
            high=0.0,
            unit="largest change of Δw_1 … Δw_{m−1} if z is one more",
        )
    )
    run.claim(
        Claim(
            name="printed-sign-descends",
            statement="Equations 2 and 3, added to w as equation 1 says, descend the supervised loss.",
            source=f"{SOURCE}, eqs. 1 to 3",
            expected="1: they are −∇, so that the audit of Δw itself names its sign",
            measured=outcome["cosine"],
            low=1 - ROUNDING,
            unit="least cosine with −∇ ½ Σ (z − P_t)²",
            note=f"the audit of Δw against ∇: {_added(reports).verdict}",
        )
    )


def _added(reports: Reports) -> Any:
    """The audit of the change as it is added to the weights."""
    return next(report for key, report in reports.items() if math.isnan(key[2]))
