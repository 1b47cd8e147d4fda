"""The first stage: what the bare command answers, and what it costs in imports."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

import fingerpost
from fingerpost.cli import main
from fingerpost.cli.commands import COMMANDS
from fingerpost.errors import FingerpostError
from fingerpost.experiments import EXPERIMENTS


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["list"], ["list", "--help"], ["list", "--json"], []]
)
def test_first_answers_import_neither_torch_nor_numpy_nor_tyro(process, words):
    status, out, err, loaded = process(*words)
    assert (status, err, loaded) == (0, "", [])
    assert out.strip()


@pytest.mark.parametrize("words", [["rnu"], ["--hepl"], ["list", "--jsn"]])
def test_a_wrong_first_word_exits_2_in_one_line_without_heavy_imports(process, words):
    status, out, err, loaded = process(*words)
    assert (status, out, loaded) == (2, "", [])
    assert err.count("\n") == 1
    assert "did you mean" in err


def test_help_names_every_command_once_with_its_summary(command):
    status, out, _ = command("--help")
    assert status == 0
    for row in COMMANDS.values():
        assert sum(line.startswith(f"  {row.name} ") for line in out.splitlines()) == 1
        assert row.summary in out


def test_commands_of_later_issues_are_not_listed(command):
    _, out, _ = command("--help")
    assert "export" not in out.split()
    status, _, err = command("export", "my-run")
    assert status == 2
    assert "there is no command 'export'" in err


def test_version_is_the_packages(command):
    assert command("--version")[1] == f"fingerpost {fingerpost.__version__}\n"


def test_list_names_every_experiment(command):
    _, out, _ = command("list")
    assert all(name in out and entry.summary in out for name, entry in EXPERIMENTS.items())


def test_list_as_json_gives_one_row_per_experiment(command):
    _, out, _ = command("list", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["name"] for row in rows] == list(EXPERIMENTS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_its_usage_and_an_example(command, name):
    status, out, err = command(name, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"usage: fingerpost {name}")
    assert f"  fingerpost {name}" in out[out.index("example") :]
    assert max(map(len, out.splitlines())) <= 200


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"run", "list"}))
def test_every_command_suggests_the_flag_that_was_meant(command, tiny, name):
    status, out, err = command(name, *([tiny] if name == "sweep" else []), "--helpp")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "--helpp" in err


def test_no_module_of_the_table_is_missing():
    for row in COMMANDS.values():
        assert callable(importlib.import_module(row.module).main)


def test_python_dash_m_is_the_same_command_line():
    done = subprocess.run([sys.executable, "-m", "fingerpost", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"fingerpost {fingerpost.__version__}\n")


def test_an_error_is_one_line_unless_the_traceback_is_asked_for(command, monkeypatch):
    status, _, err = command("run", "no-such-thing")
    assert (status, err.count("\n")) == (2, 1)
    with pytest.raises(FingerpostError, match="no experiment"):
        main(["run", "no-such-thing", "--traceback"])
    monkeypatch.setenv("FINGERPOST_TRACEBACK", "1")
    with pytest.raises(FingerpostError, match="no experiment"):
        main(["run", "no-such-thing"])


def test_a_reader_that_leaves_early_gets_no_traceback():
    done = subprocess.run(
        f"{sys.executable} -m fingerpost list | true", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
