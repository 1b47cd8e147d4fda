"""Training of real networks beside what their tangent kernel predicts, by width, output scale and learning rate."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _ntk_dynamics_results as results
from fingerpost.experiments import _tangent_training as tangent
from fingerpost.lab import Run, derive_seed

torch = lazy_import("torch")
spectral = lazy_import("fingerpost.spectral")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of weights and labels.
      seeds: Networks of each kind.
      widths: Units of a hidden layer.
      scales: Output scales α.
      depth: Hidden layers.
      activation: relu or tanh.
      points: Training points on the circle; as many test points lie between them.
      steps: Steps of gradient descent at η λ_max = share; other rates train for the same η t.
      share: η λ_max of the comparison by width and scale; 2 is the stable limit.
      shares: η λ_max of the comparison by learning rate.
      beyond: η λ_max above the limit.
      beyond_steps: Steps there.
      rate_width: Width of the comparison by learning rate.
      device: Where to compute.
      dtype: Precision; float64.
    """

    seed: int = 0
    seeds: int = 5
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    scales: tuple[float, ...] = (1.0, 10.0, 100.0)
    depth: int = 2
    activation: str = "relu"
    points: int = 24
    steps: int = 256
    share: float = 0.5
    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    beyond: tuple[float, ...] = (2.2, 2.5, 3.0, 3.5)
    beyond_steps: int = 300
    rate_width: int = 512
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {
    "quick": Config(
        seeds=3, widths=(64, 256, 1024), scales=(1.0, 10.0), steps=128, shares=(0.1, 0.25, 0.5, 1.0, 1.5),
        beyond=(2.5, 3.0), beyond_steps=150, rate_width=256,
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64" or config.device != "cpu":
        raise ConfigError(
            f"dtype {config.dtype} on {config.device}; predictions are compared in float64 on the cpu"
        )
    if (
        min(config.seeds, config.depth, config.steps, config.beyond_steps, *config.widths, config.rate_width)
        < 1
    ):
        raise ConfigError("seeds, widths, depth and steps must be at least 1")
    if config.points < 8:
        raise ConfigError(f"points is {config.points}; the labels have frequencies up to 3, give at least 8")
    if not all(0 < share < 2 for share in (config.share, *config.shares)):
        raise ConfigError("share and shares are η λ_max below the stable limit: numbers in (0, 2)")
    if not all(share > 2 for share in config.beyond):
        raise ConfigError("beyond is η λ_max above the stable limit: numbers above 2")
    if config.beyond and config.beyond_steps * math.log(max(config.beyond) - 1) > 340:
        raise ConfigError("beyond_steps is so long that the linear theory overflows; give fewer")
    if min(config.scales) <= 0:
        raise ConfigError("scales are output scales α, above 0")


def run(config: Config, run: Run) -> None:
    """Trains every network, compares, and states what held."""
    cells = [
        (width, scale, centred, seed)
        for width in config.widths
        for scale in config.scales
        for centred in (False, True)
        for seed in range(config.seeds)
    ]
    errors: results.Errors = {}
    for width, scale, centred, seed in run.progress(cells, "widths and scales"):
        name = f"width{width}-alpha{scale:g}-{'centred' if centred else 'plain'}-seed{seed}"
        found = run.once(
            name, lambda w=width, a=scale, c=centred, s=seed, n=name: _compare(config, run, w, a, c, s, n)
        )
        errors.setdefault((width, scale, centred), []).append(found)
    rates: results.Rates = {}
    jobs = [(share, seed) for share in (*config.shares, *config.beyond) for seed in range(config.seeds)]
    for share, seed in run.progress(jobs, "learning rates"):
        name = f"rate{share:g}-seed{seed}"
        task = _stable if share < 2 else _beyond
        found = run.once(name, lambda f=task, r=share, s=seed, n=name: f(config, run, r, s, n))
        rates.setdefault(share, []).append(found)
    results.show(config, run, errors, rates)


def labels(points: Any) -> Any:
    """Three sines of one height and other phases, of mean square 1, shape (n,)."""
    return sum(math.sqrt(2 / 3) * torch.sin(2 * math.pi * k * points[:, 0] + k) for k in (1, 2, 3))


def begin(config: Config, width: int, scale: float, seed: int) -> tangent.Start:
    """A network on the circle: [cos 2πv, sin 2πv] goes in."""
    encoding = spectral.FourierFeatures.basic(1)
    weights = derive_seed(config.seed, "network", seed)
    return tangent.start(width, config.depth, scale, config.points, encoding, weights, config.activation)


def _compare(
    config: Config, run: Run, width: int, scale: float, centred: bool, seed: int, name: str
) -> dict[str, Any]:
    """Errors of three predictions at each time, over the root mean square of what is to be learned, y − f₀."""
    net = begin(config, width, scale, seed)
    y = labels(net.x) + (net.f0 if centred else 0)
    times, rate = tangent.log_spaced(config.steps), net.rate(config.share)
    real, _ = tangent.descend(net, y, rate, times, net.x_test, run, name)
    size = float(tangent.rms(y - net.f0))
    forms = {
        "corrected": net.predicted(y, times, rate),
        "without f0": net.predicted(y, times, rate, f0=False),
        "printed": net.predicted(y, times, rate, f0=False, time="flow"),
    }
    found: dict[str, Any] = {key: (tangent.rms(real - form) / size).tolist() for key, form in forms.items()}
    found |= {"times": times, "size": size, "start": float(tangent.rms(net.f0))}
    if seed == 0:
        found["curves"] = {"real": real.tolist(), **{key: form.tolist() for key, form in forms.items()}}
        found["points"] = net.x_test[:, 0].tolist()
    return found


def _stable(config: Config, run: Run, share: float, seed: int, name: str) -> dict[str, Any]:
    """Errors of steps and flow, largest over the times, at one learning rate."""
    net = begin(config, config.rate_width, 1.0, seed)
    y = labels(net.x)
    steps = max(2, round(config.steps * config.share / share))
    times, rate = tangent.log_spaced(steps), net.rate(share)
    real, _ = tangent.descend(net, y, rate, times, net.x_test, run, name)
    size = float(tangent.rms(y - net.f0))
    return {
        time: float((tangent.rms(real - net.predicted(y, times, rate, time=time)) / size).max())
        for time in ("steps", "flow")
    }


def _beyond(config: Config, run: Run, share: float, seed: int, name: str) -> dict[str, Any]:
    """Losses of the real network and of the linear theory above the stable limit, and η λ_max afterwards."""
    net = begin(config, config.rate_width, 1.0, seed)
    y, rate = labels(net.x), net.rate(share)
    times = sorted({*range(min(25, config.beyond_steps)), *tangent.log_spaced(config.beyond_steps)})
    real, _ = tangent.descend(net, y, rate, times, net.x, run, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it explodes is what is measured
        linear = spectral.predict(net.K, y, torch.tensor(times), rate, net.f0, loss="mse")
    losses = (real - y).square().mean(1)
    after = None
    if bool(torch.isfinite(losses).all()):
        after = share * net.limit / spectral.max_learning_rate(spectral.empirical_ntk(net.net, net.x), "mse")
    return {
        "times": times,
        "real": [loss if math.isfinite(loss) else None for loss in losses.tolist()],
        "linear": (linear - y).square().mean(1).tolist(),
        "after": after,
    }
