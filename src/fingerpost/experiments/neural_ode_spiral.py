"""A planar vector field learnt from 100 noisy observations of one spiral, with three gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost._table import Table
from fingerpost.errors import ConfigError
from fingerpost.lab import Claim, Run, derive_seed, legend_outside, mean_interval, new_figure

torch = lazy_import("torch")
trainer = lazy_import("fingerpost.lab.trainer")
ode = lazy_import("fingerpost.ode")

GRADIENTS = ("tape", "checkpoint", "backsolve")
START, ELSEWHERE = (2.0, 0.0), (-1.2, 1.2)
SPECIFICATION = "specification of the ode experiments"


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of noise, weights and segments.
      seeds: Repetitions, each with noise, weights and segments of its own.
      observations: Times observed, evenly spaced.
      horizon: Last time observed.
      noise: Standard deviation of the noise on each coordinate of an observation.
      segment: Observations per training segment.
      batch_size: Segments per step.
      steps: Updates of Adam.
      rate: Learning rate at the start; it falls to zero along a cosine.
      width: Units of the hidden layer.
      rtol: Relative tolerance of the solver in training; atol is rtol / 100.
      device: Where to compute.
      dtype: Precision.
    """

    seed: int = 0
    seeds: int = 5
    observations: int = 100
    horizon: float = 4.0
    noise: float = 0.01
    segment: int = 10
    batch_size: int = 20
    steps: int = 3000
    rate: float = 2e-2
    width: int = 64
    rtol: float = 1e-4
    device: str = "cpu"
    dtype: str = "float32"


PRESETS = {"quick": Config(seeds=1, steps=500), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if not 2 <= config.segment <= config.observations:
        raise ConfigError(
            f"segment is {config.segment}; give 2 or more, and at most the {config.observations} observations"
        )
    if min(config.seeds, config.steps, config.batch_size, config.width) < 1:
        raise ConfigError("seeds, steps, batch_size and width must be at least 1")
    if not (config.rtol > 0 and config.horizon > 0 and config.rate > 0):
        raise ConfigError("rtol, horizon and rate must be above 0")


def true_field(t: Any, z: Any) -> Any:
    """ż = z³ A by components, A = [[−0.1, 2], [−2, −0.1]]: an inward spiral whose pace falls with the radius."""
    cube = z**3
    x, y = cube[..., 0], cube[..., 1]
    return torch.stack([-0.1 * x - 2 * y, 2 * x - 0.1 * y], -1)


def new_field(config: Config, seed: int) -> Any:
    """A tanh network that sees (z, z³), its weights drawn from `seed`; the cubes make steep fields learnable."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "weights"))
    nn = torch.nn

    class CubicFeatures(nn.Module):
        def forward(self, z: Any) -> Any:
            return torch.cat([z, z**3], -1)

    net = nn.Sequential(CubicFeatures(), nn.Linear(4, config.width), nn.Tanh(), nn.Linear(config.width, 2))
    for layer in (net[1], net[3]):
        nn.init.normal_(layer.weight, std=0.1, generator=generator)
        nn.init.zeros_(layer.bias)
    return net.to(device=config.device, dtype=getattr(torch, config.dtype))


def run(config: Config, run: Run) -> None:
    """Trains with the three gradients on the same segments, and compares fields, losses and evaluations."""
    results = {}
    cells = [(seed, mode) for seed in range(config.seeds) for mode in GRADIENTS]
    for seed, mode in run.progress(cells, "trainings"):
        stage = f"{mode}-seed{seed}"
        results[seed, mode] = run.once(
            stage, lambda seed=seed, mode=mode, stage=stage: _train(config, run, seed, mode, stage)
        )
    _show_losses(config, run, results)
    _show_portrait(config, run, results)
    _show_costs(config, run, results)
    _claims(config, run, results)


# Training.


def _observed(config: Config, seed: int, start: tuple[float, float] = START) -> tuple[Any, Any, Any]:
    """Times (T,), the true states there (T, 2) in float64, and noisy observations of them."""
    times = torch.linspace(0, config.horizon, config.observations, dtype=torch.float64)
    truth = ode.solve(true_field, torch.tensor(start, dtype=torch.float64), times, rtol=1e-10, atol=1e-12).ys
    generator = torch.Generator().manual_seed(derive_seed(config.seed + seed, "noise"))
    noise = torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    return times, truth, truth + config.noise * noise


def _train(config: Config, run: Run, seed: int, mode: str, stage: str) -> dict[str, Any]:
    times, _, seen = _observed(config, seed)
    seen = seen.to(device=config.device, dtype=getattr(torch, config.dtype))
    net = new_field(config, config.seed + seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.rate)
    places = config.observations - config.segment + 1

    def batches(step: int) -> Any:
        generator = torch.Generator().manual_seed(derive_seed(config.seed + seed, "segments", step))
        first = torch.randint(places, (config.batch_size,), generator=generator)
        return torch.stack([seen[i : i + config.segment] for i in first.tolist()], 1)

    def step(net: Any, segments: Any) -> Mapping[str, Any]:
        solution = ode.solve(
            lambda t, z: net(z),
            segments[0],
            times[: config.segment],
            rtol=config.rtol,
            atol=config.rtol / 100,
            gradient=mode,
            params=list(net.parameters()),
        )
        loss = (solution.ys - segments).square().sum(-1).mean()
        loss.backward()
        stats = solution.stats
        return {
            "loss": loss,
            "nfe": stats.nfe,
            "backward_nfe": stats.backward_nfe,
            "accepted": stats.accepted,
        }

    result = trainer.train(
        net, optimizer, step, batches, steps=config.steps, seed=config.seed + seed, run=run, stage=stage,
        scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps),
        split=False,  # the first dimension of a batch is time
    )  # fmt: skip
    history = {
        key: [row[key] for row in result.history] for key in ("loss", "nfe", "backward_nfe", "accepted")
    }
    return {**history, **_judged(config, net), "stopped": result.stopped}


def _judged(config: Config, net: Any) -> dict[str, Any]:
    """The learnt paths from both starts with their distance to the true ones, and the field on a grid."""
    wide, found = net.double(), {}
    times = torch.linspace(0, config.horizon, 4 * config.observations, dtype=torch.float64)
    with torch.no_grad():
        for name, start in (("seen", START), ("unseen", ELSEWHERE)):
            z0 = torch.tensor(start, dtype=torch.float64)
            truth = ode.solve(true_field, z0, times, rtol=1e-9, atol=1e-11).ys
            learnt = ode.solve(
                lambda t, z: wide(z.to(config.device)).cpu(), z0, times, on_failure="partial"
            ).ys
            found[name] = learnt.tolist()
            found[f"{name}_rms"] = float((learnt - truth).square().sum(-1).mean().sqrt())
        found["field"] = wide(_grid().reshape(-1, 2).to(config.device)).cpu().tolist()
    return found


def _grid(points: int = 21, half: float = 2.2) -> Any:
    side = torch.linspace(-half, half, points, dtype=torch.float64)
    return torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)


# What is shown.


def _smooth(values: list[float], window: int = 10) -> list[float]:
    """Geometric mean over `window` neighbours."""
    logs = [math.log(max(v, 1e-300)) for v in values]
    return [
        math.exp(sum(logs[max(0, i - window) : i + 1]) / (i + 1 - max(0, i - window)))
        for i in range(len(logs))
    ]


def _show_losses(config: Config, run: Run, results: Mapping[Any, Any]) -> None:
    figure, axis = new_figure(width=7.4, height=4.4)
    for mode in GRADIENTS:
        axis.semilogy(range(1, config.steps + 1), _smooth(results[0, mode]["loss"]), label=mode)
    floor = 2 * 2 * config.noise**2 * (config.segment - 1) / config.segment
    axis.axhline(floor, color="0.45", linewidth=1.2, linestyle=":", label="noise of both ends")
    axis.set(xlabel="update", ylabel="mean squared distance")
    legend_outside(figure, axis, columns=4)
    caption = (
        f"Segments of {config.segment} observations, each solved from its own first, noisy observation; the true field "
        "would leave about the dotted line. Geometric mean over the last ten updates, first seed."
    )
    run.figure("losses", figure, title="Loss with the three gradients", caption=caption)


def _show_portrait(config: Config, run: Run, results: Mapping[Any, Any]) -> None:
    """True and learnt field and paths on shared scales, and the relative error of the field."""
    result = results[0, "checkpoint"]
    grid = _grid()
    true = true_field(None, grid)
    learnt = torch.tensor(result["field"], dtype=torch.float64).view_as(grid)
    speed = float(true.norm(dim=-1).max())
    figure, axes = new_figure(1, 2, width=11.0, height=5.2, sharex=True, sharey=True)
    seen = _observed(config, 0)[2]
    times = torch.linspace(0, config.horizon, 4 * config.observations, dtype=torch.float64)
    for axis, field, title in ((axes[0], true, "True field"), (axes[1], learnt, "Learnt field")):
        strength = field.norm(dim=-1).clamp_min(1e-12)
        arrows = field / strength[..., None]
        image = axis.quiver(
            *grid.unbind(-1), *arrows.unbind(-1), strength.sqrt(), cmap="viridis", clim=(0, speed**0.5),
            pivot="mid", scale=26, width=0.004,
        )  # fmt: skip
        for name, start, colour in (("seen", START, "#D55E00"), ("unseen", ELSEWHERE, "#CC79A7")):
            z0 = torch.tensor(start, dtype=torch.float64)
            path = ode.solve(true_field, z0, times).ys if field is true else torch.tensor(result[name])
            label = "path from the start observed" if name == "seen" else "path from elsewhere"
            axis.plot(*path.T, color=colour, linestyle="-", label=label, linewidth=2.2)
        axis.plot(*seen.T, linestyle="", marker="o", markersize=3.5, color="black", label="observations")
        axis.set(title=title, xlabel="z₁", aspect="equal", xlim=(-2.3, 2.3), ylim=(-2.3, 2.3))
    axes[0].set(ylabel="z₂")
    bar = figure.colorbar(image, ax=list(axes), shrink=0.85)
    bar.set_label("√speed, both panels")
    legend_outside(figure, axes[0], columns=3)
    caption = (
        "Gradient “checkpoint”, first seed. Only the observations of the orange path were used in training; away "
        "from it the field is a guess."
    )
    run.figure("portrait", figure, title="True and learnt field", caption=caption)


def _show_costs(config: Config, run: Run, results: Mapping[Any, Any]) -> None:
    rows = []
    for mode in GRADIENTS:
        cells = [results[seed, mode] for seed in range(config.seeds)]
        means = [
            sum(sum(c[key]) for c in cells) / sum(len(c[key]) for c in cells)
            for key in ("accepted", "nfe", "backward_nfe")
        ]
        scores = [sum(c[key] for c in cells) / len(cells) for key in ("seen_rms", "unseen_rms")]
        rows.append([mode, *means, *scores])
    caption = (
        f"Means over {config.steps} updates and {config.seeds} seed(s). A backward evaluation is an evaluation of the field "
        "with its vector-Jacobian product; the tape replays nothing. Distances are root mean squares over the whole "
        f"path, to t = {config.horizon:g}; the radius at the start is 2."
    )
    heads = [
        "gradient",
        "steps",
        "evaluations",
        "backward evaluations",
        "distance, path seen",
        "distance, unseen",
    ]
    run.table("costs", Table(heads, rows, title="Evaluations and distances", caption=caption))


def _claims(config: Config, run: Run, results: Mapping[Any, Any]) -> None:
    for mode in GRADIENTS:
        values = [results[seed, mode]["seen_rms"] for seed in range(config.seeds)]
        interval = mean_interval(values).interval if len(values) > 1 else None
        run.claim(
            Claim(
                name=f"path-{mode}",
                statement=f"With gradient “{mode}” the learnt field retraces the whole spiral from its start.",
                source=SPECIFICATION,
                expected="≤ 0.2",
                measured=sum(values) / len(values),
                high=0.2,
                interval=interval,
                unit="rms distance",
                note=f"{len(values)} seed(s) of noise, weights and segments; radius 2 at the start, noise {config.noise:g}",
            )
        )
    ends = {mode: [_tail(results[seed, mode]["loss"]) for seed in range(config.seeds)] for mode in GRADIENTS}
    gap = max(
        abs(ends[mode][seed] / ends["tape"][seed] - 1) for mode in GRADIENTS for seed in range(config.seeds)
    )
    run.claim(
        Claim(
            name="same-training",
            statement="The three gradients train alike: the losses at the end agree.",
            source=SPECIFICATION,
            expected="≤ 0.1",
            measured=gap,
            high=0.1,
            unit="relative",
            note="largest gap to the tape over seeds, mean of the last tenth of updates; rounding makes them part slowly",
        )
    )
    counts = results[0, "checkpoint"]
    share = sum(counts["backward_nfe"]) / sum(counts["nfe"])
    run.claim(
        Claim(
            name="replay-cost",
            statement="Checkpoint evaluates the field in its backward pass at most as often as in its forward pass.",
            source=SPECIFICATION,
            expected="≤ 1",
            measured=share,
            high=1.0,
            unit="backward per forward evaluation",
            note="first seed, summed over training; rejected steps are not replayed",
        )
    )


def _tail(losses: list[float]) -> float:
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)
