"""Gradients through an ODE for three kinds of loss: ours, and the source's printed adjoint systems, all audited."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.experiments import _adjoint_forms as forms
from fingerpost.lab import Claim, Run, derive_seed, legend_outside, new_figure

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")

SOURCE = "neural-ode.md, “Adjoint system for other two kinds of loss”"
LAGRANGE = "adjoint of the Lagrangian, checked by autograd and finite differences"
GRADIENTS = ("tape", "checkpoint", "backsolve")
LOSSES = ("terminal", "running", "observed")
TIGHT = {"method": "dop853", "rtol": 1e-9, "atol": 1e-10}

# The source's lines: (loss, form, name, whether right). Its h stands in neither its problem nor its derivation.
PRINTED = {
    "running, h = f": ("running", forms.Form(drive=1.0, weight=-1.0), True),
    "running, h = ż − f": ("running", forms.Form(drive=1.0, weight=1.0), False),
    "running, l of θ, h = f": ("running, l of θ", forms.Form(drive=1.0, weight=-1.0), True),
    "running, l of θ, h = ż − f": ("running, l of θ", forms.Form(drive=1.0, weight=1.0), False),
    "observed, h = f": ("observed", forms.Form(weight=-1.0), False),
    "observed, h = ż − f": ("observed", forms.Form(), True),
    "observed, a assigned": ("observed", forms.Form(adds=False), False),
    "observed, h = f, a assigned": ("observed", forms.Form(weight=-1.0, adds=False), False),
}


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of fields, states and targets.
      samples: Trajectories, each with parameters of its own: rows of the audits.
      width: Hidden units of the field.
      tolerances: Relative tolerances of the solver at which gradient errors are measured; atol is rtol / 100.
      directions: Directions of the finite differences.
      quick_audits: Whether audits run in their quick mode.
      device: Where to compute.
      dtype: Precision; float64, since tolerances go below float32's rounding.
    """

    seed: int = 0
    samples: int = 256
    width: int = 16
    tolerances: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
    directions: int = 16
    quick_audits: bool = False
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {
    "quick": Config(
        samples=64, width=8, tolerances=(1e-3, 1e-5, 1e-7, 1e-9), directions=4, quick_audits=True
    ),
    "full": Config(),
}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64":
        raise ConfigError(f"dtype is {config.dtype}; tolerances go below float32's rounding, use float64")
    if config.device != "cpu":
        raise ConfigError(f"device is {config.device}; the problems are small and made on the CPU, use cpu")
    if config.samples < 8:
        raise ConfigError(f"samples is {config.samples}; the audit needs at least 8")
    if len(config.tolerances) < 2 or not all(0 < x < 1 for x in config.tolerances):
        raise ConfigError(f"tolerances is {config.tolerances}; give at least two between 0 and 1")


def run(config: Config, run: Run) -> None:
    """Audits our gradients and the printed forms, and measures the error of each gradient."""
    run.text(
        "What is compared",
        "The source gives one adjoint system for each of three losses, and two of them with a gradient −∫ aᵀ ∂h/∂θ dt "
        "whose h it never defines. h can be the field f, or the constraint ż − f = 0 of its Lagrangian. With h = f the running "
        "loss comes out right and the observed one with the wrong sign; with h = ż − f it is the other way round. No one "
        "reading makes both right. "
        "Right are ȧ = −aᵀf_z − l_z with dL/dθ = ∫ (l_θ + aᵀf_θ) dt, and jumps that add at observations.",
    )
    problems = forms.neural_problems(config.seed, config.samples, config.width)
    reports = _audits(config, run, problems)
    _claim_forms(run, reports)
    _likelihood(config, run)
    _closed_forms(config, run)
    _errors(config, run, problems)


# Audits.


def _audits(config: Config, run: Run, problems: Mapping[str, forms.Problem]) -> dict[str, Any]:
    """One report for each of our gradients and each printed form."""
    reports: dict[str, Any] = {}
    for loss in run.progress(LOSSES, "our gradients"):
        for mode in GRADIENTS:
            options = {"rtol": 1e-6, "atol": 1e-8, "gradient": mode}
            reports[f"{loss}, {mode}"] = _audited(
                config, problems[loss], lambda p, options=options: forms.gradient_by(p, **options)
            )
    for name, (loss, form, _) in PRINTED.items():
        reports[name] = _audited(
            config, problems[loss], lambda p, form=form: forms.gradient_of_form(p, form, **TIGHT)
        )
    caption = (
        f"{config.samples} trajectories of a {config.width}-unit tanh field in the plane, each with its own parameters, so "
        "that a row is a trajectory; reference: autograd through a solver with rtol 1e-9. Our gradients at rtol 1e-6; "
        "printed forms solved at 1e-9, so that only their signs are judged."
    )
    run.table("verdicts", _verdicts(reports, caption))
    run.figure("forms", _forms_figure(reports), title="Direction and length of each form", caption=caption)
    run.audit(
        "running-constraint", reports["running, h = ż − f"], title="Running loss, h = ż − f", caption=caption
    )
    run.audit(
        "observed-assigned", reports["observed, a assigned"], title="Observed loss, assigned", caption=caption
    )
    run.audit(
        "observed-checkpoint", reports["observed, checkpoint"], title="Observed loss, ours", caption=caption
    )
    return reports


def _audited(
    config: Config, problem: forms.Problem, gradient: Any, reference: forms.Problem | None = None
) -> Any:
    """Audits a gradient of `problem` against autograd of the loss of `reference`, itself unless given."""
    true = problem if reference is None else reference

    def at(parameters: Mapping[str, Any]) -> forms.Problem:
        return forms.Problem(
            problem.field, problem.start, problem.times, parameters, problem.integrand, problem.observation
        )

    return audit.audit(
        lambda point: gradient(at(point)),
        lambda point: true.loss(point, gradient="tape", **TIGHT),
        dict(problem.parameters),
        cost=False,
        quick=config.quick_audits,
        per_sample=True,
        perturbations=4,
        n=config.samples,
        double=False,  # everything is in float64 already
    )


def _worst(report: Any, key: str) -> float:
    """The figure of the worst leaf: least Γ or scale, largest deviation."""
    values = [layer.figures[key].value for layer in report.layers]
    return max(values) if key == "deviation" else min(values)


def _verdicts(reports: Mapping[str, Any], caption: str) -> Table:
    rows = [
        [name, str(report.verdict), *(_worst(report, key) for key in ("gamma", "scale", "deviation"))]
        for name, report in reports.items()
    ]
    heads = ["gradient", "verdict", "weakest Γ", "smallest scale", "largest ‖A−G‖/‖G‖"]
    return Table(heads, rows, title="What the audit says of each gradient", caption=caption)


def _forms_figure(reports: Mapping[str, Any]) -> Any:
    """Γ and scale of every form, one mark per leaf."""
    names = list(reports)[::-1]
    figure, (left, right) = new_figure(1, 2, width=10.8, height=0.36 * len(names) + 2.2, sharey=True)
    for axis, key, title in ((left, "gamma", "Direction"), (right, "scale", "Length and sign")):
        for label, marker, colour in (("the gradient", "o", "#0072B2"), ("not the gradient", "X", "#D55E00")):
            places = [
                (layer.figures[key].value, place)
                for place, name in enumerate(names)
                for layer in reports[name].layers
                if (_worst(reports[name], "deviation") < 1e-2) == (label == "the gradient")
            ]
            axis.plot(*zip(*places), linestyle="", marker=marker, color=colour, markersize=8, label=label)
        for line in (-1, 0, 1):
            axis.axvline(line, color="0.6", linewidth=1, linestyle=":" if line < 1 else "-", zorder=0)
        axis.axhline(len(PRINTED) - 0.5, color="0.6", linewidth=1, zorder=0)
        axis.set(title=title, xlim=(-1.35, 1.35))
    ours = len(names) - len(PRINTED)
    left.set_yticks(
        range(len(names)), [n if i >= len(names) - ours else f"printed: {n}" for i, n in enumerate(names)]
    )
    left.set(xlabel="Γ: cosine with the gradient")
    right.set(xlabel="scale: ⟨A, G⟩ / ⟨G, G⟩")
    legend_outside(figure, left)
    return figure


def _claim_forms(run: Run, reports: Mapping[str, Any]) -> None:
    for mode in GRADIENTS:
        ours = {loss: reports[f"{loss}, {mode}"] for loss in LOSSES}
        worst = max(_worst(report, "deviation") for report in ours.values())
        run.claim(
            Claim(
                name=f"ours-{mode}",
                statement=f"With gradient “{mode}” all three losses pass the audit; what is left is the solver's error.",
                source=LAGRANGE,
                expected="≤ 1e-4",
                measured=worst if all(report.passed for report in ours.values()) else math.inf,
                high=1e-4,
                unit="‖A−G‖/‖G‖",
                note="largest over losses and leaves at rtol 1e-6; verdicts: "
                + ", ".join(f"{loss} {report.verdict}" for loss, report in ours.items()),
            )
        )
    for key, name, statement in (
        ("running-constraint", "running, h = ż − f", "Running loss, h read as ż − f: the adjoint part has the wrong sign."),
        ("observed-field", "observed, h = f", "Observed loss, h read as f: the gradient has the wrong sign."),
    ):  # fmt: skip
        _claim_named(run, key, statement, reports[name], "sign")
    for key, name, statement in (
        ("running-field", "running, l of θ, h = f", "Running loss, h read as f: right, both signs change."),
        ("observed-constraint", "observed, h = ż − f", "Observed loss, h read as ż − f, jumps added: right."),
    ):  # fmt: skip
        run.claim(_deviation_claim(key, statement, reports[name], high=1e-6))
    run.claim(_deviation_claim(
        "running-theta", "Running loss whose l holds θ, h read as ż − f: wrong, and not by a sign alone.",
        reports["running, l of θ, h = ż − f"], low=0.1,
    ))  # fmt: skip
    run.claim(_deviation_claim(
        "observed-assigned", "Observed loss: a(t_i) = ∂L/∂z(t_i) in place of the jump a += ∂L/∂z(t_i) is not the gradient.",
        reports["observed, a assigned"], low=0.1,
    ))  # fmt: skip
    readings = [("running, h = f", "observed, h = f"), ("running, h = ż − f", "observed, h = ż − f")]
    best = min(max(_worst(reports[name], "deviation") for name in pair) for pair in readings)
    run.claim(
        Claim(
            name="no-one-reading",
            statement="No one meaning of the source's h makes both of its printed gradients right.",
            source=f"{SOURCE}: −∫ aᵀ ∂h/∂θ dt, twice",
            expected="≥ 1",
            measured=best,
            low=1.0,
            unit="‖A−G‖/‖G‖",
            note="the better of the two readings, at the worse of its two losses; −G in place of G has 2",
        )
    )


def _claim_named(run: Run, key: str, statement: str, report: Any, fault: str) -> None:
    named = {layer for found in report.faults if found.name == fault for layer in found.layers}
    run.claim(
        Claim(
            name=key,
            statement=statement,
            source=SOURCE,
            expected=f"{len(report.layers)} of {len(report.layers)} leaves named",
            measured=float(len(named)),
            low=float(len(report.layers)),
            unit="leaves",
            note=f"{report.verdict}: {report.verdict.reason}",
        )
    )


def _deviation_claim(
    key: str, statement: str, report: Any, *, low: float | None = None, high: float | None = None
) -> Claim:
    values = [layer.figures["deviation"].value for layer in report.layers]
    return Claim(
        name=key,
        statement=statement,
        source=SOURCE,
        expected=f"≤ {high:g}" if low is None else f"≥ {low:g}",
        measured=max(values) if low is None else min(values),
        low=low,
        high=high,
        unit="‖A−G‖/‖G‖",
        note=f"{'largest' if low is None else 'smallest'} over leaves; {report.verdict}: {report.verdict.reason}",
    )


# The likelihood of a flow.


def _likelihood(config: Config, run: Run) -> None:
    """The sign in log p = log μ(z₀) ∓ ∫ tr: which is a density, and what the audit says of the other's gradient."""
    right = forms.likelihood_problem(config.seed, config.samples, config.width, -1.0)
    printed = forms.likelihood_problem(config.seed, config.samples, config.width, 1.0)
    loose = {"rtol": 1e-6, "atol": 1e-8}
    reports = {
        name: _audited(config, problem, lambda p: forms.gradient_by(p, **loose), reference=right)
        for name, problem in (("log μ − ∫ tr (ours)", right), ("log μ + ∫ tr (printed)", printed))
    }
    masses = [_mass(right), _mass(printed)]
    rows = [[name, str(r.verdict), *(_worst(r, k) for k in ("gamma", "scale", "deviation")), mass]
            for (name, r), mass in zip(reports.items(), masses)]  # fmt: skip
    caption = f"Gradient of −log p over {config.samples} points and fields; ∫ p dx over [−7, 7]² is of the first field."
    heads = ["log p", "verdict", "weakest Γ", "smallest scale", "largest ‖A−G‖/‖G‖", "∫ p dx"]
    run.table("likelihood", Table(heads, rows, title="The sign in the likelihood of a flow", caption=caption))
    statement = "log p₁(z₁) = log μ(z₀) − ∫₀¹ tr(∂f/∂z) dt is the logarithm of a density: it integrates to 1."
    run.claim(Claim("likelihood-minus", statement, LAGRANGE, "1 ± 0.01", masses[0], low=0.99, high=1.01))
    run.claim(
        Claim(
            name="likelihood-plus",
            statement="With + before the integral, as printed, it is no density: its mass is off by 5 % or more.",
            source="neural-ode.md, likelihood of the continuous normalizing flow",
            expected="≥ 0.05",
            measured=abs(masses[1] - 1),
            low=0.05,
            unit="|∫ p dx − 1|",
            note=f"mass {masses[1]:.3g}; its gradient: {list(reports.values())[1].verdict}. With f running from data to "
            "base the + would be right, but the source's f runs from base to data",
        )
    )


def _mass(problem: forms.Problem, half: float = 7.0, points: int = 70) -> float:
    """∫ p dx by the midpoint rule, for the parameters of the first sample."""
    side = (torch.arange(points, dtype=torch.float64) + 0.5) * (2 * half / points) - half
    grid = torch.cartesian_prod(side, side)
    one = {name: value[:1].expand(len(grid), *value.shape[1:]) for name, value in problem.parameters.items()}
    there = forms.Problem(problem.field, grid, problem.times, one, problem.integrand, problem.observation)
    with torch.no_grad():
        log_p = -there.loss(rtol=1e-6, atol=1e-8)
    return float(log_p.exp().sum() * (2 * half / points) ** 2)


# Against closed forms and finite differences.


def _closed_forms(config: Config, run: Run) -> None:
    """ż = −θz³: every gradient and every printed form against the derivative of the closed form."""
    rows, worst = [], 0.0
    for loss, (problem, closed) in forms.cubic_problems(config.seed, 16).items():
        rate = problem.parameters["rate"].clone().requires_grad_()
        (exact,) = torch.autograd.grad(closed(rate).sum(), rate)
        found = {mode: forms.gradient_by(problem, gradient=mode, **TIGHT) for mode in GRADIENTS}
        found |= {
            f"as printed: {name.removeprefix(loss + ', ')}": forms.gradient_of_form(problem, form, **TIGHT)
            for name, (kind, form, _) in PRINTED.items()
            if kind == loss
        }
        for name, gradient in found.items():
            error = _distance(gradient["rate"], exact)
            rows.append([loss, name, error, float((gradient["rate"] * exact).sum() / exact.square().sum())])
            worst = max(worst, error) if name in GRADIENTS else worst
    caption = (
        "ż = −θ z³ with z(t) = z₀ / √(1 + 2θz₀²t): Σ z(T), ∫ z dt and Σ_i z(t_i) have closed forms, whose derivatives autograd "
        "takes. 16 trajectories, rtol 1e-9."
    )
    heads = ["loss", "gradient", "relative error", "⟨A, G⟩ / ⟨G, G⟩"]
    run.table("closed-forms", Table(heads, rows, title="Against closed forms", caption=caption))
    run.claim(
        Claim("closed-forms", "All three gradients of all three losses agree with closed forms on ż = −θz³.", LAGRANGE,
              "≤ 1e-8", worst, high=1e-8, unit="relative", note="largest of nine, rtol 1e-9")
    )  # fmt: skip


def _distance(found: Any, exact: Any) -> float:
    return float((found - exact).norm() / exact.norm())


def _stacked(gradient: Mapping[str, Any]) -> Any:
    return torch.cat([part.flatten() for part in gradient.values()])


def _errors(config: Config, run: Run, problems: Mapping[str, forms.Problem]) -> None:
    """Error of each gradient against the tolerance; agreement of the reference with finite differences."""
    figure, axes = new_figure(1, 3, width=11.0, height=4.4, sharey=True)
    rows, gaps, slopes, checks = [], [], {}, []
    for axis, loss in zip(axes, LOSSES):
        problem = problems[loss]
        fine = _stacked(forms.gradient_by(problem, gradient="tape", method="dop853", rtol=1e-12, atol=1e-13))
        checks.append(_against_differences(config, problem, fine))
        errors: dict[str, list[float]] = {mode: [] for mode in GRADIENTS}
        for rtol in config.tolerances:
            kind = {"rtol": rtol, "atol": rtol / 100}
            found = {mode: _stacked(forms.gradient_by(problem, gradient=mode, **kind)) for mode in GRADIENTS}
            gaps.append(_distance(found["checkpoint"], found["tape"]))
            for mode in GRADIENTS:
                errors[mode].append(_distance(found[mode], fine))
            rows.append([loss, rtol, *(errors[mode][-1] for mode in GRADIENTS), gaps[-1]])
        for mode, marker in zip(GRADIENTS, "os^"):
            axis.loglog(config.tolerances, errors[mode], marker=marker, label=mode, markerfacecolor="none")
            slopes[loss, mode] = _slope(config.tolerances, errors[mode])
        axis.set(title=loss, xlabel="rtol of the solver")
    axes[0].set(ylabel="relative error of dL/dθ")
    legend_outside(figure, axes[0], columns=3)
    caption = (
        "Distance to autograd through DOP853 at rtol 1e-12, over all parameters; dopri5, atol = rtol / 100. The tape and the "
        "checkpoint differentiate the same steps, so their curves coincide."
    )
    run.figure("tolerance", figure, title="Gradient error against tolerance", caption=caption)
    heads = ["loss", "rtol", *GRADIENTS, "checkpoint − tape"]
    run.table("tolerance", Table(heads, rows, title="Gradient error against tolerance", caption=caption))
    _claim_errors(config, run, max(checks), max(gaps), slopes)


def _claim_errors(config: Config, run: Run, check: float, gap: float, slopes: Mapping[Any, float]) -> None:
    run.claim(
        Claim("finite-differences", "Autograd through the fine solver agrees with finite differences of the loss.", LAGRANGE,
              "≤ 1e-7", check, high=1e-7, unit="relative", note=f"{config.directions} random directions, three losses")
    )  # fmt: skip
    run.claim(
        Claim("checkpoint-is-tape", "Checkpoint equals the tape to rounding: it replays the same steps.", LAGRANGE,
              "≤ 1e-12", gap, high=1e-12, unit="relative", note="largest over losses and tolerances")
    )  # fmt: skip
    for mode in GRADIENTS:
        slowest = min(slopes[loss, mode] for loss in LOSSES)
        run.claim(
            Claim(
                name=f"order-{mode}",
                statement=f"The error of “{mode}” falls with the tolerance, as the solution's does.",
                source="error control of the solver",
                expected="≥ 0.7",
                measured=slowest,
                low=0.7,
                unit="slope in log–log",
                note="smallest over losses; 1 is proportional",
            )
        )


def _against_differences(config: Config, problem: forms.Problem, gradient: Any, step: float = 1e-3) -> float:
    """Largest relative gap of ⟨G, v⟩ and a fourth-order difference of ΣL along random v, about 1 long in each row."""
    length = math.sqrt(sum(value[0].numel() for value in problem.parameters.values()))
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "directions"))
    worst = 0.0
    for _ in range(config.directions):
        v = {
            name: torch.randn(value.shape, generator=generator, dtype=torch.float64) / length
            for name, value in problem.parameters.items()
        }

        def moved(by: float, v: Mapping[str, Any] = v) -> float:
            theta = {name: value + by * v[name] for name, value in problem.parameters.items()}
            with torch.no_grad():
                return float(problem.loss(theta, method="dop853", rtol=1e-12, atol=1e-13).sum())

        slope = (8 * (moved(step) - moved(-step)) - moved(2 * step) + moved(-2 * step)) / (12 * step)
        along = _stacked(v)
        worst = max(worst, abs(float(gradient @ along) - slope) / float(gradient.norm() * along.norm()))
    return worst


def _slope(x: Any, y: Any) -> float:
    """Least-squares slope in the log–log plane."""
    logs = [(math.log(a), math.log(max(b, 1e-300))) for a, b in zip(x, y)]
    middle = [sum(column) / len(logs) for column in zip(*logs)]
    across = sum((a - middle[0]) ** 2 for a, _ in logs)
    return sum((a - middle[0]) * (b - middle[1]) for a, b in logs) / across
