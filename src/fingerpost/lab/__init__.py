"""Runs, claims, the trainer, the index of runs, sweeps and the figure style.

Names load at first use: reading, listing and comparing runs never import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fingerpost.lab.claims import Claim as Claim
    from fingerpost.lab.folder import RunFolder as RunFolder
    from fingerpost.lab.run import Run as Run
    from fingerpost.lab.trainer import TrainResult as TrainResult
    from fingerpost.lab.trainer import minibatches as minibatches
    from fingerpost.lab.trainer import train as train

_HOMES = {
    "Claim": "claims",
    "Run": "run",
    "RunFolder": "folder",
    "TrainResult": "trainer",
    "minibatches": "trainer",
    "train": "trainer",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
