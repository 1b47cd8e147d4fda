"""leakwatch: which line keeps the memory.

Importing this package does not import torch: the pytest plugin in it loads in every session.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fingerpost.leakwatch._census import Census, Orphan, census
    from fingerpost.leakwatch._guard import LeakGuard
    from fingerpost.leakwatch._report import Leak, LeakError, LeakReport, LeakWarning

_HOMES = {
    "Census": "_census",
    "Leak": "_report",
    "LeakError": "_report",
    "LeakGuard": "_guard",
    "LeakReport": "_report",
    "LeakWarning": "_report",
    "Orphan": "_census",
    "census": "_census",
}

__all__ = ["Census", "Leak", "LeakError", "LeakGuard", "LeakReport", "LeakWarning", "Orphan", "census"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
