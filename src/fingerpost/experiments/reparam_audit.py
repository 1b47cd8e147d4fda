"""Audits of every velocity and every rsample of fingerpost.distributions, of torch's, and of the source's statements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.experiments import _reparam_quantiles as quantiles
from fingerpost.experiments import _reparam_statements as statements
from fingerpost.experiments._reparam_statements import SOURCE
from fingerpost.lab import Claim, Run, derive_seed, legend_outside, new_figure

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")
distributions = lazy_import("fingerpost.distributions")

TORCHS = {"Gamma": "Gamma", "Beta": "Beta"}
FLOOR = 1e-14


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of parameters and samples.
      rows: Rows of an audit.
      columns: Samples in a row, each with parameters of its own.
      draws: Samples of each distribution in one estimate of a mean gradient.
      redraws: Estimates of a mean gradient.
      quick_audits: Whether audits of paths run in their quick mode.
      device: Where to compute; cpu, since the truth is scipy's.
      dtype: Precision; float64.
    """

    seed: int = 0
    rows: int = 128
    columns: int = 8
    draws: int = 64
    redraws: int = 64
    quick_audits: bool = False
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {"quick": Config(rows=24, draws=32, redraws=48, quick_audits=True), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64" or config.device != "cpu":
        raise ConfigError(
            f"dtype={config.dtype}, device={config.device}; the truth is scipy's, use float64 on cpu"
        )
    if config.rows < 8 or config.columns < 4:
        raise ConfigError(
            f"rows={config.rows}, columns={config.columns}; audits need at least 8 rows of 4 samples"
        )
    if config.draws < 1 or config.redraws < 32:
        raise ConfigError(
            f"draws={config.draws}, redraws={config.redraws}; give at least 1 and 32, to tell bias from noise"
        )


def run(config: Config, run: Run) -> None:
    """Audits paths sample by sample, mean gradients over redraws, planted mistakes, and the source's statements."""
    run.text(
        "What is audited",
        "A sample's true path is its quantile: z(θ) with F(z; θ) held, by Newton's method on scipy's distribution functions, "
        "differentiated by differences. Velocities, gradients of rsample under a fixed seed, and planted mistakes "
        "are audited against it, sample by sample. Mean gradients of rsample are audited against quadrature.",
    )
    by_path: dict[tuple[str, str], Any] = {}
    for subject in run.progress(quantiles.SUBJECTS, "paths"):
        for kind, report in _paths(config, subject).items():
            by_path[subject.name, kind] = report
    _path_table(config, run, by_path)
    run.figure(
        "errors",
        _errors_figure(by_path),
        title="Distance from the true path",
        caption="‖A − G‖/‖G‖ of each parameter's gradients over all samples: circles and diamonds are ours, "
        "triangles torch's own rsample. Left of the line the audit says EXACT. The truth, by differences, is itself good "
        "to about 1e-12 where quantiles are tame.",
    )
    _claim_paths(run, by_path)
    _means(config, run)
    statements.state(config, run)


# Paths.


def _paths(config: Config, subject: quantiles.Subject) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(derive_seed(config.seed, subject.name))
    point = subject.draw_parameters((config.rows, config.columns), generator)
    seed = derive_seed(config.seed, subject.name, "sample")
    z = _sample(subject.make, point, seed).detach()
    reports = {
        "velocity": _audit(config, subject, point, z, _by_velocity(subject, z)),
        "rsample": _audit(config, subject, point, z, _by_sample(subject, subject.make, seed)),
        "wrong sign": _audit(config, subject, point, z, _by_velocity(subject, z, sign=-1.0)),
    }
    if subject.name in TORCHS:
        family = getattr(torch.distributions, TORCHS[subject.name])
        drawn = _sample(family, point, seed).detach()
        reports["torch"] = _audit(config, subject, point, drawn, _by_sample(subject, family, seed))
    return reports


def _sample(make: Callable[..., Any], point: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(**point).rsample()


def _by_velocity(subject: quantiles.Subject, z: Any, sign: float = 1.0) -> Callable[[Any], Any]:
    def signal(point: Any) -> Any:
        plain = {name: x.detach() for name, x in point.items()}
        slope = sign * quantiles.slope(subject, z)
        return {name: slope * v for name, v in subject.velocity(plain, z).items()}

    return signal


def _by_sample(subject: quantiles.Subject, make: Callable[..., Any], seed: int) -> Callable[[Any], Any]:
    def signal(point: Any) -> Any:
        loss = quantiles.function(subject, _sample(make, point, seed)).sum()
        return dict(zip(point, torch.autograd.grad(loss, list(point.values()))))

    return signal


def _audit(
    config: Config, subject: quantiles.Subject, point: Any, z: Any, signal: Callable[[Any], Any]
) -> Any:
    path = quantiles.Path(subject, z, point)

    def loss(parameters: Any) -> Any:
        return quantiles.function(subject, path(parameters)).sum(1)

    return audit.audit(
        signal, loss, point, n=config.rows, cost=False, per_sample=True, quick=config.quick_audits,
        perturbations=4, generator=torch.Generator().manual_seed(config.seed),
    )  # fmt: skip


def deviations(report: Any) -> dict[str, float]:
    """‖A − G‖/‖G‖ by parameter."""
    return {layer.name: layer.figures["deviation"].value for layer in report.layers}


def _path_table(config: Config, run: Run, by_path: dict[tuple[str, str], Any]) -> None:
    rows = []
    for (subject, kind), report in by_path.items():
        off = deviations(report)
        worst = max(off, key=lambda name: off[name])
        rows.append([subject, kind, str(report.verdict), len(off), worst, off[worst]])
    caption = (
        f"{config.rows} rows of {config.columns} samples, each with parameters of its own, against the quantile's path. "
        "“wrapped” is ImplicitReparam; “torch” is torch's own rsample; “wrong sign” is the velocity turned round."
    )
    heads = ["distribution", "signal", "verdict", "parameters", "worst parameter", "‖A − G‖/‖G‖"]
    run.table("paths", Table(heads, rows, title="Paths, sample by sample", caption=caption))
    for subject, kind in (("Rice", "rsample"), ("Rice", "wrong sign"), ("Gamma", "torch")):
        run.audit(
            f"{subject}-{kind}".lower().replace(" ", "-"),
            by_path[subject, kind],
            title=f"{subject}, {kind}",
            caption=caption,
        )


def _claim_paths(run: Run, by_path: dict[tuple[str, str], Any]) -> None:
    for kind, statement in (
        ("velocity", "Every velocity is the derivative of the quantile."),
        ("rsample", "The gradient of every rsample is that of the sample's own path."),
    ):
        reports = {subject: report for (subject, k), report in by_path.items() if k == kind}
        exact = [subject for subject, report in reports.items() if report.verdict.name == "EXACT"]
        worst = max(max(deviations(report).values()) for report in reports.values())
        run.claim(
            Claim(
                name=f"{kind}-is-exact",
                statement=statement,
                source=f"{SOURCE}, eq. 7",
                expected=f"{len(reports)} of {len(reports)}",
                measured=float(len(exact)),
                low=float(len(reports)),
                unit="distributions with the verdict EXACT",
                note=f"largest ‖A − G‖/‖G‖ over all parameters: {worst:.2g}",
            )
        )
    planted = {subject: report for (subject, kind), report in by_path.items() if kind == "wrong sign"}
    named = [s for s, report in planted.items() if _named_everywhere(report, "sign")]
    run.claim(
        Claim(
            name="wrong-sign-is-named",
            statement="A velocity without its minus sign is found, and the audit says what is wrong with it.",
            source=f"{SOURCE}, eq. 6 and 7: the minus sign",
            expected=f"{len(planted)} of {len(planted)}",
            measured=float(len(named)),
            low=float(len(planted)),
            unit="distributions with FAULT(sign) for every parameter",
            note=str(next(iter(planted.values())).verdict),
        )
    )
    theirs = {s: max(deviations(report).values()) for (s, kind), report in by_path.items() if kind == "torch"}
    ours = {s: max(deviations(by_path[s, "rsample"]).values()) for s in theirs}
    run.claim(
        Claim(
            name="nearer-than-torch",
            statement="Gradients of Gamma and Beta samples are nearer to the true path than torch's.",
            source="fingerpost: torch's kernels are series with few terms",
            expected="≥ 1000 times",
            measured=min(theirs[s] / max(ours[s], FLOOR) for s in theirs),
            low=1000.0,
            unit="times nearer",
            note=", ".join(f"{s}: {ours[s]:.2g} against {theirs[s]:.2g}" for s in theirs),
        )
    )


def _named_everywhere(report: Any, fault: str) -> bool:
    named = {layer for found in report.faults if found.name == fault for layer in found.layers}
    return len(named) == len(report.layers)


def _errors_figure(by_path: dict[tuple[str, str], Any]) -> Any:
    names = list(dict.fromkeys(subject for subject, _ in by_path))
    figure, axis = new_figure(width=9.6, height=6.4)
    styles = {
        "velocity": ("#0072B2", "o", 90, "velocity, ours"),
        "rsample": ("#009E73", "D", 18, "gradient of rsample, ours"),
        "torch": ("#D55E00", "^", 60, "gradient of rsample, torch"),
    }
    for kind, (colour, marker, size, label) in styles.items():
        points = [
            (max(value, FLOOR), len(names) - 1 - names.index(subject))
            for (subject, k), report in by_path.items()
            if k == kind
            for value in deviations(report).values()
        ]
        face = "none" if kind == "velocity" else colour
        axis.scatter(
            *np.array(points).T, marker=marker, s=size, label=label, zorder=3, edgecolors=colour, facecolors=face,
            linewidths=1.8,
        )  # fmt: skip
    limit = np.finfo(float).eps ** 0.5
    axis.axvline(limit, color="0.25", linewidth=1.4, linestyle="-", marker="")
    axis.annotate(
        "EXACT to here", (limit, len(names) - 0.5), xytext=(-6, 0), textcoords="offset points", ha="right", va="center",
        fontsize=12, annotation_clip=False,
    )  # fmt: skip
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.set_yticks(range(len(names)), names[::-1])
    axis.set(xscale="log", xlabel="‖A − G‖/‖G‖")
    legend_outside(figure, axis, columns=3)
    return figure


# Means.


def _means(config: Config, run: Run) -> None:
    """Mean gradients of rsample against the gradient of the expectation."""
    reports = {}
    for subject in run.progress(quantiles.SUBJECTS, "means"):
        reports[subject.name, "ours"] = _mean_audit(config, subject, subject.make)
        if subject.name in (*TORCHS, "StudentT"):
            reports[subject.name, "torch"] = _mean_audit(
                config, subject, getattr(torch.distributions, subject.name)
            )
    reports["Dirichlet", "ours"] = _dirichlet(config, distributions.Dirichlet)
    reports["Dirichlet", "torch"] = _dirichlet(config, torch.distributions.Dirichlet)
    rows = [
        [name, whose, str(report.verdict), *_extremes(report)] for (name, whose), report in reports.items()
    ]
    caption = (
        f"Gradients of the mean of f over {config.draws} samples for each of {config.rows} × {config.columns} distributions, "
        f"{config.redraws} redraws, against the gradient of E f by quadrature; for Dirichlet, in closed form. bias² and "
        "variance over ‖g‖²; the extremes over parameters."
    )
    heads = [
        "distribution",
        "whose",
        "verdict",
        "smallest Γ",
        "largest bias²",
        "its low end",
        "largest variance",
    ]
    run.table("means", Table(heads, rows, title="Mean gradients", caption=caption))
    mine = {name: report for (name, whose), report in reports.items() if whose == "ours"}
    passed = [name for name, report in mine.items() if report.verdict.name in ("UNBIASED_NOISY", "EXACT")]
    run.claim(
        Claim(
            name="rsample-is-unbiased",
            statement="The mean gradient of every rsample is the gradient of the expectation.",
            source=f"{SOURCE}, eq. 5",
            expected=f"{len(mine)} of {len(mine)}",
            measured=float(len(passed)),
            low=float(len(mine)),
            unit="distributions with the verdict UNBIASED_NOISY",
            note=f"largest bias² over all parameters: {max(_extremes(r)[1] for r in mine.values()):.2g} of ‖g‖²",
        )
    )


def _extremes(report: Any) -> list[float]:
    bias = max((layer.figures["bias"] for layer in report.layers), key=lambda figure: figure.value)
    return [
        min(layer.figures["gamma"].value for layer in report.layers),
        bias.value,
        bias.low,
        max(layer.figures["variance"].value for layer in report.layers),
    ]


def _mean_audit(config: Config, subject: quantiles.Subject, make: Callable[..., Any]) -> Any:
    generator = torch.Generator().manual_seed(derive_seed(config.seed, subject.name, "mean"))
    point = subject.draw_parameters((config.rows, config.columns), generator)

    def loss(parameters: Any) -> Any:
        return quantiles.expectation(subject, parameters).sum(1)

    draws = max(1, config.draws // 8) if subject.slow else config.draws

    def value(parameters: Any) -> Any:
        z = make(**parameters).rsample(torch.Size((draws,)))
        return quantiles.function(subject, z).mean(0).sum()

    return _audit_mean(config, subject.name, value, loss, point)


def _audit_mean(
    config: Config, name: str, value: Callable[..., Any], loss: Callable[..., Any], point: Any
) -> Any:
    seeds = iter(range(10**9))

    def signal(parameters: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(config.seed, name, "draw", next(seeds)))
            found = torch.autograd.grad(value(parameters), list(parameters.values()))
        return dict(zip(parameters, found))

    return audit.audit(
        signal, loss, point, n=config.rows, cost=False, per_sample=True, redraws=config.redraws,
        perturbations=4, generator=torch.Generator().manual_seed(config.seed),
    )  # fmt: skip


def _dirichlet(config: Config, family: Callable[..., Any]) -> Any:
    """E Σ_i c_i z_i² = Σ_i c_i a_i (a_i + 1)/(A (A + 1)), with A the sum of all a_i."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "Dirichlet", "mean"))
    shape = (config.rows, config.columns)
    point = {"concentration": 0.4 + 3 * torch.rand(shape, generator=generator, dtype=torch.float64)}
    weights = torch.linspace(-1, 2, config.columns, dtype=torch.float64)

    def loss(parameters: Any) -> Any:
        a = parameters["concentration"]
        total = a.sum(1, keepdim=True)
        return (weights * a * (a + 1) / (total * (total + 1))).sum(1)

    def value(parameters: Any) -> Any:
        z = family(parameters["concentration"]).rsample(torch.Size((config.draws,)))
        return (weights * z.square()).sum(-1).mean(0).sum()

    return _audit_mean(config, "Dirichlet", value, loss, point)
