"""What sutton-1988 shows and claims: our figures beside the printed ones, and which reading they agree with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.lab import Claim, Run, legend_outside, mean_interval, new_figure, paired_interval
from fingerpost.lab.style import PALETTE

if TYPE_CHECKING:
    from fingerpost.experiments.sutton_1988 import Config

np = lazy_import("numpy")
stats = lazy_import("scipy.stats")

SUTTON = "Sutton 1988, https://doi.org/10.1007/BF00115009"
LAMBDAS = tuple(k / 10 for k in range(11))
ALPHAS = tuple(k / 20 for k in range(13))
PRINTED = {
    3: dict(zip((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0), (0.189, 0.190, 0.190, 0.194, 0.199, 0.218, 0.246))),
    5: dict(zip(LAMBDAS, (0.114, 0.108, 0.106, 0.106, 0.108, 0.113, 0.120, 0.130, 0.146, 0.169, 0.204))),
}
"""The paper's figures by λ, read off to ±0.001."""
READ_OFF = 0.001
BEST_ALPHA = {0.0: (0.3,), 0.3: (0.3,), 0.8: (0.15, 0.2), 1.0: (0.05,)}
"""Figure 4's best step sizes by λ; where two are given, the printed curve doesn't tell them apart."""
AGREES = 3.0
ROUNDING = 1e-9

Found = Mapping[int, dict[str, Any]]


def show(config: Config, run: Run, found: Found, limits: dict[str, float]) -> None:
    """Tables, figures and claims."""
    _describe(config, run)
    for figure in (3, 5):
        _printed_table(config, run, found, figure)
    _error_figures(config, run, found)
    _alpha_figure(config, run, found)
    _alpha_table(config, run, found)
    _readings(config, run, found)
    _scan_figure(config, run, found)
    _claim_printed(config, run, found)
    _claim_order(config, run, found)
    _claim_limits(config, run, found, limits)


def _describe(config: Config, run: Run) -> None:
    run.text(
        "What is compared",
        f"The paper's 100 training sets are drawn {config.repetitions} times. A printed value is itself the mean over 100 "
        "sets, and was read off a figure to ±0.001: z is the difference of the printed value from our mean, over the root of "
        "the variance of a mean over 100 sets, of our mean's, and of the reading's (0.001²/3). The values of one figure "
        "come from the same 100 sets and move together; the joint test takes their covariance into account.",
    )


def z_scores(figure: int, rows: Sequence[Sequence[float]]) -> list[float]:
    """The z of each printed value, for means over 100 sets in repetitions (rows) and λ (columns, `LAMBDAS`)."""
    values, printed = _columns(figure, rows)
    spread = values.var(0, ddof=1) * (1 + 1 / len(values)) + READ_OFF**2 / 3
    return [float(z) for z in (printed - values.mean(0)) / np.sqrt(spread)]


def joint_p(figure: int, rows: Sequence[Sequence[float]]) -> float:
    """The p of all printed values of a figure together: Hotelling's T² of one more repetition."""
    values, printed = _columns(figure, rows)
    n, k = values.shape
    covariance = np.cov(values.T) * (1 + 1 / n) + np.eye(k) * READ_OFF**2 / 3
    apart = printed - values.mean(0)
    t2 = float(apart @ np.linalg.solve(covariance, apart))
    return float(stats.f.sf(t2 * (n - k) / (k * (n - 1)), k, n - k))


def _columns(figure: int, rows: Sequence[Sequence[float]]) -> tuple[Any, Any]:
    chosen = [LAMBDAS.index(lam) for lam in PRINTED[figure]]
    return np.asarray(rows)[:, chosen], np.asarray(list(PRINTED[figure].values()))


def worst(figure: int, rows: Sequence[Sequence[float]]) -> float:
    """The z that is farthest from 0."""
    return max(z_scores(figure, rows), key=abs)


def _key(figure: int) -> str:
    return "limit" if figure == 3 else "best"


def _printed_table(config: Config, run: Run, found: Found, figure: int) -> None:
    rows = []
    z = {count: z_scores(figure, found[count][_key(figure)]) for count in (5, 10)}
    for place, (lam, printed) in enumerate(PRINTED[figure].items()):
        row: list[Any] = [lam, printed]
        for count in (5, 10):
            ours = mean_interval([r[LAMBDAS.index(lam)] for r in found[count][_key(figure)]])
            row += [ours.mean, format_interval(ours.interval, 4), z[count][place]]
        rows.append(row)
    heads = ["λ", "printed"]
    for count in (5, 10):
        heads += [f"{count} a set", f"interval, {count}", f"z, {count}"]
    what = (
        "in the limit of repeated presentations"
        if figure == 3
        else "after one presentation, at the best α on a grid of 0.05; the best of each 100 sets, as in the paper"
    )
    caption = (
        f"Root mean square error over the five states {what}, mean over {100 * config.repetitions:,} training sets of 5 and "
        "of 10 sequences, with 95 % intervals. z holds the printed value against the mean of another 100 sets."
    )
    title = "Figure 3: errors in the limit" if figure == 3 else "Figure 5: errors at the best α"
    run.table(f"figure-{figure}", Table(heads, rows, title=title, caption=caption, digits=4))


def _error_figures(config: Config, run: Run, found: Found) -> None:
    for figure, title in (
        (3, "Figure 3: repeated presentations"),
        (5, "Figure 5: one presentation, the best α"),
    ):
        picture, axes = new_figure(width=7.4, height=4.6)
        for count, colour in ((10, PALETTE[1]), (5, PALETTE[0])):
            values = np.asarray(found[count][_key(figure)])
            mean, spread = values.mean(0), 1.96 * values.std(0, ddof=1)
            axes.fill_between(LAMBDAS, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
            half = spread / math.sqrt(len(values))
            axes.errorbar(
                LAMBDAS,
                mean,
                half,
                color=colour,
                linestyle="-" if count == 5 else "--",
                label=f"{count} sequences a set",
            )
        axes.plot(
            *zip(*PRINTED[figure].items()), linestyle="", marker="D", color="#000000", label="printed in 1988"
        )
        axes.set(xlabel="λ", ylabel="root mean square error", ylim=(0, None))
        legend_outside(picture, axes, columns=3)
        caption = (
            f"Means over {100 * config.repetitions:,} training sets with 95 % intervals; bands hold 95 % of means over 100 "
            "sets, as the printed ones are."
        )
        run.figure(f"figure-{figure}", picture, title=title, caption=caption)


def _alpha_figure(config: Config, run: Run, found: Found) -> None:
    picture, axes = new_figure(1, 2, width=11.4, height=4.8, sharey=True)
    for axis, count in zip(axes, (5, 10)):
        mean, error = np.asarray(found[count]["mean"]), np.asarray(found[count]["error"])
        for lam in BEST_ALPHA:
            place = LAMBDAS.index(lam)
            axis.errorbar(ALPHAS, mean[place], 1.96 * error[place], label=f"λ = {lam:g}")
        axis.set(xlabel="α", title=f"{count} sequences a set", ylim=(0, 0.75))
    axes[0].set(ylabel="root mean square error")
    legend_outside(picture, axes[0], columns=4)
    caption = (
        f"After one presentation with weights changed after each sequence, all weights {0.5:g} at first; means over "
        f"{100 * config.repetitions:,} training sets with 95 % intervals."
    )
    run.figure("figure-4", picture, title="Figure 4: errors by step size", caption=caption)


def _alpha_table(config: Config, run: Run, found: Found) -> None:
    rows = []
    for lam, printed in BEST_ALPHA.items():
        row: list[Any] = [lam, " or ".join(f"{a:g}" for a in printed)]
        for count in (5, 10):
            chosen = [r[LAMBDAS.index(lam)] for r in found[count]["alpha"]]
            share = sum(any(math.isclose(a, p) for p in printed) for a in chosen) / len(chosen)
            row += [best_alpha(found[count], lam), f"{min(chosen):g} … {max(chosen):g}", 100 * share]
        rows.append(row)
    heads = ["λ", "printed"]
    for count in (5, 10):
        heads += [f"best α, {count} a set", f"range, {count}", f"as printed, {count} (%)"]
    caption = (
        f"The α of the least mean error, over all training sets, over each 100 of them (range), and how many of these "
        f"{config.repetitions} repetitions choose the printed α."
    )
    run.table("figure-4", Table(heads, rows, title="Figure 4: the best step sizes", caption=caption))


def best_alpha(found: Mapping[str, Any], lam: float) -> float:
    """The α of the least mean error over all training sets."""
    return ALPHAS[int(np.argmin(found["mean"][LAMBDAS.index(lam)]))]


READINGS = (
    ("mean over sets of each set's error", "limit", "best", None),
    ("root of the mean square over sets", "limit_square", "best_square", math.sqrt),
    ("the same mean, α on a grid of 0.01", None, "best_fine", None),
)


def _readings(config: Config, run: Run, found: Found) -> None:
    rows = []
    for name, limit, best, root in READINGS:
        for count in (5, 10):
            row: list[Any] = [name, count]
            for figure, key in ((3, limit), (5, best)):
                if key is None:
                    row += [None, None]
                    continue
                values = np.asarray(found[count][key])
                values = values if root is None else _roots(values)
                row += [worst(figure, values), joint_p(figure, values)]
            rows.append(row)
    heads = [
        "error",
        "sequences a set",
        "Figure 3: farthest z",
        "joint p",
        "Figure 5: farthest z",
        "joint p ",
    ]
    caption = (
        "What the figures may show, with the printed value that is farthest off and a joint test of all values (Hotelling's "
        "T²). A root over sets is expanded to first order around its mean, to have a spread over 100 sets."
    )
    run.table(
        "readings", Table(heads, rows, title="Which reading the printed figures agree with", caption=caption)
    )


def _roots(squares: Any) -> Any:
    """Roots of means of squares, linear around the mean over all sets, so that their mean is the root over all sets."""
    whole = squares.mean(0)
    return np.sqrt(whole) * (1 + (squares / whole - 1) / 2)


def _scan_figure(config: Config, run: Run, found: Found) -> None:
    picture, axes = new_figure(width=7.4, height=4.4)
    counts = sorted(found)
    for figure, marker in ((3, "o"), (5, "s")):
        z = [worst(figure, found[count][_key(figure)]) for count in counts]
        axes.plot(counts, z, marker=marker, label=f"Figure {figure}")
    axes.axhspan(-AGREES, AGREES, color="0.5", alpha=0.15, linewidth=0)
    axes.set(xlabel="sequences in a training set", ylabel="farthest z of a printed value", xticks=counts)
    legend_outside(picture, axes)
    caption = (
        f"The printed value that is farthest from ours, by the number of sequences in a training set; the band is ±{AGREES:g}. "
        f"{100 * config.repetitions:,} training sets each."
    )
    run.figure("sequences", picture, title="How many sequences a training set had", caption=caption)


def _claim_printed(config: Config, run: Run, found: Found) -> None:
    for figure in (3, 5):
        for count in (5, 10):
            rows = found[count][_key(figure)]
            z = worst(figure, rows)
            run.claim(
                Claim(
                    name=f"figure-{figure}-{count}-sequences",
                    statement=f"Figure {figure}'s printed errors are those of training sets of {count} sequences.",
                    source=_source(count, figure),
                    expected=f"no printed value farther than {AGREES:g} standard deviations",
                    measured=abs(z),
                    high=AGREES,
                    unit="largest |z| over λ",
                    note=f"z = {z:+.2f}; joint p of all {len(PRINTED[figure])} values {joint_p(figure, rows):.2g}; "
                    f"{config.repetitions} times 100 training sets",
                )
            )
    for count in (5, 10):
        chosen = {lam: best_alpha(found[count], lam) for lam in BEST_ALPHA}
        met = sum(any(math.isclose(chosen[lam], p) for p in printed) for lam, printed in BEST_ALPHA.items())
        run.claim(
            Claim(
                name=f"figure-4-{count}-sequences",
                statement=f"Figure 4's best step sizes are those of training sets of {count} sequences.",
                source=_source(count, 4),
                expected="all four",
                measured=met,
                low=4,
                unit="of the four printed λ",
                note="best α by λ: " + ", ".join(f"{lam:g}: {alpha:g}" for lam, alpha in chosen.items()),
            )
        )


def _source(count: int, figure: int) -> str:
    if count == 10:
        return f"{SUTTON}, section 3.2 (100 training sets of 10 sequences), Figure {figure}"
    return f"specification of the td experiments, on {SUTTON}, Figure {figure}"


def _claim_order(config: Config, run: Run, found: Found) -> None:
    limit, best = [np.asarray(found[5][key]) for key in ("limit", "best")]
    nearest = min(range(10), key=lambda k: float((limit[:, 10] - limit[:, k]).mean()))
    low = min(range(11), key=lambda k: float(best[:, k].mean()))
    pairs = (
        (
            "widrow-hoff-worst-in-the-limit", "In the limit every λ below 1 is better than Widrow–Hoff's λ = 1.",
            "Figure 3", limit[:, 10], limit[:, nearest], f"λ = 1 less λ = {LAMBDAS[nearest]:g}, the next worst",
        ),
        (
            "lambda-0-best-in-the-limit", "In the limit λ = 0 is best.",
            "Figure 3", limit[:, 1], limit[:, 0], "λ = 0.1 less λ = 0",
        ),
        (
            "best-lambda-above-0", "After one presentation the best λ is above 0.",
            "Figure 5", best[:, 0], best[:, low], f"λ = 0 less λ = {LAMBDAS[low]:g}, the best",
        ),
        (
            "best-lambda-below-1", "After one presentation the best λ is below 1.",
            "Figure 5", best[:, 10], best[:, low], f"λ = 1 less λ = {LAMBDAS[low]:g}, the best",
        ),
    )  # fmt: skip
    for name, statement, figure, worse, better, note in pairs:
        gap = paired_interval(list(worse), list(better))
        run.claim(
            Claim(
                name=name,
                statement=statement,
                source=f"{SUTTON}, {figure}",
                expected="> 0",
                measured=gap.mean,
                low=0.0,
                interval=gap.interval,
                unit="root mean square error",
                note=f"{note}; sets of 5 sequences, paired over {config.repetitions} times 100 sets",
                decided_by="interval",
            )
        )


def _claim_limits(config: Config, run: Run, found: Found, limits: dict[str, float]) -> None:
    rows = (
        (
            "repeated-presentation", "Presented again and again with a small step, weights reach the solved limit.",
            "section 3.2", "presented", 1e-6, f"{config.presentations:,} presentations, α = {config.small_alpha:g}",
        ),
        (
            "start-does-not-matter", "The limit doesn't depend on the initial weights if every state was visited.",
            "section 3.2", "started", 1e-6, "presented again and again to weights 0 and 0.5",
        ),
        (
            "certainty-equivalence", "At λ = 0 the limit is the expected outcomes of the chain that the data look like.",
            "section 4.2", "chain", ROUNDING, "transition probabilities counted in the training set",
        ),
        (
            "least-squares", "At λ = 1 the limit is the mean outcome after the visits to each state.",
            "section 4.2", "average", ROUNDING, "least squares on the training set",
        ),
        (
            "expected-rule-is-unbiased", "For every λ the expected rule comes to rest at the true values.",
            "section 4.1", "fixed", ROUNDING, "exact expected matrices; λ from 0 to 1",
        ),
    )  # fmt: skip
    for name, statement, section, key, high, note in rows:
        run.claim(
            Claim(
                name=name,
                statement=statement,
                source=f"{SUTTON}, {section}",
                expected=f"≤ {high:g}",
                measured=limits[key],
                high=high,
                unit="largest difference of a weight",
                note=note,
            )
        )
    run.claim(
        Claim(
            name="always-one-limit",
            statement="Weights always converge to one value, whatever the initial ones, in training sets of 5 and of 10.",
            source=f"{SUTTON}, section 3.2",
            expected="0",
            measured=max(found[count]["unseen"] for count in (5, 10)),
            high=0.0,
            unit="share of sets in which a state was never visited: its weight stays as it was",
            note=f"5 sequences: {found[5]['unseen']:.2%}; 10 sequences: {found[10]['unseen']:.3%}",
        )
    )
    run.claim(
        Claim(
            name="mean-weights-are-the-expected",
            statement="Mean weights over the training sets are those that the expected rule gives, at each λ and α ≤ 0.3.",
            source="fingerpost: E w after k sequences is exact, since sequences are independent",
            expected="≤ 4.5: the largest of 330",
            measured=max(found[count]["expected"] for count in (5, 10)),
            high=4.5,
            unit="|z|",
            note=f"11 λ, 6 α, 5 states; {config.repetitions} times 100 sets",
        )
    )
