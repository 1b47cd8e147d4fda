"""README and docs: their examples run, their commands exist, their links lead somewhere, their facts agree."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import fingerpost
from fingerpost.cli import main
from fingerpost.cli.commands import COMMANDS
from fingerpost.experiments import EXPERIMENTS

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _load_check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_links", ROOT / "docs" / "check_links.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_links = _load_check()
PAGES = [page.relative_to(ROOT).as_posix() for page in check_links.pages(ROOT)]


class Fence(NamedTuple):
    language: str
    text: str


def fences(page: str) -> list[Fence]:
    return [Fence(*found) for found in FENCE.findall((ROOT / page).read_text(encoding="utf-8"))]


def command_lines(page: str) -> list[list[str]]:
    """Words of every line of a shell fence that calls fingerpost or make."""
    lines = [line for fence in fences(page) if fence.language == "sh" for line in fence.text.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[0] in ("fingerpost", "make")]


@lru_cache
def help_text(*words: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert main([*words, "--help"]) == 0
    return shown.getvalue()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(f.language == "python" for f in fences(page))]
)
def test_every_python_example_runs_and_prints_what_the_page_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINGERPOST_HOME", str(tmp_path / "runs"))
    names: dict[str, object] = {"__name__": "__main__"}
    found = fences(page)
    for fence, following in zip(found, [*found[1:], Fence("", "")]):
        if fence.language != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(fence.text, page, "exec", dont_inherit=True), names)
        if following.language == "text":
            assert printed.getvalue() == following.text


def test_the_readme_shows_a_flipped_sign_being_named() -> None:
    shown = [fence.text for fence in fences("README.md") if fence.language == "text"]
    assert any("flip the sign" in text for text in shown)


@pytest.mark.parametrize("page", [page for page in PAGES if command_lines(page)])
def test_every_command_on_a_page_exists_with_its_flags(page: str) -> None:
    for words in command_lines(page):
        if words[0] == "make":
            assert {w for w in words[1:] if "=" not in w} <= make_targets(), words
            continue
        assert words[1] in {*COMMANDS, "--help", "--version"}, words
        named = [word for word in words[2:] if word in EXPERIMENTS][:1]
        assert not named or words[1] in ("run", "sweep", "report")
        shown = help_text(words[1], *named) if words[1] in ("run", "sweep") else help_text(words[1])
        for flag in (word.partition("=")[0] for word in words[2:] if word.startswith("--")):
            assert re.search(rf"{flag}\b", shown), f"{page}: {shlex.join(words)}: there is no {flag}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert list(check_links.broken(ROOT / page)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](missing.md)", "leads nowhere"),
        ("# One\n[a](#two)", "no such heading"),
        ("```sh\nls\n", "not closed"),
    ],
)
def test_the_link_check_finds_what_is_broken(tmp_path: Path, text: str, said: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert [said in line for line in check_links.broken(page)] == [True]
    done = subprocess.run([sys.executable, check_links.__file__, str(page)], capture_output=True, text=True)
    assert done.returncode == 1
    assert said in done.stdout


def test_the_readmes_two_commands_are_targets_of_make() -> None:
    assert {"demo", "test"} <= make_targets()
    assert ["make", "demo"] in command_lines("README.md")
    assert ["make", "test"] in command_lines("README.md")


def test_every_experiment_and_command_has_its_line() -> None:
    experiments = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    lab = (ROOT / "docs" / "lab.md").read_text(encoding="utf-8")
    assert [name for name in EXPERIMENTS if f"`{name}`" not in experiments] == []
    assert [name for name in COMMANDS if f"`{name}`" not in lab] == []


def test_version_is_told_the_same_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {fingerpost.__version__}\n" in citation
    assert fingerpost.__version__ in changes
