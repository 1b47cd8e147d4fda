"""The gradients of the two flow-matching losses against each other, and the source's printed formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.experiments import _flow_formulas as formulas
from fingerpost.lab import Claim, Run, derive_seed, new_figure

torch = lazy_import("torch")
audit = lazy_import("fingerpost.audit")
flow = lazy_import("fingerpost.flow")

SOURCE = formulas.SOURCE


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of data, network and draws.
      points: Points of the data, N; the marginal field is exact for them.
      width: Units of the network's two hidden layers.
      strata: Parts of the time axis; gradients are taken in each, which gives the audit its repetitions.
      batch: Draws of a stochastic gradient in each part of the time axis.
      redraws: Stochastic gradients in each part.
      nodes: Quadrature nodes in each axis of x₀ for the exact gradient.
      sigma_min: Width of the straight path at the data.
      device: Where to compute.
      dtype: Precision; float64, since the reference is a quadrature.
    """

    seed: int = 0
    points: int = 8
    width: int = 24
    strata: int = 32
    batch: int = 256
    redraws: int = 256
    nodes: int = 16
    sigma_min: float = 0.1
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {"quick": Config(strata=16, redraws=48, nodes=12, width=16), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64":
        raise ConfigError(f"dtype is {config.dtype}; the exact loss is a quadrature, use float64")
    if config.strata < 8 or config.redraws < 8:
        raise ConfigError(
            f"strata={config.strata}, redraws={config.redraws}; the audit needs at least 8 of each"
        )
    if not 0 < config.sigma_min < 1:
        raise ConfigError(f"sigma_min is {config.sigma_min}; expected a width in (0, 1)")


def run(config: Config, run: Run) -> None:
    """Audits the conditional gradient, measures the constant between the losses, and reads the printed formulas."""
    x1 = data(config)
    reports = _audits(config, run, x1)
    _claim_unbiased(run, reports)
    _constant(config, run, x1)
    _variances(config, run, x1)
    formulas.claim_formulas(run, x1)


def data(config: Config) -> Any:
    """N points in the plane, of about unit variance, shape (N, 2)."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "points"))
    x1 = torch.randn(config.points, 2, generator=generator, dtype=torch.float64)
    return x1.to(config.device)


def network(config: Config, label: str = "network") -> Any:
    """A small tanh field of (t, x)."""

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = []
            for inputs in (3, config.width):
                layers += [torch.nn.Linear(inputs, config.width), torch.nn.Tanh()]
            self.net = torch.nn.Sequential(*layers, torch.nn.Linear(config.width, 2))

        def forward(self, t: Any, x: Any) -> Any:
            return self.net(torch.cat([t.expand(len(x))[:, None], x], 1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, label))
        return Field().to(config.device, torch.float64)


def paths(config: Config) -> dict[str, Any]:
    """Paths whose marginal field is smooth enough for a quadrature."""
    return {
        f"straight, σ_min = {config.sigma_min:g}": flow.CondOT(config.sigma_min),
        "variance preserving, t ≤ 0.95": flow.VariancePreserving(cutoff=0.05),
        "trigonometric, t ≤ 0.95": _early(flow.Trigonometric(), 0.95),
    }


def _early(path: Any, end: float) -> Any:
    path.time_range = (0.0, end)
    return path


def _audits(config: Config, run: Run, x1: Any) -> dict[str, Any]:
    """∇CFM of each path, and two signals that are wrong, against ∇FM by quadrature."""
    reports = {}
    for name, path in paths(config).items():
        reports[name] = _audit(config, x1, path, _conditional(config, x1, path))
    straight = flow.CondOT(config.sigma_min)
    reports["minibatch OT against the independent field"] = _audit(
        config, x1, straight, _conditional(config, x1, straight, flow.ExactOT())
    )
    preserving = flow.VariancePreserving(cutoff=0.05)
    reports["variance preserving, ′ read as d/dt"] = _audit(
        config, x1, preserving, _conditional(config, x1, preserving, sign=-1.0)
    )
    caption = (
        f"Stochastic gradients of the conditional loss ({config.batch} draws in each of {config.strata} parts of the time "
        f"axis, {config.redraws} redraws) against the gradient of the flow-matching loss by quadrature; a network of "
        f"{sum(p.numel() for p in network(config).parameters())} parameters, {config.points} points. Figures are the "
        "extremes over its parameter tensors."
    )
    rows = [[name, str(report.verdict), *_extremes(report)] for name, report in reports.items()]
    heads = [
        "signal",
        "verdict",
        *(f"{'smallest' if pick is min else 'largest'} {head}" for head, _, pick in EXTREMES),
    ]
    run.table("audits", Table(heads, rows, title="∇CFM against ∇FM", caption=caption))
    first = next(iter(reports))
    run.audit("cfm", reports[first], title=f"∇CFM, {first}", caption=caption)
    return reports


EXTREMES = (
    ("Γ", "gamma", min),
    ("scale", "scale", min),
    ("bias²", "bias", max),
    ("variance", "variance", max),
)


def _extremes(report: Any) -> list[float]:
    return [pick(layer.figures[key].value for layer in report.layers) for _, key, pick in EXTREMES]


def _audit(config: Config, x1: Any, path: Any, signal: Callable[..., Any]) -> Any:
    field = flow.MarginalField(x1, path)
    low, high = path.time_range
    edges = torch.linspace(low, high, config.strata + 1, dtype=torch.float64)
    parts = torch.stack([edges[:-1], edges[1:]], 1)

    def loss(model: Any, part: Any) -> Any:
        nodes = field.quadrature(2, config.nodes, tuple(part[0][0].tolist()))
        return field.fm_loss(model, nodes)

    return audit.audit_gradients(
        network(config), signal, (parts,), loss=loss, units=config.strata, redraws=config.redraws,
        perturbations=4, cost=False, generator=torch.Generator().manual_seed(config.seed),
    )  # fmt: skip


def _conditional(
    config: Config, x1: Any, path: Any, coupling: Any = None, sign: float = 1.0
) -> Callable[..., Any]:
    """The stochastic gradient of the conditional loss in one part of the time axis."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "draws"))

    def signal(model: Any, part: Any) -> None:
        low, high = part[0][0].tolist()
        rows = torch.randint(len(x1), (config.batch,), generator=generator)
        time = low + (high - low) * torch.rand(config.batch, generator=generator, dtype=x1.dtype)
        x0 = torch.randn(config.batch, 2, generator=generator, dtype=x1.dtype)
        data = x1[rows]
        if coupling is not None:
            x0, data = coupling(x0, data)
        x, target = path.sample_and_target(x0, data, time)
        (model(time, x) - sign * target).square().sum(1).mean().backward()

    return signal


def _claim_unbiased(run: Run, reports: dict[str, Any]) -> None:
    for name, report in list(reports.items())[:3]:
        figures = [layer.figures["bias"] for layer in report.layers]
        worst = max(figures, key=lambda figure: figure.high)
        run.claim(
            Claim(
                name=f"unbiased-{name.split(',')[0].replace(' ', '-')}",
                statement=f"∇CFM is an unbiased estimate of ∇FM ({name}).",
                source=f"{SOURCE}, eq. 13",
                expected="0, within 0.0025: a bias of a twentieth of ‖∇FM‖",
                measured=worst.value if report.verdict.name == "UNBIASED_NOISY" else math.nan,
                low=-0.0025,
                high=0.0025,
                interval=(worst.low, worst.high),
                unit="bias²/‖∇FM‖²",
                note=f"the parameter whose interval reaches highest; an unbiased estimate, so it may be negative; "
                f"verdict {report.verdict}",
                decided_by="interval",
            )
        )
    coupled, misread = list(reports.values())[3:5]
    gamma = [layer.figures["gamma"].value for layer in misread.layers]
    run.claim(
        Claim(
            name="misread-prime-fails-its-audit",
            statement="With ′ read as d/dt, training follows a gradient that fails its audit.",
            source=f"{SOURCE}, the printed variance-preserving u_t",
            expected="does not pass",
            measured=float(misread.verdict.passed),
            high=0.5,
            unit="passes (1) or not (0)",
            note=f"verdict {misread.verdict}; smallest Γ over parameters {min(gamma):.2f}",
        )
    )
    run.claim(
        Claim(
            name="coupled-batches-have-another-field",
            statement="Pairs by minibatch transport follow another field's gradient, not the independent one's.",
            source="fingerpost: eq. 11 holds for pairs that are drawn independently",
            expected="does not pass as an estimate of ∇FM of independent pairs",
            measured=float(coupled.verdict.name in ("UNBIASED_NOISY", "EXACT")),
            high=0.5,
            unit="unbiased (1) or not (0)",
            note=f"verdict {coupled.verdict}; this is no fault: both fields carry noise to the same data",
        )
    )


def _constant(config: Config, run: Run, x1: Any) -> None:
    """L_CFM − L_FM for several networks: one number, the expected variance of ψ̇ given (t, x)."""
    path = flow.CondOT(config.sigma_min)
    field = flow.MarginalField(x1, path)
    nodes = field.quadrature(24, config.nodes)
    gap = float(field.gap(nodes))
    rows, worst = [], 0.0
    models = {"zero field": lambda t, x: torch.zeros_like(x), "marginal field itself": field}
    models |= {f"random network {i}": network(config, f"network {i}") for i in range(1, 4)}
    with torch.no_grad():
        for name, model in models.items():
            exact, conditional = float(field.fm_loss(model, nodes)), float(field.cfm_loss(model, nodes))
            rows.append([name, exact, conditional, conditional - exact])
            worst = max(worst, abs(conditional - exact - gap) / gap)
    caption = (
        f"Both losses on the same {len(nodes.t):,} quadrature nodes, {path!r}. Their difference is the expected variance of "
        f"the target given (t, x), {gap:.6g}: the conditional loss of a perfect model is not 0."
    )
    heads = ["model", "L_FM", "L_CFM", "difference"]
    table = Table(heads, rows, title="What the losses differ by", caption=caption, digits=6)
    run.table("constant", table)
    run.claim(
        Claim(
            name="losses-differ-by-a-constant",
            statement="L_CFM − L_FM is the same number for every model.",
            source=f"{SOURCE}, eq. 13 (equal gradients; it does not say that the losses differ)",
            expected="0, to the quadrature's accuracy",
            measured=worst,
            high=1e-3,
            unit="largest deviation from E Var(ψ̇ | t, x), relative",
            note=f"the constant is {gap:.4g}, and {float(rows[1][2]):.4g} is the conditional loss of the marginal field itself",
        )
    )


def _variances(config: Config, run: Run, x1: Any) -> None:
    """Signal-to-noise of the whole stochastic gradient, by path, σ_min and coupling."""
    settings: dict[str, tuple[Any, Any]] = {
        f"straight, σ_min = {sigma:g}": (flow.CondOT(sigma), None)
        for sigma in (0.5, config.sigma_min, 0.01, 0.0)
    }
    settings[f"straight, σ_min = {config.sigma_min:g}, exact OT"] = (
        flow.CondOT(config.sigma_min),
        flow.ExactOT(),
    )
    settings[f"straight, σ_min = {config.sigma_min:g}, Sinkhorn ε = 1"] = (
        flow.CondOT(config.sigma_min),
        flow.Sinkhorn(1.0),
    )
    settings["trigonometric"] = (flow.Trigonometric(), None)
    settings["variance preserving"] = (flow.VariancePreserving(), None)
    settings["variance exploding, σ_max = 5"] = (flow.VarianceExploding(0.01, 5.0), None)
    model, rows = network(config), []
    for name, (path, coupling) in settings.items():
        mean, variance = _gradient_moments(config, model, x1, path, coupling)
        rows.append([name, mean, variance, mean / variance, variance / mean * config.batch])
    heads = ["path and coupling", "‖mean gradient‖²", "variance", "SNR", "draws for SNR 1"]
    caption = (
        f"Gradient of the conditional loss over {config.redraws} batches of {config.batch} at one network; times uniform on "
        "the path's range, t = 1 included. The mean's own noise is taken out. Each row is the gradient of another field."
    )
    run.table("variances", Table(heads, rows, title="Noise of the learning signal", caption=caption))
    run.figure(
        "snr",
        _bars([row[0] for row in rows], [row[4] for row in rows]),
        title="Draws that a gradient needs",
        caption="Draws at which the gradient's squared length equals its variance, at a random network; fewer is better.",
    )


def _gradient_moments(config: Config, model: Any, x1: Any, path: Any, coupling: Any) -> tuple[float, float]:
    """‖E g‖², without the bias of its noise, and tr Cov(g)."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "moments"))
    gradients = []
    for _ in range(config.redraws):
        data = x1[torch.randint(len(x1), (config.batch,), generator=generator)]
        loss = flow.cfm_loss(model, data, path=path, coupling=coupling, generator=generator)
        gradients.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
        )
    stacked = torch.stack(gradients)
    variance = float(stacked.var(0).sum())
    return float(stacked.mean(0).square().sum()) - variance / config.redraws, variance


def _bars(names: list[str], values: list[float]) -> Any:
    figure, axes = new_figure(width=8.4, height=4.6)
    places = range(len(names))
    axes.barh(list(places), values, color="#0072B2", height=0.62)
    for place, value in zip(places, values):
        axes.text(value, place, f"  {value:.3g}", va="center")
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="draws for SNR 1", xlim=(0, 1.15 * max(values)))
    return figure
