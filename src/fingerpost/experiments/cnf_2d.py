"""Continuous normalising flows fitted to densities of the plane by maximum likelihood, held to the exact densities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError, did_you_mean
from fingerpost.experiments import _densities as densities
from fingerpost.lab import Claim, Run, derive_seed, legend_outside, mean_interval, new_figure

torch = lazy_import("torch")
trainer = lazy_import("fingerpost.lab.trainer")
ode = lazy_import("fingerpost.ode")
cnf = lazy_import("fingerpost.ode.cnf")

SPECIFICATION = "specification of the ode experiments"
LIKELIHOOD = "log p₁(z₁) = log μ(z₀) − ∫ tr(∂f/∂z) dt"
HALF = {"eight-gaussians": 7.0, "soft-moons": 6.0, "checkerboard": 5.0, "two-spirals": 5.0, "moons": 6.0}
CELLS = 100


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of weights and samples.
      densities: Names of the densities.
      steps: Updates of Adam.
      batch_size: Fresh samples per update.
      rate: Learning rate at the start; it falls to zero along a cosine.
      width: Units of each of the three hidden layers.
      rtol: Relative tolerance of the solver; atol is rtol / 10.
      gradient: The solver's gradient: tape, checkpoint or backsolve.
      held_out: Points on which likelihoods are judged.
      device: Where to compute.
      dtype: Precision.
    """

    seed: int = 0
    densities: tuple[str, ...] = ("eight-gaussians", "soft-moons", "checkerboard", "two-spirals")
    steps: int = 2500
    batch_size: int = 256
    rate: float = 2e-2
    width: int = 64
    rtol: float = 1e-4
    gradient: str = "tape"
    held_out: int = 10_000
    device: str = "cpu"
    dtype: str = "float32"


PRESETS = {
    "quick": Config(densities=("eight-gaussians", "soft-moons"), steps=400, batch_size=128, held_out=2000),
    "full": Config(),
}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    for name in config.densities:
        if name not in HALF:
            hint = did_you_mean(name, HALF)
            raise ConfigError(f"densities has {name!r}; it is one of {', '.join(HALF)}{hint}")
    if not config.densities or min(config.steps, config.batch_size, config.width) < 1:
        raise ConfigError("give at least one of densities, and steps, batch_size and width of at least 1")
    if config.held_out < 100:
        raise ConfigError(f"held_out is {config.held_out}; give at least 100 points")
    if not (config.rtol > 0 and config.rate > 0):
        raise ConfigError("rtol and rate must be above 0")
    if config.gradient not in ("tape", "checkpoint", "backsolve"):
        raise ConfigError(f"gradient is {config.gradient!r}; it is tape, checkpoint or backsolve")


def run(config: Config, run: Run) -> None:
    """Fits each density, judges the likelihood on held-out points, and draws densities and fields."""
    results = {}
    for name in run.progress(config.densities, "densities"):
        flow = Flow(config, name)
        results[name] = run.once(f"fit-{name}", lambda flow=flow: _fit_and_judge(flow, run))
        flow.load(results[name]["weights"])
        _show_density(flow, run, results[name])
    _show_training(config, run, results)
    _show_scores(config, run, results)
    _claims(run, results)


# The flow.


class Flow:
    """A flow for one density: a tanh network with time as an input, on data divided by their standard deviation."""

    def __init__(self, config: Config, name: str) -> None:
        self.config, self.name, self.calls = config, name, 0
        generator = torch.Generator().manual_seed(derive_seed(config.seed, "weights", name))
        self.kind = {"device": config.device, "dtype": getattr(torch, config.dtype)}
        nn, layers, size = torch.nn, [], 3
        for width in (config.width, config.width, config.width, 2):
            layer = nn.Linear(size, width)
            nn.init.xavier_normal_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
            layers, size = [*layers, layer, nn.Tanh()], width
        self.net = nn.Sequential(*layers[:-1]).to(**self.kind)
        self.scale = float(self.samples(20_000, "scale").std())
        base = torch.distributions.Independent(
            torch.distributions.Normal(torch.zeros(2, **self.kind), 1.0), 1
        )
        options = {"rtol": config.rtol, "atol": config.rtol / 10, "gradient": config.gradient}
        self.model = cnf.CNF(self.field, base, params=list(self.net.parameters()), **options)

    def samples(self, n: int, *purpose: Any) -> Any:
        """Points of the data, shape (n, 2), drawn from (seed, density, purpose)."""
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, self.name, *purpose))
        return densities.sample_density(self.name, n, generator).to(**self.kind)

    def field(self, t: Any, z: Any) -> Any:
        """f(t, z) in scaled coordinates, (B, 2)."""
        self.calls += 1
        return self.net(torch.cat([z, t.expand(len(z), 1)], 1))

    def log_prob(self, x: Any) -> Any:
        """Log density at x in data coordinates, shape (n,)."""
        return self.model.log_prob(x / self.scale) - 2 * math.log(self.scale)

    def load(self, weights: Mapping[str, Any]) -> None:
        """Puts stored weights into the network."""
        self.net.load_state_dict({k: torch.tensor(v, **self.kind) for k, v in weights.items()})


def _fit_and_judge(flow: Flow, run: Run) -> dict[str, Any]:
    config = flow.config
    optimizer = torch.optim.Adam(flow.net.parameters(), lr=config.rate)

    def step(net: Any, x: Any) -> Mapping[str, Any]:
        flow.calls = 0
        loss = -flow.log_prob(x).mean()
        evaluations = flow.calls
        loss.backward()
        return {"loss": loss, "nfe": evaluations}

    result = trainer.train(
        flow.net, optimizer, step, lambda k: flow.samples(config.batch_size, "train", k), steps=config.steps,
        seed=config.seed, run=run, stage=f"fit-{flow.name}", clip_norm=10.0,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps),
    )  # fmt: skip
    history = {key: [row[key] for row in result.history] for key in ("loss", "nfe")}
    weights = {name: value.tolist() for name, value in flow.net.state_dict().items()}
    with torch.no_grad():
        judged = _judged(flow)
    return {**history, **judged, "stopped": result.stopped, "weights": weights}


def _judged(flow: Flow) -> dict[str, Any]:
    """Held-out likelihoods: the model's, the exact one, a fitted Gaussian's; the mass; sampling against scoring."""
    x = flow.samples(flow.config.held_out, "held out")
    exact = densities.log_density(flow.name, x.double().cpu())
    model = flow.log_prob(x).double().cpu()
    fitted = flow.samples(20_000, "scale").double().cpu()
    normal = torch.distributions.MultivariateNormal(fitted.mean(0), fitted.T.cov())
    gaps = (exact - model).tolist(), (exact - normal.log_prob(x.double().cpu())).tolist()
    z, scored = flow.model.sample_with_log_prob((1000,))
    return {
        "nll": -float(model.mean()),
        "exact_nll": -float(exact.mean()),
        "gaussian_nll": -float(normal.log_prob(x.double().cpu()).mean()),
        "gap": list(mean_interval(gaps[0])),
        "gaussian_gap": list(mean_interval(gaps[1])),
        "mass": float(_density_on_grid(flow).sum() * (2 * HALF[flow.name] / CELLS) ** 2),
        "round_trip": float((flow.model.log_prob(z) - scored).abs().median()),
    }


def _grid(half: float) -> Any:
    side = (torch.arange(CELLS, dtype=torch.float64) + 0.5) * (2 * half / CELLS) - half
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)


def _density_on_grid(flow: Flow) -> Any:
    """The model's density at the middle of CELLS² cells, rows from below."""
    grid = _grid(HALF[flow.name]).to(**flow.kind)
    return flow.log_prob(grid).exp().double().cpu().view(CELLS, CELLS)


# What is shown.


def _show_density(flow: Flow, run: Run, result: Mapping[str, Any]) -> None:
    """Data, samples, exact and fitted density on one colour scale; below, the field and points on their way."""
    half = HALF[flow.name]
    figure, axes = new_figure(2, 4, width=13.0, height=7.2, sharex=True, sharey=True)
    with torch.no_grad():
        exact = densities.log_density(flow.name, _grid(half)).exp().view(CELLS, CELLS)
        drawn = flow.model.sample((20_000,)) * flow.scale
        panels = {
            "Data": _histogram(flow.samples(20_000, "picture"), half),
            "Samples of the flow": _histogram(drawn, half),
            "Exact density": exact,
            "Density of the flow": _density_on_grid(flow),
        }
    top = float(exact.flatten().quantile(0.995))
    extent = (-half, half, -half, half)
    for axis, (title, values) in zip(axes[0], panels.items()):
        image = axis.imshow(values.numpy(), origin="lower", extent=extent, cmap="magma", vmin=0, vmax=top)
        axis.set(title=title)
    figure.colorbar(image, ax=list(axes[0]), shrink=0.9, pad=0.01).set_label("density (per unit area)")
    _show_field(flow, figure, axes[1], half)
    for axis in axes.flat:
        axis.grid(False)
        axis.set(aspect="equal", xlim=(-half, half), ylim=(-half, half))
    for axis in axes[:, 0]:
        axis.set_ylabel("x₂")
    for axis in axes[1]:
        axis.set_xlabel("x₁")
    gap = result["gap"]
    caption = (
        f"Top: 20,000 points each in cells of {2 * half / 50:g} and densities on cells of {2 * half / CELLS:g}, one colour "
        f"scale, cut at the exact density's 99.5th percentile. Bottom: the field (arrows of one length, speed by "
        f"colour) and 600 points on their way from the base, t = 0, to the data, t = 1. Mean of log p − log q over "
        f"held-out data: {gap[0]:.3f} [{gap[1]:.3f}, {gap[2]:.3f}] nats."
    )
    run.figure(flow.name, figure, title=f"A flow for {flow.name}", caption=caption)


def _histogram(x: Any, half: float, cells: int = 50) -> Any:
    """Counts per cell as a density."""
    x = x.double().cpu()
    side = torch.linspace(-half, half, cells + 1, dtype=torch.float64)
    counts = torch.histogramdd(x, [side, side]).hist.T
    return counts / (len(x) * (2 * half / cells) ** 2)


def _show_field(flow: Flow, figure: Any, axes: Any, half: float, points: int = 17) -> None:
    times = [0.0, 1 / 3, 2 / 3, 1.0]
    side = torch.linspace(-half, half, points)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2).to(**flow.kind)
    with torch.no_grad():
        z = flow.model.base.sample((600,))
        paths = ode.solve(flow.field, z, times, rtol=1e-4, atol=1e-5).ys * flow.scale
        fields = [flow.field(torch.tensor(t, **flow.kind), grid / flow.scale) * flow.scale for t in times]
    speeds = [field.norm(dim=1) for field in fields]
    top = float(torch.cat(speeds).quantile(0.98))
    for axis, t, field, speed, moved in zip(axes, times, fields, speeds, paths):
        arrows = field / speed.clamp_min(1e-12)[:, None]
        image = axis.quiver(
            *grid.T.cpu(), *arrows.T.cpu(), speed.cpu(), cmap="viridis", clim=(0, top), pivot="mid", scale=22,
            width=0.006,
        )  # fmt: skip
        axis.plot(*moved.T.cpu(), linestyle="", marker="o", markersize=2.2, color="#D55E00", rasterized=True)
        axis.set(title=f"t = {t:.2g}")
    figure.colorbar(image, ax=list(axes), shrink=0.9, pad=0.01).set_label("speed (length per unit of t)")


def _show_training(config: Config, run: Run, results: Mapping[str, Any]) -> None:
    figure, (left, right) = new_figure(1, 2, width=10.4, height=4.6)
    for name, result in results.items():
        updates = range(1, len(result["loss"]) + 1)
        (line,) = left.plot(updates, _running_mean(result["loss"]), label=name)
        left.axhline(result["exact_nll"], color=line.get_color(), linewidth=1, linestyle=":", marker="")
        right.plot(updates, _running_mean(result["nfe"]))
    left.set(xlabel="update", ylabel="−log p (nats)", title="Training loss")
    right.set(xlabel="update", ylabel="evaluations of the field", title="Cost of one likelihood")
    legend_outside(figure, left, columns=4)
    caption = (
        f"Means over the last 20 updates of {config.batch_size} fresh samples; dotted: the exact density's own value. "
        f"The more the flow bends, the more evaluations the solver needs at rtol {config.rtol:g}."
    )
    run.figure("training", figure, title="Training", caption=caption)


def _running_mean(values: list[float], window: int = 20) -> list[float]:
    return [
        sum(values[max(0, i + 1 - window) : i + 1]) / (i + 1 - max(0, i + 1 - window))
        for i in range(len(values))
    ]


def _show_scores(config: Config, run: Run, results: Mapping[str, Any]) -> None:
    rows = [
        [name, r["exact_nll"], r["nll"], r["gaussian_nll"], *r["gap"], r["mass"], r["round_trip"]]
        for name, r in results.items()
    ]
    caption = (
        f"Nats per point on {config.held_out} held-out points. KL is the mean of log p − log q there, with its t interval; "
        f"the mass is the integral of q over the window drawn; scoring again is the median gap between the "
        f"log density that comes with a sample and that of the sample, at rtol {config.rtol:g}."
    )
    heads = ["density", "exact", "flow", "Gaussian", "KL of the flow", "low", "high", "mass", "scoring again"]
    run.table("scores", Table(heads, rows, title="Likelihood on held-out points", caption=caption))


def _claims(run: Run, results: Mapping[str, Any]) -> None:
    for name, result in results.items():
        whole = result["gaussian_gap"][0]
        mean, low, high = (1 - gap / whole for gap in result["gap"])
        run.claim(
            Claim(
                name=f"likelihood-{name}",
                statement=f"On {name} the flow closes four fifths of a Gaussian's distance to the exact density.",
                source=SPECIFICATION,
                expected="≥ 0.8",
                measured=mean,
                low=0.8,
                interval=(high, low),
                unit="share of the KL",
                note=f"KL {result['gap'][0]:.3f} of {whole:.3f} nats; 95 % t interval over held-out points",
                decided_by="interval",
            )
        )
    worst = max((abs(r["mass"] - 1), name) for name, r in results.items())
    run.claim(
        Claim("mass", "The fitted densities integrate to 1.", LIKELIHOOD, "≤ 0.03", worst[0], high=0.03,
              unit="|∫ q dx − 1|", note=f"midpoint rule over the window drawn, worst: {worst[1]}")
    )  # fmt: skip
    worst = max((r["round_trip"], name) for name, r in results.items())
    run.claim(
        Claim("round-trip", "The log density that comes with a sample is that of scoring the sample.", LIKELIHOOD,
              "≤ 0.01", worst[0], high=0.01, unit="nats", note=f"median over 1000 samples, worst: {worst[1]}")
    )  # fmt: skip
