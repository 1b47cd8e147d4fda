"""The credit's two limits and its sign on a teacher–student task, where the exact gradient is known at any depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.experiments import _credit_audit as auditing
from fingerpost.lab import Claim, Run, derive_seed, legend_outside, new_figure

torch = lazy_import("torch")
credit = lazy_import("fingerpost.credit")

LIMITS = "energy and signals of the credit, at equilibrium"
BETAS = (0.2, 0.1, 0.05, 0.025, 0.0125)


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of teacher, student and inputs.
      depths: Depths of the student, in blocks.
      width: Dimension d of inputs and blocks.
      classes: Classes C of the teacher.
      samples: Inputs, N.
      beta: Strength of the nudge where the source's own settings are shown.
      steps: The source's T_nudge, steps of gradient descent in the nudged phase.
      device: Where to compute.
      dtype: Precision; float64, since limits are measured.
    """

    seed: int = 0
    depths: tuple[int, ...] = (2, 4, 8, 16, 32)
    width: int = 64
    classes: int = 10
    samples: int = 256
    beta: float = 0.5
    steps: int = 20
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {"quick": Config(depths=(2, 4, 8, 16), width=32, samples=128), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if len(config.depths) < 2 or min(config.depths) < 2:
        raise ConfigError(f"depths is {config.depths}; give at least two depths of at least 2 blocks")
    if config.dtype != "float64":
        raise ConfigError(f"dtype is {config.dtype}; limits in β are below float32's rounding, use float64")
    if not config.beta > 0:
        raise ConfigError(f"beta is {config.beta}; the nudge must be above 0")


def student(config: Config, depth: int) -> tuple[Any, Any, Any]:
    """A residual student, inputs (N, d) and a random teacher's labels (N,)."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "synthetic", depth))
    chain = credit.residual_mlp(
        config.width, config.width, config.classes, depth, generator=generator
    ).double()
    x = torch.randn(config.samples, config.width, generator=generator, dtype=torch.float64)
    teacher = torch.randn(config.width, config.classes, generator=generator, dtype=torch.float64)
    return chain.to(config.device), x.to(config.device), (x @ teacher).argmax(1).to(config.device)


def run(config: Config, run: Run) -> None:
    """Measures the limits, the sign, and what few steps leave of the credit at each depth."""
    depth = config.depths[min(1, len(config.depths) - 1)]
    _signals(config, run, depth)
    _limits(config, run, depth)
    _by_depth(config, run)
    _fading(config, run)


def _all_signals(config: Config) -> dict[str, Any]:
    """Every signal by the name that the report uses."""
    relaxed = {"beta": config.beta, "solver": "error", "steps": 60}
    few = {"beta": config.beta, "steps": config.steps}
    return {
        "before the fix": credit.DisplacementCredit(**relaxed, sign=-1),
        "after the fix": credit.DisplacementCredit(**relaxed),
        f"before the fix, {config.steps} steps": credit.DisplacementCredit(**few, sign=-1),
        f"after the fix, {config.steps} steps": credit.DisplacementCredit(**few),
        "displacement, β → 0": credit.DisplacementCredit(beta=1e-3, solver="error", steps=60),
        "error credit, one-sided": credit.ErrorCredit(beta=config.beta, centered=False, steps=60),
        "error credit, centred": credit.ErrorCredit(beta=config.beta, steps=60),
        "error credit, β auto": credit.ErrorCredit(beta="auto"),
        "feedback alignment": credit.FeedbackAlignment(seed=config.seed),
        "direct feedback": credit.DirectFeedbackAlignment(seed=config.seed),
    }


def _signals(config: Config, run: Run, depth: int) -> None:
    """Every signal at one depth, with pictures; the claims on bug and fix."""
    chain, x, y = student(config, depth)
    signals = _all_signals(config)
    reports = auditing.audit_credits(chain, x, y, signals)
    caption = (
        f"A random tanh residual student of {depth} blocks (d = {config.width}, {config.classes} classes), "
        f"{config.samples} Gaussian inputs labelled by a linear teacher; audits in float64."
    )
    run.table("verdicts", auditing.verdict_table(reports, "What the audit says of each signal", caption))
    shown = {name: reports[name] for name in list(reports)[:4] + ["error credit, β auto", "direct feedback"]}
    run.figure(
        "layers",
        auditing.layers_figure(shown),
        title=f"Direction and length at depth {depth}",
        caption="The bug mirrors the fix in direction; the source's few steps leave the lower layers with little length.",
    )
    run.audit("before-the-fix", reports["before the fix"], title="Before the fix", caption=caption)
    run.audit("after-the-fix", reports["after the fix"], title="After the fix", caption=caption)
    auditing.claim_bug_and_fix(run, reports["before the fix"], reports["after the fix"])
    _claim_negative(run, reports[f"before the fix, {config.steps} steps"])
    _claim_gramian(run, reports["displacement, β → 0"])


def _by_depth(config: Config, run: Run) -> None:
    """Γ, ρ, scale and verdict of every block and signal at every depth."""
    verdicts, blocks = [], []
    for depth in run.progress(config.depths, "depths"):
        chain, x, y = student(config, depth)
        for name, report in auditing.audit_credits(chain, x, y, _all_signals(config)).items():
            verdicts.append([depth, name, str(report.verdict), *_extremes(report)])
            for layer in report.layers:
                figures = [layer.figures[key].value for key in ("gamma", "rho", "scale")]
                blocks.append([depth, name, int(layer.name), layer.verdict, *figures])
    heads = ["depth", "signal", "verdict", "weakest Γ", "weakest ρ", "smallest scale"]
    caption = "Weakest means nearest to zero over blocks; Γ, ρ and scale of every block are in tables/blocks.csv of the run."
    run.table(
        "verdicts-by-depth", Table(heads, verdicts, title="Every signal at every depth", caption=caption)
    )
    columns = ["depth", "signal", "block", "verdict", "Γ", "ρ", "scale"]
    run.table("blocks", Table(columns, blocks, title="Every block"), show=False)


def _extremes(report: Any) -> list[float]:
    return [
        min((layer.figures[key].value for layer in report.layers), key=abs)
        for key in ("gamma", "rho", "scale")
    ]


def _claim_negative(run: Run, bug: Any) -> None:
    """The source's two diagnostics, with its own relaxation."""
    for key, symbol, said in (("gamma", "Γ", "Γ < 0"), ("rho", "ρ", "ρ = −0.25")):
        figures = [layer.figures[key] for layer in bug.layers]
        worst = max(figures, key=lambda figure: figure.value)
        run.claim(
            Claim(
                name=f"bug-{key}",
                statement=f"Before the fix {symbol} is negative in every layer.",
                source=f"{auditing.PATCH}: {said}",
                expected="< 0",
                measured=worst.value,
                high=0.0,
                interval=(worst.low, worst.high),
                note="largest over layers with its 95 % interval; the source's −0.25 depends on its unpublished settings",
                decided_by="interval",
            )
        )


def _claim_gramian(run: Run, report: Any) -> None:
    """Beyond the first block the displacement credit is not the gradient, however weak the nudge."""
    deviations = [layer.figures["deviation"].value for layer in report.layers]
    run.claim(
        Claim(
            name="displacement-not-gradient",
            statement="Beyond the first block the displacement credit never tends to the gradient.",
            source=LIMITS,
            expected="≥ 0.5",
            measured=min(deviations[1:]),
            low=0.5,
            unit="‖A−G‖/‖G‖",
            note=f"smallest over blocks 2…L at β = 0.001; at block 1 it is {deviations[0]:.2g}; verdict {report.verdict}: "
            f"{report.verdict.reason}",
        )
    )


def _limits(config: Config, run: Run, depth: int) -> None:
    """Distance to the limit against β, for the error credit and for the displacement credit."""
    chain, x, y = student(config, depth)
    gradient = credit.Backprop()(chain, x, y).layers
    weighted = _gramian(chain, x, gradient)
    kinds = {
        "error, one-sided": (lambda b: credit.ErrorCredit(beta=b, centered=False, steps=80), gradient, 1),
        "error, centred": (lambda b: credit.ErrorCredit(beta=b, steps=80), gradient, 2),
        "error, centred + Richardson": (lambda b: credit.ErrorCredit(beta=b, steps=80, richardson=1), gradient, 4),
        "displacement to Gramian · gradient": (
            lambda b: credit.DisplacementCredit(beta=b, solver="error", steps=80), weighted, 1,
        ),
    }  # fmt: skip
    figure, axes = new_figure(width=7.4, height=5.8)
    rows = []
    for name, (make, limit, order) in kinds.items():
        distances = [_distance(make(b / depth)(chain, x, y).layers, limit) for b in BETAS]
        slope = _slope([math.log(b) for b in BETAS], [math.log(d) for d in distances])
        rows.append([name, order, slope, *distances])
        axes.loglog([b / depth for b in BETAS], distances, marker="o", label=f"{name}: order {slope:.2f}")
        run.claim(_order_claim(name, order, slope))
    axes.set(xlabel="strength of the nudge, β", ylabel="relative distance to the limit")
    axes.set_xticks([b / depth for b in BETAS], [f"{b / depth:.3g}" for b in BETAS])
    axes.minorticks_off()
    legend_outside(figure, axes, columns=1)
    caption = f"Relative distance over all {depth} blocks at equilibrium, float64; order is the slope in the log-log plot."
    run.figure("limits", figure, title="Two limits as the nudge weakens", caption=caption)
    heads = ["credit", "expected order", "measured order", *(f"β = {b / depth:g}" for b in BETAS)]
    run.table("limits", Table(heads, rows, title="Order in β", caption=caption))


def _order_claim(name: str, order: int, slope: float) -> Claim:
    return Claim(
        name=f"order-{name.replace(', ', '-').replace(' ', '-').replace('·', 'x').replace('+', 'with')}",
        statement=f"{name[0].upper()}{name[1:]}: the distance to its limit shrinks like β^{order}.",
        source=LIMITS,
        expected=f"{order}",
        measured=slope,
        low=order - 0.3,
        high=order + 0.3,
        unit="order in β",
        note=f"slope of the log distance over {len(BETAS)} nudges",
    )


def _gramian(chain: Any, x: Any, gradient: list[Any]) -> list[Any]:
    """Σ_{k≤l} J_{l←k} J_{l←k}ᵀ g_l by a forward sweep of Jacobian products, independent of the audit's."""
    states = credit.free_phase(chain, x).states
    weighted = [gradient[0]]
    for block, state, g in zip(list(chain.blocks)[1:], states[1:], gradient[1:]):
        _, pushed = torch.func.jvp(block, (state,), (weighted[-1],))
        weighted.append((g + pushed).detach())
    return weighted


def _distance(left: list[Any], right: list[Any]) -> float:
    difference = sum(float((a - b).square().sum()) for a, b in zip(left, right))
    return math.sqrt(difference / sum(float(b.square().sum()) for b in right))


def _slope(x: list[float], y: list[float]) -> float:
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)


def _fading(config: Config, run: Run) -> None:
    """What the source's few steps of gradient descent leave of the credit at block 1, by depth."""
    rows = []
    figure, axes = new_figure(width=7.4, height=4.8)
    for depth in config.depths:
        chain, x, y = student(config, depth)
        few = credit.DisplacementCredit(beta=config.beta, steps=config.steps)(chain, x, y)
        gradient = credit.Backprop()(chain, x, y).layers
        scale = [float(a.norm() / g.norm()) for a, g in zip(few.layers, gradient)]
        cosine = _cosine(few.layers[0], gradient[0])
        rows.append([depth, scale[0], cosine, few.residuals[0]])
        axes.semilogy(
            [i / depth for i in range(1, depth + 1)], [max(s, 1e-30) for s in scale], label=f"{depth} blocks"
        )
    axes.set(xlabel="block / depth", ylabel="length over the gradient's", ylim=(1e-16, 10))
    axes.legend(loc="lower right")
    caption = (
        f"Displacement credit after {config.steps} gradient steps (step size 0.1, branches scaled 1/√L): length over the "
        "true gradient's. Its cosine at block 1 stays near 1 wherever anything arrived, so that a cosine alone sees nothing."
    )
    run.figure("fading", figure, title="Few steps do not reach deep", caption=caption)
    heads = ["depth", "relative length at block 1", "cosine at block 1", "relaxation residual at block 1"]
    run.table("fading", Table(heads, rows, title=f"Block 1 after {config.steps} steps", caption=caption))
    _claim_fading(run, rows)


def _cosine(a: Any, g: Any) -> float:
    """Mean cosine over samples, without torch's ε, which would hide credits of length 1e-13; NaN if any is zero."""
    return float(((a * g).sum(1) / (a.norm(dim=1) * g.norm(dim=1))).mean())


def _claim_fading(run: Run, rows: list[list[float]]) -> None:
    for depth, said in ((2, 0.4), (4, 0.06), (8, 1e-4), (16, 1e-13)):
        found = [row for row in rows if row[0] == depth]
        if not found:
            continue
        run.claim(
            Claim(
                name=f"fading-{depth}",
                statement=f"After 20 gradient steps at depth {depth} the credit at block 1 keeps about {said:g} of its length.",
                source=f"{LIMITS}: 0.4 / 0.06 / 1e-4 / 1e-13 at depth 2/4/8/16",
                expected=f"{said:g}, to a factor of 3",
                measured=found[0][1],
                low=said / 3,
                high=said * 3,
                unit="relative length",
                note=f"its cosine there is {found[0][2]:.3f}",
            )
        )
