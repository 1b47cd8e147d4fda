"""The examples in the docstrings of every module of fingerpost run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fingerpost


def modules() -> list[str]:
    """Names of all modules but __main__, which would run the command line."""
    walk = pkgutil.walk_packages(fingerpost.__path__, "fingerpost.")
    return [found.name for found in walk if not found.name.endswith("__main__")]


def test_the_walk_finds_every_package() -> None:
    names = set(modules())
    assert {f"fingerpost.{name}" for name in ("audit", "credit", "lab", "cli", "experiments")} <= names


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples failed; see the output"
