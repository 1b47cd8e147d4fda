"""The audit's own validation: do its intervals cover, does it cry wolf, does it see and name each fault?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.lab import Claim, Run, derive_seed, legend_outside, new_figure

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")
faulty = lazy_import("fingerpost.experiments._faulty")

TARGETS = "targets of the audit"
TAILS = {"equal norms": 0.0, "log-normal, σ = 0.5": 0.5, "log-normal, σ = 1": 1.0}
COVERED = {"gamma": "Γ", "batch_gamma": "batch Γ", "rho": "ρ", "scale": "scale"}
NOISES = (0.0, 0.01, 0.1, 0.3)


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of everything.
      repeats: Audits per cell of the coverage table.
      coverage_samples: Sample sizes N of the coverage table.
      healthy: Healthy networks audited for false names.
      nets: Networks per fault.
      samples: Sample sizes N at which faults are looked for.
      noise: Noise added to faulty signals, relative to each sample's signal.
      device: Where to compute.
      dtype: Precision of the networks.
    """

    seed: int = 0
    repeats: int = 500
    coverage_samples: tuple[int, ...] = (64, 256)
    healthy: int = 500
    nets: int = 40
    samples: tuple[int, ...] = (32, 64, 256)
    noise: float = 0.1
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {
    "quick": Config(repeats=100, coverage_samples=(64,), healthy=60, nets=6, samples=(64,)),
    "full": Config(),
}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if min(config.repeats, config.healthy, config.nets) < 1:
        raise ConfigError("repeats, healthy and nets must be at least 1")
    if min(*config.samples, *config.coverage_samples) < 8:
        raise ConfigError("sample sizes below 8 are too few for any verdict but INSUFFICIENT")
    if 64 not in config.samples:
        raise ConfigError(
            f"samples is {config.samples}; the targets are stated at 64, so it must be among them"
        )


def run(config: Config, run: Run) -> None:
    """Measures coverage, false names, detection and naming."""
    run.text(
        "How the instrument is tested",
        "Coverage: signals drawn around a known gradient, so that the true value of every figure is known. False names: "
        "random residual networks with correct gradients, with and without noise. Faults: backward passes with one mistake "
        "each, written by hand apart from the audit's templates, on random residual networks of 4 to 8 blocks.",
    )
    _coverage(config, run)
    _false_names(config, run)
    _faults(config, run)


# Coverage.


def _coverage(config: Config, run: Run) -> None:
    cells = [(n, tail) for n in config.coverage_samples for tail in TAILS]
    rows, hits = [], Counter()
    for n, tail in run.progress(cells, "coverage"):
        stage = f"coverage-{n}-{list(TAILS).index(tail)}"
        found = run.once(stage, lambda n=n, tail=tail: _cover(config, n, TAILS[tail]))
        rows.append([n, tail, *(100 * found[key] / config.repeats for key in COVERED)])
        hits.update(found)
    trials = config.repeats * len(cells)
    caption = (
        f"Share (%) of {config.repeats} audits whose 95 % interval holds the true value; d = 16, cosine about 0.9, gradient "
        "norms spread as said."
    )
    run.table(
        "coverage", Table(["N", "gradient norms", *COVERED.values()], rows, title="Coverage", caption=caption)
    )
    for key, symbol in COVERED.items():
        share = hits[key] / trials
        run.claim(
            Claim(
                name=f"coverage-{key.replace('_', '-')}",
                statement=f"95 % intervals of {symbol} hold the true value 93 to 97 times in a hundred, heavy tails included.",
                source=TARGETS,
                expected="93–97",
                measured=100 * share,
                low=93.0,
                high=97.0,
                interval=tuple(100 * end for end in wilson(hits[key], trials)),
                unit="%",
                note=f"{trials} audits, N = {', '.join(map(str, config.coverage_samples))}, three spreads of norms pooled; "
                "Wilson interval",
            )
        )


def _cover(config: Config, samples: int, tail: float) -> dict[str, int]:
    """How often each figure's interval holds its true value."""
    dimension, along, across = 16, 1.0, 0.5
    truth = {"batch_gamma": along / math.hypot(along, across), "scale": along}
    truth |= {"rho": truth["batch_gamma"], "gamma": _mean_cosine(dimension, along, across)}
    hits = dict.fromkeys(COVERED, 0)
    for repeat in range(config.repeats):
        generator = torch.Generator().manual_seed(
            derive_seed(config.seed, "coverage", samples, str(tail), repeat)
        )
        signal, gradient = _draw(samples, dimension, along, across, tail, generator)
        report = audit.audit(
            lambda x, a=signal: a,
            lambda x, g=gradient: (x * g).sum(1),
            torch.zeros(samples, dimension, dtype=torch.float64),
            cost=False,
            generator=generator,
        )
        for key in COVERED:
            figure = report.layers[0].figures[key]
            hits[key] += figure.low <= truth[key] <= figure.high
    return hits


def _draw(
    samples: int, dimension: int, along: float, across: float, tail: float, generator: Any
) -> tuple[Any, Any]:
    """Draws g = r u and a = r (along · u + across · z/√d); the batch cosine does not depend on how r spreads."""
    kind = {"generator": generator, "dtype": torch.float64}
    u = torch.nn.functional.normalize(torch.randn(samples, dimension, **kind), dim=1)
    r = torch.exp(tail * torch.randn(samples, 1, **kind))
    z = torch.randn(samples, dimension, **kind) / dimension**0.5
    return r * (along * u + across * z), r * u


def _mean_cosine(dimension: int, along: float, across: float) -> float:
    """E cos(a, g) by a million draws of the part of z along u and the length of the rest."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1_000_000, generator=generator, dtype=torch.float64) / dimension**0.5
    rest = torch.zeros_like(z)
    for _ in range(dimension - 1):
        rest += torch.randn(len(z), generator=generator, dtype=torch.float64).square() / dimension
    ahead = along + across * z
    return float((ahead / (ahead.square() + across**2 * rest).sqrt()).mean())


# False names.


def _false_names(config: Config, run: Run) -> None:
    size = 20
    blocks = range(0, config.healthy, size)
    verdicts: Counter[str] = Counter()
    for start in run.progress(blocks, "healthy nets"):
        stop = min(start + size, config.healthy)
        verdicts.update(run.once(f"healthy-{start}", lambda a=start, b=stop: _healthy(config, a, b)))
    rows = sorted(verdicts.items(), key=lambda item: -item[1])
    caption = (
        f"Verdicts on {config.healthy} networks with correct gradients and 0, 1, 10 or 30 % of noise, N = 64."
    )
    run.table("healthy", Table(["verdict", "networks"], rows, title="Healthy networks", caption=caption))
    false = sum(count for name, count in verdicts.items() if name.startswith("FAULT"))
    low, high = wilson(false, config.healthy)
    run.claim(
        Claim(
            name="false-names",
            statement="At most one healthy audit in a hundred gets a fault's name.",
            source=TARGETS,
            expected="≤ 1",
            measured=100 * false / config.healthy,
            high=1.0,
            interval=(100 * low, 100 * high),
            unit="%",
            note=f"{config.healthy} independent networks, one audit each; Wilson interval",
        )
    )


def _healthy(config: Config, start: int, stop: int) -> dict[str, int]:
    verdicts: Counter[str] = Counter()
    for number in range(start, stop):
        net = faulty.random_net(derive_seed(config.seed, "healthy", number), 64)
        signals = faulty.with_noise(net.backward(), NOISES[number % len(NOISES)], number)
        report = _audit(net, signals, number)
        named = [fault.name for fault in report.faults]
        verdicts[f"FAULT({named[0]})" if named else report.verdict.name] += 1
    return dict(verdicts)


def _audit(net: Any, signals: Any, number: int, previous: Any = None) -> Any:
    loss = faulty.NetLoss(net)
    return audit.audit(
        lambda point: signals,
        loss,
        loss.point,
        cost=False,
        quick=True,
        n=len(net.inputs),
        previous=previous,
        generator=torch.Generator().manual_seed(number),
    )


# Faults.


def _faults(config: Config, run: Run) -> None:
    names = list(faulty.FAULTS)
    cells = [(n, name) for n in config.samples for name in names]
    outcomes = {}
    for n, name in run.progress(cells, "faults"):
        stage = f"fault-{n}-{names.index(name)}"
        outcomes[n, name] = run.once(stage, lambda n=n, name=name: _inject(config, n, name))
    rows = [_fault_row(config, outcomes, n, name) for n, name in cells]
    heads = ["fault", "N", "networks", "detected (%)", "named right (%)", "otherwise named"]
    caption = (
        f"{config.nets} random residual networks per fault and N, {config.noise:.0%} noise on every signal. Detected: a fault "
        "is named, or the audit does not pass."
    )
    run.table("faults", Table(heads, rows, title="Detection and naming", caption=caption))
    run.figure("faults", _faults_figure(config, rows), title="Detection and naming by fault", caption=caption)
    _claim_power(config, outcomes, run)


def _inject(config: Config, samples: int, name: str) -> dict[str, Any]:
    detected, right, others = 0, 0, Counter()
    for number in range(config.nets):
        net = faulty.random_net(derive_seed(config.seed, "fault", name, samples, number), samples)
        signals = faulty.with_noise(faulty.FAULTS[name](net), config.noise, number)
        previous = faulty.previous_states(net) if name == "stale activations" else None
        report = _audit(net, signals, number, previous)
        main = (
            max(report.faults, key=lambda fault: len(fault.layers)).name
            if report.faults
            else report.verdict.name
        )
        detected += bool(report.faults) or not report.passed
        right += main == name
        if main != name:
            others[main] += 1
    return {"detected": detected, "right": right, "others": dict(others)}


def _fault_row(config: Config, outcomes: dict[Any, Any], n: int, name: str) -> list[Any]:
    found = outcomes[n, name]
    others = ", ".join(f"{other} ×{count}" for other, count in found["others"].items())
    return [
        name,
        n,
        config.nets,
        100 * found["detected"] / config.nets,
        100 * found["right"] / config.nets,
        others,
    ]


def _faults_figure(config: Config, rows: Sequence[Sequence[Any]]) -> Any:
    here = [row for row in rows if row[1] == 64][::-1]
    figure, axis = new_figure(width=8.2, height=8.4)
    for place, row in enumerate(here):
        axis.plot(
            [row[4], row[3]], [place, place], color="0.75", linewidth=3, marker="", linestyle="-", zorder=1
        )
    places = range(len(here))
    axis.scatter(
        [row[3] for row in here],
        places,
        marker="o",
        s=90,
        facecolors="none",
        edgecolors="#0072B2",
        linewidths=2,
        label="detected",
        zorder=3,
        clip_on=False,
    )
    axis.scatter(
        [row[4] for row in here],
        places,
        marker="x",
        s=50,
        color="#D55E00",
        linewidths=2.5,
        label="named right",
        zorder=4,
        clip_on=False,
    )
    axis.set_yticks(list(places), [row[0] for row in here])
    axis.set(xlabel="share of networks (%)", xlim=(0, 101))
    legend_outside(figure, axis, place="upper right")
    return figure


def _claim_power(config: Config, outcomes: dict[Any, Any], run: Run) -> None:
    trials = config.nets * len(faulty.FAULTS)
    for key, low, statement in (
        ("detected", 99.0, "A fault is seen at N = 64 with 10 % noise, over all templates."),
        ("right", 90.0, "A fault gets its right name at N = 64 with 10 % noise, over all templates."),
    ):
        hits = sum(outcomes[64, name][key] for name in faulty.FAULTS)
        ends = wilson(hits, trials)
        run.claim(
            Claim(
                name="detection" if key == "detected" else "naming",
                statement=statement,
                source=TARGETS,
                expected=f"≥ {low:g}",
                measured=100 * hits / trials,
                low=low,
                interval=(100 * ends[0], 100 * ends[1]),
                unit="%",
                note=f"{len(faulty.FAULTS)} faults × {config.nets} networks; Wilson interval",
            )
        )


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % Wilson score interval of a share (https://doi.org/10.1080/01621459.1927.10502953)."""
    z = 1.959964
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return (centre - half if hits else 0.0), (centre + half if hits < trials else 1.0)
