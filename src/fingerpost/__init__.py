"""fingerpost: learning signals, and the audit that says whether they point the right way.

Subpackages load at first use, so importing fingerpost never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fingerpost import (
        attention,
        audit,
        credit,
        distributions,
        experiments,
        flow,
        lab,
        leakwatch,
        neuroidal,
        ode,
        population,
        spectral,
        td,
    )

__all__ = [
    "__version__",
    "attention",
    "audit",
    "credit",
    "distributions",
    "experiments",
    "flow",
    "lab",
    "leakwatch",
    "neuroidal",
    "ode",
    "population",
    "spectral",
    "td",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
