"""Imports that wait: modules that load at first use, and extras that say how to install them."""

from __future__ import annotations

import importlib
import types
from typing import Any

from fingerpost.errors import MissingExtraError


class _LazyModule(types.ModuleType):
    """A stand-in that imports the real module when one of its attributes is first asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def lazy_import(name: str) -> Any:
    """Returns a stand-in for module `name` that imports it at first use.

    Experiments name torch this way, so that a command line can be checked before torch is loaded.
    """
    return _LazyModule(name)


def require_extra(module: str, extra: str, purpose: str) -> Any:
    """Imports an optional dependency.

    Args:
      module: The module to import, such as ``"sklearn.datasets"``.
      extra: The name of fingerpost's extra that installs it.
      purpose: What it is needed for, as the end of "… is needed for".

    Raises:
      MissingExtraError: If it is not installed; the message gives the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        raise MissingExtraError(
            f"{root} is needed for {purpose}, and it is not installed: "
            f"pip install 'fingerpost[{extra}]' brings it"
        ) from error
