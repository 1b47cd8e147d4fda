"""JOINs in a graph of the size of a mouse's cortex, whose 125 billion synapses are never stored."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _cortex_child as child
from fingerpost.lab import Run

theory = lazy_import("fingerpost.neuroidal.theory")
results = lazy_import("fingerpost.experiments._mouse_cortex_results")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of the graphs and of the items.
      n: Neurons of a mouse's cortex.
      degree: Synapses out of each.
      k: Threshold of each step of the two-step JOIN; the one-step JOIN has 2k.
      joins: Pairs of items, each with a JOIN of either kind.
      human_n: Neurons of a human cortex; a single tile of it is measured.
      human_degree: Synapses out of each.
      kernels: numba or numpy, or auto for numba where it is installed.
      device: cpu.
    """

    seed: int = 0
    n: int = 16_000_000
    degree: int = 7800
    k: int = 16
    joins: int = 20
    human_n: int = 10_000_000_000
    human_degree: int = 24_000
    kernels: str = "auto"
    device: str = "cpu"


PRESETS = {"quick": Config(joins=4), "full": Config()}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if config.device != "cpu":
        raise ConfigError(f"device is {config.device}; the graph is generated on the cpu")
    for n, degree in ((config.n, config.degree), (config.human_n, config.human_degree)):
        if not 0 < degree < n <= 1 << 53:
            raise ConfigError(f"degree is {degree} and n {n}; give 0 < degree < n ≤ 2**53")
        if degree < 2 * config.k or config.k < 1:
            raise ConfigError(
                f"k is {config.k} and degree {degree}; the one-step JOIN's threshold 2 k can be at most the degree, and k at "
                "least 1"
            )
    if config.joins < 2:
        raise ConfigError(f"joins is {config.joins}; give at least 2, for a spread")
    if config.kernels not in ("auto", "numba", "numpy"):
        raise ConfigError(f"kernels is {config.kernels!r}; give auto, numba or numpy")


def run(config: Config, run: Run) -> None:
    """Measures JOINs in processes of their own, holds their sizes to theory, and states what held."""
    mouse = run.once("mouse", lambda: child.measured_in_child(mouse_task(config)))
    human = run.once("human", lambda: child.measured_in_child(human_task(config)))
    results.show(config, run, mouse, human)


def mouse_task(config: Config) -> child.Task:
    """All JOINs at the mouse's size."""
    n, degree, k = config.n, config.degree, config.k
    return child.Task(
        n,
        degree,
        theory.solve_r(n, degree, k, 2),
        k,
        theory.solve_r(n, degree, k, 1),
        config.joins,
        config.seed,
        config.kernels,
        progress=_shown(),
    )


def human_task(config: Config) -> child.Task:
    """One tile of a two-step JOIN at the human size."""
    n, degree, k = config.human_n, config.human_degree, config.k
    r = theory.solve_r(n, degree, k, 2)
    return child.Task(n, degree, r, k, seed=config.seed, kernels=config.kernels, tiles=1)


def _shown() -> Any:
    """Whether somebody sees the bars."""
    return sys.stderr.isatty()
