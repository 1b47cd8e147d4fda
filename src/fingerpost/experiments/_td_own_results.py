"""What td shows and claims of a user's own sequences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.experiments import _td_own_fits as fits
from fingerpost.experiments import _td_own_pictures as pictures
from fingerpost.lab import Claim, Run, mean_interval, paired_interval

if TYPE_CHECKING:
    from fingerpost.experiments.td import Config

np = lazy_import("numpy")
stats = lazy_import("scipy.stats")

SUTTON = "Sutton 1988, https://doi.org/10.1007/BF00115009"
SPECIFICATION = "specification of the td experiments"
BINS = 8
SHOWN = ("td", "td_once", "widrow_hoff", "regression")


def show(
    config: Config, run: Run, table: Any, found: dict[str, Any], sizes: list[int], few: dict[str, Any]
) -> None:
    """Tables, figures and claims."""
    outcomes = [float(row.outcome) for row in table]
    _method_table(config, run, found, len(outcomes))
    pictures.by_lambda(config, run, found)
    _lambda_table(config, run, found)
    _few(config, run, sizes, few)
    calibrations = {name: calibration(found["predictions"][name], outcomes) for name in SHOWN}
    _calibration(run, calibrations)
    pictures.over_time(run, table, found["predictions"])
    pictures.before_the_end(run, outcomes, found["predictions"])
    _claim_fits(run, found)
    _claim_few(config, run, sizes, few)
    _claim_calibration(run, calibrations["td"])


def _chosen(found: dict[str, Any], name: str) -> str:
    """What the folds chose, in words."""
    if name == "mean":
        return ""
    values = [row[name] for row in found["chosen"]]
    words = {"regression": "ridge", "widrow_hoff": "α"}.get(name, "λ")
    low, high = min(values), max(values)
    return f"{words} = {low:.3g}" if low == high else f"{words} = {low:.3g} … {high:.3g}"


def _method_table(config: Config, run: Run, found: dict[str, Any], count: int) -> None:
    rows, error = [], found["error"]
    for name in fits.METHODS:
        mean, gap = mean_interval(error[name]), paired_interval(error[name], error["regression"])
        apart = (None, None) if name == "regression" else (gap.mean, format_interval(gap.interval))
        skill = 1 - mean.mean / float(np.mean(error["mean"]))
        rows.append(
            [fits.NAMES[name], _chosen(found, name), mean.mean, format_interval(mean.interval), *apart, skill]
        )
    heads = ["method", "chosen", "squared error", "interval", "less regression", "interval of it", "skill"]
    caption = (
        f"(z − P_t)², averaged over each held-out sequence and then over {count} sequences in {config.folds} folds, with 95 % "
        "t intervals, paired by sequence; folds share training sequences, which the intervals don't know. λ, α and the ridge "
        f"are chosen on {fits.INNER} parts of the training sequences. Skill: one less the error over that of the mean outcome."
    )
    run.table("methods", Table(heads, rows, title="Sequences not learnt from", caption=caption, digits=4))


def _lambda_table(config: Config, run: Run, found: dict[str, Any]) -> None:
    rows = []
    limit, once = np.asarray(found["limit"]), np.asarray(found["once"])
    for place, lam in enumerate(config.lambdas):
        row: list[Any] = [lam]
        for values in (limit, once):
            gap = paired_interval(list(values[:, place]), list(values[:, -1]))
            last = lam == config.lambdas[-1]
            row += [
                float(values[:, place].mean()),
                None if last else gap.mean,
                "–" if last else format_interval(gap.interval),
            ]
        rows.append(row)
    heads = ["λ", "limit", "less λ = 1", "interval", "one presentation", "less λ = 1 ", "interval "]
    caption = (
        "Held-out squared error by λ: in the limit of repeated presentations, and after one presentation with α chosen for "
        "each λ on parts of the training sequences. Differences are paired by sequence; λ = 1 is Widrow–Hoff."
    )
    run.table("lambdas", Table(heads, rows, title="Held-out error by λ", caption=caption, digits=4))


def _few(config: Config, run: Run, sizes: list[int], few: dict[str, Any]) -> None:
    rows = []
    near = nearest(config.lambdas, 0.3)
    for size, limit, other in zip(sizes, few["limit"], few["regression"]):
        limit, other = np.asarray(limit), np.asarray(other)
        best = int(limit.mean(0).argmin())
        squares = paired_interval(list(limit[:, near]), list(limit[:, -1]))
        ridge = paired_interval(list(limit[:, near]), list(other[:, 0]))
        rows.append(
            [size, *(float(limit[:, k].mean()) for k in (0, near, -1)), *(float(v) for v in other.mean(0))]
            + [format_interval(squares.interval), format_interval(ridge.interval), config.lambdas[best]]
        )
    lam = config.lambdas[near]
    heads = [
        "sequences", "λ = 0", f"λ = {lam:g}", "λ = 1", "ridge", "mean outcome", f"λ = {lam:g} less λ = 1",
        f"λ = {lam:g} less ridge", "best λ",
    ]  # fmt: skip
    caption = (
        f"Squared error on the last 30 % of the sequences in {config.repeats} random orders, of what is learnt from the first "
        "few: TD(λ) in the limit, ridge regression and the mean. Intervals are 95 %, paired by order; orders share sequences."
    )
    run.table("few", Table(heads, rows, title="Learning from few sequences", caption=caption, digits=4))
    pictures.few(config, run, sizes, few, near)


def nearest(lambdas: tuple[float, ...], value: float) -> int:
    """The place of the λ nearest to a value."""
    return min(range(len(lambdas)), key=lambda k: abs(lambdas[k] - value))


def calibration(predictions: list[list[float]], outcomes: list[float]) -> dict[str, Any]:
    """Outcomes against predictions over all rows, with intervals that take each sequence as one.

    Args:
      predictions: One list for each sequence.
      outcomes: One for each sequence.

    Returns:
      ``slope`` and ``interval`` of the regression of outcomes on predictions, and ``bins``: predicted, observed, low, high
      and number of rows in bins of as many rows each.
    """
    p = np.concatenate([np.asarray(row) for row in predictions])
    owner = np.repeat(np.arange(len(predictions)), [len(row) for row in predictions])
    z = np.asarray(outcomes)[owner]
    centred = p - p.mean()
    square = float((centred**2).sum())
    if square <= 1e-24 * float((p**2).sum()):
        return {"slope": math.nan, "interval": (math.nan, math.nan), "bins": []}
    slope = float((centred * (z - z.mean())).sum() / square)
    left = z - z.mean() - slope * centred
    half = _half(np.bincount(owner, centred * left)) / square
    bins, edges = [], np.quantile(p, np.linspace(0, 1, BINS + 1))
    which = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, BINS - 1)
    for number in np.unique(which):
        inside = which == number
        mean, count = float(z[inside].mean()), int(inside.sum())
        wide = _half(np.bincount(owner, inside * (z - mean), len(predictions))) / count
        bins.append([float(p[inside].mean()), mean, mean - wide, mean + wide, count])
    return {"slope": slope, "interval": (slope - half, slope + half), "bins": bins}


def _half(sums: Any) -> float:
    """Half the 95 % interval of a sum of independent terms, one for each sequence that takes part."""
    n = max(2, int((sums != 0).sum()))
    return float(stats.t.ppf(0.975, n - 1) * np.sqrt((sums**2).sum() * n / (n - 1)))


def _calibration(run: Run, found: dict[str, dict[str, Any]]) -> None:
    rows = [
        [fits.NAMES[name], k + 1, p, z, format_interval((low, high)), count]
        for name, result in found.items()
        for k, (p, z, low, high, count) in enumerate(result["bins"])
    ]
    heads = ["method", "bin", "predicted", "outcome", "interval", "observations"]
    caption = (
        f"Mean prediction and mean outcome of held-out observations in {BINS} bins of as many each; 95 % intervals take each "
        "sequence as one, since its observations share their outcome."
    )
    run.table("calibration", Table(heads, rows, title="Calibration", caption=caption), show=False)
    pictures.calibration(run, found)


def _claim_fits(run: Run, found: dict[str, Any]) -> None:
    error = found["error"]
    run.claim(
        Claim(
            name="limit-1-is-regression",
            statement="In the limit TD(1) predicts what least squares on all (x_t, z) predicts.",
            source=f"{SUTTON}, section 4.2",
            expected="0, to rounding",
            measured=found["gap"],
            high=1e-6,
            unit="largest difference of a held-out prediction, over the outcomes' standard deviation",
            note="solved in two ways: as TD's fixed point, and by singular values",
        )
    )
    base = float(np.mean(error["mean"]))
    pairs = (
        ("better-than-the-mean", "TD errs less than the mean outcome of the training sequences.", "td", "mean", 0.0, "< 0"),
        (
            "one-presentation", "After one presentation TD errs less than Widrow–Hoff.", "td_once", "widrow_hoff", 0.0, "< 0",
        ),
        (
            "as-good-as-regression", "In the limit TD, with λ chosen, errs about as little as ridge regression, or less.",
            "td", "regression", 0.05, "≤ 0.05",
        ),
    )  # fmt: skip
    for name, statement, one, other, high, expected in pairs:
        gap = paired_interval([e / base for e in error[one]], [e / base for e in error[other]])
        run.claim(
            Claim(
                name=name,
                statement=statement,
                source=SPECIFICATION if other != "widrow_hoff" else f"{SUTTON}, Figure 5",
                expected=expected,
                measured=gap.mean,
                high=high,
                interval=gap.interval,
                unit="squared error, over that of the mean outcome",
                note=f"{fits.NAMES[one]} ({_chosen(found, one)}) less {fits.NAMES[other]}, paired over {len(error[one])} "
                "held-out sequences",
                decided_by="interval",
            )
        )


def _claim_few(config: Config, run: Run, sizes: list[int], few: dict[str, Any]) -> None:
    near = nearest(config.lambdas, 0.3)
    limit, other = np.asarray(few["limit"][0]), np.asarray(few["regression"][0])
    rivals = (
        ("least-squares", "least squares (λ = 1)", limit[:, -1]),
        ("ridge", "ridge regression", other[:, 0]),
    )
    for key, words, rival in rivals:
        gap = paired_interval(list(limit[:, near]), list(rival))
        run.claim(
            Claim(
                name=f"few-sequences-{key}",
                statement=f"From {sizes[0]} sequences TD({config.lambdas[near]:g}) learns more than {words}.",
                source=f"{SUTTON}, section 3.2 (less error from the same experience)",
                expected="< 0",
                measured=gap.mean,
                high=0.0,
                interval=gap.interval,
                unit="held-out squared error",
                note=f"TD less {words}, in the limit; paired over {config.repeats} random orders",
                decided_by="interval",
            )
        )


def _claim_calibration(run: Run, found: dict[str, Any]) -> None:
    run.claim(
        Claim(
            name="calibrated",
            statement="Outcomes rise by as much as held-out predictions do.",
            source=SPECIFICATION,
            expected="1, within 0.2",
            measured=found["slope"],
            low=0.8,
            high=1.2,
            interval=found["interval"],
            unit="slope of outcomes on predictions",
            note=f"{fits.NAMES['td']}, over all held-out observations; the interval takes each sequence as one",
        )
    )
