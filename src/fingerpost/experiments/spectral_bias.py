"""How fast each eigenmode of the error of a really trained network decays, and which frequencies those modes are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _spectral_bias_results as results
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
      powers: p of the encoding a_j = 1/j^p; inf is one frequency alone, 0 a flat spectrum.
      scale: Output scale α; labels are moved by f₀, so that every α has the same to learn.
      depth: Hidden layers.
      activation: relu or tanh.
      points: Training points on the circle.
      steps: Steps of gradient descent.
      share: η λ_max; 2 is the stable limit.
      folds: How many e-folds of its error a mode's rate is fitted over.
      least: Modes whose error should lose fewer e-folds than this in all steps are left out.
      device: Where to compute.
      dtype: Precision; float64.
    """

    seed: int = 0
    seeds: int = 5
    widths: tuple[int, ...] = (64, 256, 1024, 2048)
    powers: tuple[float, ...] = (math.inf, 1.0, 0.0)
    scale: float = 10.0
    depth: int = 2
    activation: str = "relu"
    points: int = 32
    steps: int = 512
    share: float = 0.5
    folds: float = 1.0
    least: float = 0.25
    device: str = "cpu"
    dtype: str = "float64"


PRESETS = {"quick": Config(seeds=3, widths=(64, 256, 1024), steps=192), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.dtype != "float64" or config.device != "cpu":
        raise ConfigError(
            f"dtype {config.dtype} on {config.device}; rates are measured in float64 on the cpu"
        )
    if min(config.seeds, config.depth, config.steps, *config.widths) < 1:
        raise ConfigError("seeds, widths, depth and steps must be at least 1")
    if config.points < 8:
        raise ConfigError(f"points is {config.points}; give at least 8, for modes to compare")
    if not 0 < config.share < 1:
        raise ConfigError("share is η λ_max; give a number in (0, 1), where no mode changes its sign")
    if not 0 < config.least <= config.folds:
        raise ConfigError("least and folds are e-folds: 0 < least ≤ folds")
    if not config.scale > 0 or any(math.isnan(p) for p in config.powers):
        raise ConfigError("scale must be above 0, and powers numbers or inf")


def run(config: Config, run: Run) -> None:
    """Trains every network, measures its modes, and states what held."""
    found: results.Found = {}
    cells = [
        (p, width, seed) for p in config.powers for width in config.widths for seed in range(config.seeds)
    ]
    for p, width, seed in run.progress(cells, "trainings"):
        name = f"p{p:g}-width{width}-seed{seed}"
        result = run.once(name, lambda p=p, w=width, s=seed, n=name: _measure(config, run, p, w, s, n))
        found.setdefault((p, width), []).append(result)
    results.show(config, run, found)


def encoding(config: Config, p: float) -> Any:
    """Frequencies 1 … n/2 with weights 1/j^p, divided by their norm: p does not change the learning rate."""
    return spectral.FourierFeatures.power(p, config.points)


def _measure(config: Config, run: Run, p: float, width: int, seed: int, name: str) -> dict[str, Any]:
    """Decay of the error in the eigenbasis of the kernel at the start, and in Fourier's."""
    weights = derive_seed(config.seed, "network", seed)
    net = tangent.start(
        width, config.depth, config.scale, config.points, encoding(config, p), weights, config.activation
    )
    rate = net.rate(config.share)
    found = spectral.modes(net.K, learning_rate=rate, loss="mse")
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "signs", seed))
    signs = torch.randint(2, (config.points,), generator=generator).double() * 2 - 1
    y = net.f0 + found.vectors @ signs  # every mode has the same to learn
    times = times_of(config)
    real, _ = tangent.descend(net, y, rate, times, net.x, run, name)
    errors = (real - y) @ found.vectors
    predicted = found.rates.tolist()
    return {
        "predicted": predicted,
        "measured": [
            measured_rate(errors[:, k].abs(), times, predicted[k], config) for k in range(config.points)
        ],
        "eigenvalues": (found.values / found.values[0]).tolist(),
        "frequencies": mean_frequency(found.vectors).tolist(),
        "left": left_at_half(real - y),
    }


def times_of(config: Config) -> list[int]:
    """Each of the first steps, then spaced by a twelfth."""
    times, t = set(range(min(33, config.steps + 1))), 32.0
    while t < config.steps:
        times.add(int(t))
        t *= 13 / 12
    return sorted({*times, config.steps})


def measured_rate(errors: Any, times: list[int], predicted: float, config: Config) -> float | None:
    """−d log |error| / dt by least squares through the start, over `folds` predicted e-folds; None if too slow."""
    if predicted * config.steps < config.least:
        return None
    end = max(config.folds / predicted, 1.0)
    t = torch.tensor([float(time) for time in times], dtype=torch.float64)
    kept = t <= max(end, float(t[1]))
    t, logs = t[kept], (errors[kept] / errors[0]).log()
    return float(-(t * logs).sum() / (t * t).sum())


def mean_frequency(vectors: Any) -> Any:
    """Cycles per circle of each column, weighted by its power."""
    power = torch.fft.rfft(vectors, dim=0).abs().square()
    power[1:-1] *= 2  # two of each frequency but the first and, at even n, the last
    if len(vectors) % 2:
        power[-1] *= 2
    j = torch.arange(len(power), dtype=torch.float64)[:, None]
    return (j * power).sum(0) / power.sum(0)


def left_at_half(errors: Any) -> list[float]:
    """Share of the error left in each frequency 1 … n/2, when half of it is left in the median frequency."""
    size = torch.fft.rfft(errors, dim=1).abs()[:, 1:]
    left = size / size[0]
    median = left.median(1).values
    below = (median <= 0.5).nonzero()
    return left[int(below[0]) if len(below) else -1].tolist()
