"""A tiny experiment: the mean of noise is near zero. Shaped like a user's own file."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.lab import Claim

torch = lazy_import("torch")


@dataclass(frozen=True)
class Config:
    """Settings of the tiny experiment."""

    seed: int = 0
    """Seed of every random number."""
    samples: int = 100
    """Samples of noise."""
    sigma: float = 1.0
    """Standard deviation of the noise."""
    widths: tuple[int, ...] = (3, 4)
    """Widths, used by nothing."""
    data: Path | None = None
    """A folder, used by nothing."""
    centred: bool = True
    """Whether the noise has mean zero."""


PRESETS = {"quick": Config(samples=10), "full": Config()}


def check(config: Config) -> None:
    """Refuses a negative standard deviation."""
    if config.sigma < 0:
        raise ConfigError(f"sigma is {config.sigma}; a standard deviation is at least 0")


def run(config: Config, run) -> None:
    """Draws noise, and claims that its mean is near zero."""

    def mean() -> float:
        noise = torch.randn(config.samples, generator=torch.Generator().manual_seed(config.seed))
        return float(config.sigma * noise.mean()) + (0.0 if config.centred else 10.0)

    value = run.once("mean", mean)
    run.log("mean", 0, value=value)
    run.once("pause", lambda: time.sleep(float(os.environ.get("TINY_PAUSE", "0"))))
    bound = 5 * config.sigma / config.samples**0.5
    run.claim(Claim("mean", "The mean is near zero.", "the law of large numbers", "0", value, -bound, bound))
