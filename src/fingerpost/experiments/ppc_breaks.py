"""Where summing two populations stops being optimal: distance from the true posterior, error, calibration, and the repair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.errors import ConfigError
from fingerpost.experiments import _ppc_theory as theory
from fingerpost.lab import Claim, Run, derive_seed

torch = lazy_import("torch")
population = lazy_import("fingerpost.population")
breaks = lazy_import("fingerpost.experiments._ppc_breaks")
pictures = lazy_import("fingerpost.experiments._ppc_pictures")

SOURCE = "population-codes.md: “The linear combination of PPC is how human brains do Beayesian inference”"
MA = "Ma et al. 2006, https://doi.org/10.1038/nn1790"
FIGURES = {"kl": "KL (nats)", "ratio": "error / optimal", "calibration": "claimed / real"}

# By break: reading → {kl, ratio, calibration: [value, low, high]}, for each strength.
Results = dict[str, dict[float, dict[str, dict[str, list[float]]]]]


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of stimuli and spikes.
      trials: Trials of each break at each strength.
      points: Points of the stimulus grid, over a range of 20 with tuning curves of width 3.
      first_gain: Gain g₁: a neuron's mean count at its preferred stimulus.
      second_gain: Gain g₂.
      device: Where to compute; cpu.
      dtype: Precision; float64.
    """

    seed: int = 0
    trials: int = 20_000
    points: int = 401
    first_gain: float = 1.0
    second_gain: float = 3.0
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {"quick": Config(trials=2_500, points=201), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64" or config.device != "cpu":
        raise ConfigError(
            f"dtype {config.dtype} on {config.device}; posteriors are compared in float64 on the cpu"
        )
    if config.trials < 100:
        raise ConfigError(f"trials is {config.trials}; intervals need at least 100")
    if config.points < 101:
        raise ConfigError(f"points is {config.points}; narrow posteriors need at least 101")
    if not min(config.first_gain, config.second_gain) > 0:
        raise ConfigError(f"gains are {config.first_gain:g} and {config.second_gain:g}; they must be above 0")


def run(config: Config, run: Run) -> None:
    """Measures every break at every strength, and states what broke and what the repair restored."""
    jobs = [(one, strength) for one in breaks.BREAKS for strength in one.strengths]
    found: Results = {}
    for one, strength in run.progress(jobs, "breaks"):
        stage = f"{one.name}-{strength:g}"
        result = run.once(stage, lambda b=one, x=strength: measure(config, b, x))
        found.setdefault(one.name, {})[strength] = result
    _describe(config, run)
    _tables(config, run, found)
    _figures(run, found)
    _claim_breaks(run, found)
    _claim_repairs(run, found)
    _claim_sizes(config, run, found)


def measure(config: Config, one: Any, strength: float) -> dict[str, dict[str, list[float]]]:
    """Figures of every reading, and of the true posterior itself, each with its 95 % interval."""
    seed = derive_seed(config.seed, one.name, str(strength))
    setting = breaks.Setting(
        config.trials,
        (config.first_gain, config.second_gain),
        config.points,
        torch.Generator().manual_seed(seed),
    )
    scene = one.make(setting, strength)
    true = population.Posterior(scene.grid, scene.true)
    readings = {"true posterior": scene.true, **scene.readings}
    return {
        name: _figures_of(true, population.Posterior(scene.grid, density), scene.stimuli)
        for name, density in readings.items()
    }


def _figures_of(true: Any, decoded: Any, stimuli: Any) -> dict[str, list[float]]:
    report = population.optimality_report(true, decoded, stimuli)
    return {key: list(getattr(report, key)) for key in FIGURES}


def _describe(config: Config, run: Run) -> None:
    count = int(2 * (breaks.REACH + breaks.MARGIN)) + 1
    run.text(
        "What is compared",
        f"A stimulus is drawn from a flat prior on [−10, 10] and seen by two populations of {count} neurons with Gaussian "
        f"tuning curves (width 3, one neuron at every whole number), with gains {config.first_gain:g} and "
        f"{config.second_gain:g} unless the break sets them. The true posterior knows how both cues' counts came about. The "
        "sum is decoded as Ma et al. do: log p = log f(s) · (r₁ + r₂), with −g Σ f left out. One thing at a time is then "
        "not as their theorem asks. KL is from the true posterior to the decoded one; the error ratio is the decoded "
        "mean's square error over the true posterior mean's; calibration is the mean variance that the decoded posterior "
        "claims over its mean's real square error. Where the kernel or the noise is wrong (wrong tuning, Fano, prior) the "
        "sum still is the product of the two posteriors: what fails is each reading, and summing carries it on.",
    )


def _tables(config: Config, run: Run, found: Results) -> None:
    gains = (config.first_gain, config.second_gain)
    heads = ["break", "strength", "read by"]
    heads += [part for name in FIGURES.values() for part in (name, "interval")]
    heads += ["error, theory", "calibration, theory"]
    everything, shown = [], []
    for one in breaks.BREAKS:
        for strength, readings in found[one.name].items():
            for name, figures in readings.items():
                cells = [
                    part for key in FIGURES for part in (figures[key][0], format_interval(figures[key][1:]))
                ]
                known = name == breaks.SUM and one.name in theory.THEORY
                costs = theory.THEORY[one.name](strength, gains) if known else (None, None)
                row = [one.title, strength, name, *cells, *costs]
                everything.append(row)
                if strength == one.shown and name != "true posterior":
                    shown.append(row)
    caption = (
        f"{config.trials:,} trials each, with 95 % intervals. Theory: closed forms for many spikes and stimuli far from the "
        "range's ends. All strengths, and the true posterior's own figures, are in breaks-all.csv."
    )
    run.table(
        "breaks", Table(heads, shown, title="What breaks the sum, and what repairs it", caption=caption)
    )
    run.table("breaks-all", Table(heads, everything, title="All strengths", caption=caption), show=False)
    rows = [[one.title, one.repair] for one in breaks.BREAKS]
    run.table("repairs", Table(["break", "repair"], rows, title="The repairs"))


def _figures(run: Run, found: Results) -> None:
    for key, title, label in (
        ("calibration", "Variance claimed over real", "claimed / real variance"),
        ("ratio", "Error over the optimal", "square error / optimal"),
    ):
        panels = [(one.title, one.axis, _curves(found[one.name], key)) for one in breaks.BREAKS]
        run.figure(
            key,
            pictures.by_strength(panels, key, label),
            title=title,
            caption="By the strength of each break, with 95 % intervals of the sum's; 1 is optimal. Below 1 a calibration "
            "claims too much.",
        )


def _curves(strengths: Mapping[float, Any], key: str) -> dict[str, list[list[float]]]:
    curves: dict[str, list[list[float]]] = {}
    for strength, readings in strengths.items():
        for name, figures in readings.items():
            if name != "true posterior":
                curves.setdefault(name, []).append([strength, *figures[key]])
    return curves


def _claim_breaks(run: Run, found: Results) -> None:
    for one in breaks.BREAKS:
        kl, ratio, calibration = (found[one.name][one.shown][breaks.SUM][key] for key in FIGURES)
        broken = one.name != "shared-gain"
        run.claim(
            Claim(
                name=f"{'breaks' if broken else 'holds'}-{one.name}",
                statement=f"{one.title}: the sum of the populations {'does not hold' if broken else 'holds'} the true "
                "posterior.",
                source=SOURCE if broken else f"{MA}: “Poisson-like” variability",
                expected="KL ≥ 0.005 nats" if broken else "KL ≤ 1e-9 nats",
                measured=kl[0],
                low=0.005 if broken else None,
                high=None if broken else 1e-9,
                interval=kl[1:],
                unit="nats",
                note=f"{one.axis} {one.shown:g}; square error {ratio[0]:.3g} of the optimal, claimed over real variance "
                f"{calibration[0]:.3g}",
                decided_by="interval" if broken else "value",
            )
        )


def _claim_repairs(run: Run, found: Results) -> None:
    worst, where = 0.0, ""
    for one in breaks.BREAKS:
        for strength, readings in found[one.name].items():
            if breaks.REPAIR in readings and abs(readings[breaks.REPAIR]["kl"][0]) >= worst:
                worst, where = (
                    abs(readings[breaks.REPAIR]["kl"][0]),
                    f"{one.title.lower()}, {one.axis} {strength:g}",
                )
    run.claim(
        Claim(
            name="repairs",
            statement="Σ A_kᵀ r_k, the right kernel, −g Σ f and one prior give the true posterior back.",
            source=f"{MA}; specification of the population experiments",
            expected="KL ≤ 1e-8 nats in every break at every strength",
            measured=worst,
            high=1e-8,
            unit="nats",
            note=f"largest at {where}; for correlated cues the repair is no sum of counts but a wider posterior",
        )
    )


def _claim_sizes(config: Config, run: Run, found: Results) -> None:
    """Sizes of the damage against closed forms."""
    gains = (config.first_gain, config.second_gain)
    for name, key, word in (
        ("fano", "calibration", "claims half of the variance that it has"),
        ("wrong-tuning", "calibration", "claims the square of the wrong width's ratio"),
        ("common-noise", "calibration", "leaves the common noise out of what it claims"),
        ("gaussian", "ratio", "loses 2(g₁² + g₂²)/(g₁ + g₂)² in square error"),
        ("widths", "ratio", "weighs spikes of the wide curves like those of the narrow ones"),
        ("tiling", "ratio", "is pulled to where neurons fire more"),
    ):
        one = next(b for b in breaks.BREAKS if b.name == name)
        measured = found[name][one.shown][breaks.SUM][key]
        expected = theory.THEORY[name](one.shown, gains)[key == "calibration"]
        run.claim(
            Claim(
                name=f"size-{name}",
                statement=f"{one.title} ({one.axis} {one.shown:g}): the sum {word}.",
                source="closed form for many spikes, far from the range's ends: fingerpost.experiments._ppc_theory",
                expected=f"{expected:.3g}, within 15 %",
                measured=measured[0],
                low=expected / 1.15,
                high=expected * 1.15,
                interval=measured[1:],
                unit="claimed / real variance" if key == "calibration" else "square error / optimal",
                note="the theory is for many spikes and no edges",
                decided_by="interval",
            )
        )
