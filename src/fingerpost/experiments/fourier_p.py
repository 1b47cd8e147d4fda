"""The p sweep of one-dimensional Fourier features: which p is best, for which signal and at which time of training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _fourier_p_nets as nets
from fingerpost.experiments import _fourier_p_results as results
from fingerpost.experiments import _fourier_p_sweep as exact
from fingerpost.lab import Run

torch = lazy_import("torch")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset. Sizes, time and signals are those of Tancik et al. 2020.

    Args:
      seed: Seed of signals and weights.
      points: Training points on the circle, n; the encoding has n/2 frequencies.
      between: Fine grid points from one training point to the next; all but the first are test points.
      band: Signals have frequencies below this; above n/2 they cannot be learnt from n points.
      signals: Signals of each exponent.
      alphas: Exponents of the signals' amplitudes.
      powers: Exponents p of the encoding; inf has one frequency.
      width: Units of a hidden layer, of which the kernel is taken.
      depth: Hidden layers.
      weight_std: Standard deviation of the weights, times the root of the fan-in.
      bias_std: Standard deviation of the biases, which are trained.
      time: ηt of the paper: 50,000 steps at 1e-5, of half the sum of squares, for width 1024.
      late: The later time, over the paper's.
      trained_alphas: Signals for which real networks are trained.
      trained: Their exponents p.
      net_width: Units of their hidden layers; they train for as much longer as they are narrower.
      share: Their η λ_max.
      device: Where to compute.
      dtype: Precision of the real networks; kernels are float64.
    """

    seed: int = 0
    points: int = 32
    between: int = 8
    band: int = 64
    signals: int = 1024
    alphas: tuple[float, ...] = (0.5, 1.0, 2.0)
    powers: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, math.inf)
    width: int = 1024
    depth: int = 3
    weight_std: float = 1.0
    bias_std: float = 0.0
    time: float = 0.5
    late: float = 10.0
    trained_alphas: tuple[float, ...] = (0.5, 1.0, 2.0)
    trained: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, math.inf)
    net_width: int = 1024
    share: float = 0.4
    device: str = "cpu"
    dtype: str = "float32"


PRESETS = {
    "quick": Config(signals=256, trained_alphas=(1.0,), trained=(0.0, 1.0, math.inf), net_width=256),
    "full": Config(),
}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.device != "cpu" or config.dtype not in ("float32", "float64"):
        raise ConfigError(f"{config.dtype} on {config.device}; use float32 or float64 on cpu")
    if config.points < 4 or config.points % 2 or config.between < 2:
        raise ConfigError(
            f"points={config.points}, between={config.between}; give an even number from 4 on, and at least 2"
        )
    if not 1 < config.band <= config.points * config.between // 2:
        raise ConfigError(f"band is {config.band}; the fine grid has frequencies up to n · between / 2")
    if config.signals < 2 or min(config.width, config.net_width, config.depth) < 1:
        raise ConfigError("give at least 2 signals, and widths and depth of at least 1")
    if 0.0 not in config.powers or 1.0 not in config.powers or len(set(config.powers)) < 3:
        raise ConfigError(f"powers are {config.powers}; the claims compare p = 0, p = 1 and others")
    if not set(config.trained_alphas) <= set(config.alphas):
        raise ConfigError(f"trained_alphas are {config.trained_alphas}; they are not all in alphas")
    if not 0 < config.share < 2 or config.time <= 0 or config.late <= 1 or config.weight_std <= 0:
        raise ConfigError("share is below 2, time and weight_std are positive, late is above 1")


def run(config: Config, run: Run) -> None:
    """Sweeps p by kernels, trains real networks, and states what held."""
    times = curve_times(config)
    sweeps: results.Sweeps = {}
    cells = [(alpha, p) for alpha in config.alphas for p in config.powers]
    for alpha, p in run.progress(cells, "kernels"):
        sweeps[alpha, p] = exact.sweep(config, alpha, p, times)
    trained = [
        nets.train(config, run, alpha, p)
        for alpha, p in run.progress(
            [(alpha, p) for alpha in config.trained_alphas for p in config.trained], "networks"
        )
    ]
    results.show(config, run, times, sweeps, trained)


def curve_times(config: Config) -> Any:
    """Times ηt: the paper's, `late` times that, and 37 from a hundredth of the first to a thousand times."""
    many = config.time * torch.logspace(-2, 3, 37, dtype=torch.float64)
    return torch.cat([torch.tensor([config.time, config.late * config.time], dtype=torch.float64), many])
