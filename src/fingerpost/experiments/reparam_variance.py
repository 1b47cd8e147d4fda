"""Variance of implicit, explicit and score-function gradients of an expectation, against the exact gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.experiments import _reparam_fit as fit
from fingerpost.experiments import _reparam_paths as paths
from fingerpost.experiments._reparam_pictures import means_figure, ratios_figure
from fingerpost.lab import Claim, Run, derive_seed

torch = lazy_import("torch")

SOURCE = "implicit-reparameterization.md"
MEAN = "the velocity is the conditional mean of any path derivative, −∂_θF/p (law of total variance)"
SCORE, BASELINE = "score function", "score function, baseline"
LIMIT = 4.5  # of |t|: one in 150,000 by chance, for some hundred settings


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of the draws.
      samples: Samples of each estimator.
      blocks: Parts into which samples are cut for intervals.
      bins: Parts of the line in which conditional means are taken.
      steps: Steps of the variational fits; 0 leaves them out.
      fits: Fits with each estimator.
      draws: Samples in each step of a fit.
      rate: Step size of Adam in the fits.
      device: Unused: everything is small.
      dtype: Precision; float64.
    """

    seed: int = 0
    samples: int = 400_000
    blocks: int = 50
    bins: int = 40
    steps: int = 600
    fits: int = 128
    draws: int = 8
    rate: float = 0.03
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {"quick": Config(samples=50_000, steps=300, fits=32), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64" or config.device != "cpu":
        raise ConfigError(f"dtype={config.dtype}, device={config.device}; use float64 on cpu")
    if config.blocks < 10 or config.samples < 100 * config.blocks:
        raise ConfigError(
            f"samples={config.samples}, blocks={config.blocks}; give at least 10 blocks of 100 samples"
        )
    if config.bins < 4 or config.steps < 0 or config.fits < 2 or config.draws < 1:
        raise ConfigError(
            f"bins={config.bins}, steps={config.steps}, fits={config.fits}, draws={config.draws}; expected at least 4, 0, 2, 1"
        )


class Setting(NamedTuple):
    """One gradient, of one function by one parameter, and what estimators make of it.

    Args:
      case: The distribution.
      parameter: What is differentiated by.
      function: The test function.
      truth: The exact gradient.
      deviation: The implicit estimate's standard deviation.
      error: (mean − truth) in standard errors, by estimator.
      ratio: Variance over the implicit estimate's with its interval, by estimator.
      excess: For pure paths, E (path² − velocity²) f′² over the implicit variance with its interval, on the same samples.
    """

    case: str
    parameter: str
    function: paths.Function
    truth: float
    deviation: float
    error: dict[str, float]
    ratio: dict[str, tuple[float, float, float]]
    excess: tuple[float, float, float] | None


def run(config: Config, run: Run) -> None:
    """Measures bias and variance, the conditional mean, and what a variational fit gains."""
    run.text(
        "What is compared",
        "Estimates of ∂E f(z)/∂θ from one sample. Implicit: f′(z) times the velocity of z at fixed rank. Explicit: f′(z) "
        "times the derivative of z along the noise that made it; accepted noise needs a correction. Score function: f(z) times "
        "∂ log p/∂θ, plain or with E f taken off. Exact gradients are quadratures.",
    )
    settings: list[Setting] = []
    for case in run.progress(paths.CASES, "distributions"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, case.name))
            settings += _measure(config, case)
    _table(config, run, settings)
    run.figure(
        "ratios",
        ratios_figure(settings, SCORE, BASELINE),
        title="Variance over that of the implicit gradient",
        caption="Each row is a gradient, by the parameter in brackets; right of 1 is noisier than implicit. With mean m and "
        "deviation s, “straight” is (z − m)/s, “curved” its square, “step” tanh 2(z − m)/s and “wave” sin 8(z − m)/s; angles "
        "enter by their sines and cosines. Bars are 95 % intervals.",
    )
    _claim_bias(run, settings)
    _claim_variance(run, settings)
    _conditional_means(config, run)
    if config.steps:
        fit.compare(config, run)


def _measure(config: Config, case: paths.Case) -> list[Setting]:
    nodes, weights = paths.quadrature(case.support)
    with torch.no_grad():
        mass = weights * case.make(**case.tensors()).log_prob(nodes).exp()
    exact_score = case.score(nodes)
    z = case.make(**case.tensors()).sample((config.samples,))
    drawn = {
        "implicit": paths.Drawn(z, case.velocity(z), {}),
        SCORE: paths.Drawn(z, {}, case.score(z)),
        **{explicit.name: explicit.draw(case.tensors(), config.samples) for explicit in case.explicit},
    }
    found = []
    for function in paths.functions(case):
        centre = float((mass * function.value(nodes)).sum())
        for parameter in case.parameters:
            truth = float((mass * function.value(nodes) * exact_score[parameter]).sum())
            estimates = {name: _estimate(function, parts, parameter, 0.0) for name, parts in drawn.items()}
            estimates[BASELINE] = _estimate(function, drawn[SCORE], parameter, centre)
            excess = None
            for explicit in case.explicit:
                if parameter in explicit.pure:
                    parts = drawn[explicit.name]
                    excess = _excess(config, case, parts, function, parameter, estimates["implicit"])
            found.append(_setting(config, case.name, parameter, function, truth, estimates, excess))
    return found


def _estimate(function: paths.Function, parts: paths.Drawn, parameter: str, centre: float) -> Any:
    total = torch.zeros_like(parts.z)
    if parameter in parts.path:
        total = total + function.slope(parts.z) * parts.path[parameter]
    if parameter in parts.extra:
        total = total + (function.value(parts.z) - centre) * parts.extra[parameter]
    return total


def _setting(
    config: Config,
    case: str,
    parameter: str,
    function: paths.Function,
    truth: float,
    estimates: dict[str, Any],
    excess: tuple[float, float, float] | None,
) -> Setting:
    implicit = estimates["implicit"]
    return Setting(
        case,
        parameter,
        function,
        truth,
        float(implicit.std()),
        {name: _standardised(x, truth) for name, x in estimates.items()},
        {name: _ratio(config, x, implicit) for name, x in estimates.items() if name != "implicit"},
        excess,
    )


def _standardised(x: Any, truth: float) -> float:
    """(mean − truth) in standard errors; rounding is no error where samples do not spread."""
    floor = 1e-9 * (1 + abs(truth))
    return float((x.mean() - truth) / max(float(x.std()) / math.sqrt(len(x)), floor))


def _ratio(config: Config, x: Any, implicit: Any) -> tuple[float, float, float]:
    """Var x/Var implicit with a 95 % jackknife interval of its logarithm over blocks; NaN where implicit is constant."""
    if float(implicit.std()) < 1e-9 * (1 + float(implicit.mean().abs())):
        return math.nan, math.nan, math.nan
    logs = (_without(config, x) / _without(config, implicit)).log()
    value = float((x.var() / implicit.var()).log())
    spread = float(((config.blocks - 1) / config.blocks * (logs - logs.mean()).square().sum()).sqrt())
    low, high = (math.exp(min(value + shift * spread, 700.0)) for shift in (-2.01, 2.01))
    return math.exp(min(value, 700.0)), low, high


def _without(config: Config, x: Any) -> Any:
    """Variance with each block left out in turn."""
    cut = x[: len(x) // config.blocks * config.blocks].reshape(config.blocks, -1)
    first, second = cut.sum(1), cut.square().sum(1)
    count = cut.numel() - cut.shape[1]
    mean = (first.sum() - first) / count
    return (second.sum() - second) / count - mean.square()


def _excess(
    config: Config,
    case: paths.Case,
    parts: paths.Drawn,
    function: paths.Function,
    parameter: str,
    implicit: Any,
) -> tuple[float, float, float]:
    """E f′² (path² − velocity²) on the explicit path's own samples, over the implicit variance, with a t interval."""
    velocity = case.velocity(parts.z)[parameter]
    gain = function.slope(parts.z).square() * (parts.path[parameter].square() - velocity.square())
    means = gain[: len(gain) // config.blocks * config.blocks].reshape(config.blocks, -1).mean(1)
    half = 2.01 * float(means.std()) / math.sqrt(config.blocks)
    scale = max(float(implicit.var()), 1e-18)
    middle = float(means.mean())
    return middle / scale, (middle - half) / scale, (middle + half) / scale


def _table(config: Config, run: Run, settings: list[Setting]) -> None:
    rows = []
    for s in settings:
        explicit = [name for name in s.ratio if name not in (SCORE, BASELINE)]
        first = s.ratio[explicit[0]] if explicit else (math.nan,) * 3
        rows.append(
            [
                s.case,
                s.parameter,
                s.function.name,
                s.truth,
                s.deviation,
                explicit[0] if explicit else "",
                *first,
            ]
            + [s.ratio[SCORE][0], s.ratio[BASELINE][0]]
        )
    heads = [
        "distribution", "parameter", "function", "exact gradient", "deviation, implicit", "explicit path",
        "variance ratio, explicit", "low", "high", "variance ratio, score", "variance ratio, score and baseline",
    ]  # fmt: skip
    caption = (
        f"One-sample estimates, {config.samples:,} samples each. A ratio is a variance over the implicit one's; low and high "
        f"are a 95 % jackknife interval over {config.blocks} blocks. There is none where the implicit estimate is constant."
    )
    run.table("variances", Table(heads, rows, title="Bias and variance", caption=caption))


def _claim_bias(run: Run, settings: list[Setting]) -> None:
    biased = {e.name for case in paths.CASES for e in case.explicit if e.biased}
    for name, statement, pick in (
        ("implicit", "The implicit gradient is unbiased.", lambda n: n == "implicit"),
        (
            "explicit",
            "Explicit paths, with the correction where noise was accepted, are unbiased.",
            lambda n: n not in ("implicit", SCORE, BASELINE) and n not in biased,
        ),
        ("score", "The score function's gradient is unbiased.", lambda n: n in (SCORE, BASELINE)),
    ):
        errors = [abs(e) for s in settings for n, e in s.error.items() if pick(n)]
        run.claim(
            Claim(
                name=f"unbiased-{name}",
                statement=statement,
                source=f"{SOURCE}, eq. 4–7, against quadrature",
                expected=f"≤ {LIMIT}",
                measured=max(errors),
                high=LIMIT,
                unit="standard errors",
                note=f"the largest of {len(errors)} errors of a mean",
            )
        )
    errors = [
        abs(e) for s in settings for n, e in s.error.items() if n in biased and s.parameter == "concentration"
    ]
    run.claim(
        Claim(
            name="accepted-noise-is-not-noise",
            statement="To differentiate a Gamma sample through the noise that a rejection test accepted is biased.",
            source="Naesseth, Ruiz, Linderman and Blei (2017), eq. 8: the accepted density depends on the shape",
            expected=f"> {LIMIT}",
            measured=max(errors),
            low=LIMIT,
            unit="standard errors",
            note=f"the largest of {len(errors)} errors by the concentration, without the correction",
        )
    )


def _claim_variance(run: Run, settings: list[Setting]) -> None:
    pure = [s for s in settings if s.excess is not None]
    worse = [s for s in pure if s.excess and s.excess[2] < -1e-9]
    run.claim(
        Claim(
            name="never-worse-than-a-path",
            statement="The implicit gradient's variance is at most an explicit path's, for every function and parameter.",
            source=MEAN,
            expected="0",
            measured=float(len(worse)),
            high=0.0,
            unit="settings with the whole interval below",
            note=f"{len(pure)} settings, paired on the same samples; "
            f"median excess {sorted(s.excess[0] for s in pure if s.excess)[len(pure) // 2]:.2g} of the implicit variance",
        )
    )
    equal = [abs(s.excess[0]) for s in pure if s.excess and s.case == "TruncatedNormal"]
    run.claim(
        Claim(
            name="inverse-cdf-is-the-same",
            statement="Where the explicit path is the inverse distribution function, both are one estimator.",
            source=f"{SOURCE}, eq. 7: S is the distribution function",
            expected="0",
            measured=max(equal),
            high=1e-8,
            unit="of the implicit variance",
            note="truncated normal, paired on the same samples",
        )
    )
    _claim_scores(run, settings)


def _claim_scores(run: Run, settings: list[Setting]) -> None:
    straight = [s for s in settings if s.function.name == "straight" and not math.isnan(s.ratio[BASELINE][0])]
    least = min(straight, key=lambda s: s.ratio[BASELINE][1])
    run.claim(
        Claim(
            name="score-is-noisier-for-straight-functions",
            statement="For a straight function, the score function has the larger variance, with its baseline too.",
            source=f"{SOURCE}: reparameterization “usually provides a low variance gradient estimator”",
            expected="> 1",
            measured=least.ratio[BASELINE][0],
            low=1.0,
            interval=least.ratio[BASELINE][1:],
            unit="variance ratio",
            note=f"the smallest of {len(straight)}: {least.case} by {least.parameter}",
            decided_by="interval",
        )
    )
    waves = [s for s in settings if not s.function.slow and not math.isnan(s.ratio[BASELINE][0])]
    most = max(waves, key=lambda s: s.ratio[BASELINE][2])
    run.claim(
        Claim(
            name="waves-reverse-it",
            statement="For a function that turns fast, the score function with its baseline has the smaller variance.",
            source="f′ grows with the frequency, f does not",
            expected="< 1",
            measured=most.ratio[BASELINE][0],
            high=1.0,
            interval=most.ratio[BASELINE][1:],
            unit="variance ratio",
            note=f"the largest of {len(waves)}: {most.case} by {most.parameter}",
            decided_by="interval",
        )
    )


class Means(NamedTuple):
    """An explicit path derivative given z: per bin the middle z, its mean, spread, and the velocity's mean."""

    title: str
    z: Any
    mean: Any
    low: Any
    high: Any
    curve: tuple[Any, Any]
    error: float


def _conditional_means(config: Config, run: Run) -> None:
    """Whether explicit path derivatives have the velocity as their mean at every z."""
    found = []
    for case in paths.CASES:
        for explicit in case.explicit:
            for parameter in explicit.pure:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(derive_seed(config.seed, "means", case.name))
                    drawn = explicit.draw(case.tensors(), config.samples)
                found.append(_means(config, case, drawn, parameter))
    run.claim(
        Claim(
            name="velocity-is-the-conditional-mean",
            statement="The mean of an explicit path derivative, given z, is the velocity at z.",
            source=MEAN,
            expected=f"≤ {LIMIT}",
            measured=max(item.error for item in found),
            high=LIMIT,
            unit="standard errors",
            note=f"the largest over {config.bins} parts of the line for each of {len(found)} path derivatives",
        )
    )
    shown = ("Rice, loc", "FoldedNormal, loc", "StudentT, df", "mixture, loc_0")
    run.figure(
        "means",
        means_figure([item for item in found if item.title in shown]),
        title="Explicit path derivatives given the sample",
        caption=f"Dots: mean in {config.bins} parts of equal weight; bands: the middle 80 % of explicit derivatives; line: the "
        "velocity. The band's width is variance that the implicit gradient does not have.",
    )


def _means(config: Config, case: paths.Case, drawn: paths.Drawn, parameter: str) -> Means:
    order = drawn.z.argsort()
    z, path = drawn.z[order], drawn.path[parameter][order]
    keep = len(z) // config.bins * config.bins
    z, path = (x[:keep].reshape(config.bins, -1) for x in (z, path))
    velocity = case.velocity(z.flatten())[parameter].reshape(z.shape)
    gap = path - velocity
    # One more observation, of the largest size there is, stands for what was too rare to be drawn in a part.
    spread = (gap.square().sum(1) + path.abs().max().square()).sqrt() / gap.shape[1]
    line = torch.linspace(float(z[0].mean()), float(z[-1].mean()), 300, dtype=torch.float64)
    return Means(
        f"{case.name}, {parameter}",
        z.mean(1),
        path.mean(1),
        path.quantile(0.1, dim=1),
        path.quantile(0.9, dim=1),
        (line, case.velocity(line)[parameter]),
        float((gap.mean(1).abs() / spread).max()),
    )
