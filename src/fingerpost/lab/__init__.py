"""Runs, claims, the trainer, the index of runs, sweeps and the figure style.

Names load at first use: reading, listing and comparing runs never import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fingerpost.lab.claims import Claim as Claim
    from fingerpost.lab.comparison import compare as compare
    from fingerpost.lab.comparison import verify as verify
    from fingerpost.lab.execute import run_experiment as run_experiment
    from fingerpost.lab.folder import RunFolder as RunFolder
    from fingerpost.lab.intervals import MeanInterval as MeanInterval
    from fingerpost.lab.intervals import mean_interval as mean_interval
    from fingerpost.lab.intervals import paired_interval as paired_interval
    from fingerpost.lab.rng import derive_seed as derive_seed
    from fingerpost.lab.rng import isolated_rng as isolated_rng
    from fingerpost.lab.run import Run as Run
    from fingerpost.lab.store import RunRow as RunRow
    from fingerpost.lab.store import Store as Store
    from fingerpost.lab.style import figure_style as figure_style
    from fingerpost.lab.style import legend_outside as legend_outside
    from fingerpost.lab.style import new_figure as new_figure
    from fingerpost.lab.sweeps import SweepResult as SweepResult
    from fingerpost.lab.sweeps import parse_over as parse_over
    from fingerpost.lab.sweeps import sweep as sweep
    from fingerpost.lab.trainer import TrainResult as TrainResult
    from fingerpost.lab.trainer import minibatches as minibatches
    from fingerpost.lab.trainer import train as train

_HOMES = {
    "Claim": "claims",
    "MeanInterval": "intervals",
    "Run": "run",
    "RunFolder": "folder",
    "RunRow": "store",
    "Store": "store",
    "TrainResult": "trainer",
    "compare": "comparison",
    "derive_seed": "rng",
    "figure_style": "style",
    "isolated_rng": "rng",
    "legend_outside": "style",
    "mean_interval": "intervals",
    "minibatches": "trainer",
    "new_figure": "style",
    "paired_interval": "intervals",
    "run_experiment": "execute",
    "SweepResult": "sweeps",
    "parse_over": "sweeps",
    "sweep": "sweeps",
    "train": "trainer",
    "verify": "comparison",
}
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
