"""The pins and the package's own description."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

import pytest

packaging_markers = pytest.importorskip("packaging.markers")
from packaging.requirements import Requirement  # noqa: E402

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def environment(python: str) -> dict[str, str]:
    return {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}


def test_every_pin_is_one_exact_version() -> None:
    for pin in pins():
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin


@pytest.mark.parametrize("python", PYTHONS)
def test_each_python_gets_one_version_of_each_package(python: str) -> None:
    chosen = [p.name for p in pins() if p.marker is None or p.marker.evaluate(environment(python))]
    assert sorted(chosen) == sorted(set(chosen))


@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_satisfy_what_pyproject_asks_for(python: str) -> None:
    chosen = {
        canonical(p.name): next(iter(p.specifier)).version
        for p in pins()
        if p.marker is None or p.marker.evaluate(environment(python))
    }
    asked = [Requirement(line) for line in requires("fingerpost") or []]
    for requirement in asked:
        if canonical(requirement.name) != "fingerpost":
            assert requirement.specifier.contains(chosen[canonical(requirement.name)]), requirement


def test_torch_is_pinned_and_allowed_as_a_range() -> None:
    assert "torch==2.13.0" in {str(pin) for pin in pins()}
    asked = {canonical(r.name): r for r in map(Requirement, requires("fingerpost") or [])}
    assert asked["torch"].specifier.contains("2.6.0")
    assert asked["torch"].specifier.contains("2.13.0")
