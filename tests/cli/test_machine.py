"""doctor, completion and bench: what this machine has."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess

import pytest

from fingerpost.cli import completion, doctor
from fingerpost.cli.commands import COMMANDS
from fingerpost.experiments import EXPERIMENTS


def findings(command) -> tuple[int, dict[str, dict]]:
    status, out, _ = command("doctor", "--json")
    return status, {row["item"]: row for row in map(json.loads, out.splitlines())}


def test_doctor_finds_this_machine_well(command, home):
    status, rows = findings(command)
    assert status == 0
    assert {"python", "torch", "threads", "gpu", "numpy", "folder of runs", "git", "chromium"} <= set(rows)
    assert all(row["status"] != "fail" for row in rows.values())
    assert not home.exists(), "looking must not make the folder of runs"


def test_doctor_warns_of_a_missing_extra_and_says_what_installs_it(command, monkeypatch):
    real = importlib.metadata.version

    def version(package: str) -> str:
        if package == "scikit-learn":
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    status, rows = findings(command)
    row = rows["scikit-learn (extra: data)"]
    assert (status, row["status"]) == (0, "warn")
    assert "pip install 'fingerpost[data]'" in row["detail"]


def test_doctor_fails_on_a_folder_of_runs_that_cannot_be_written(command, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("FINGERPOST_HOME", str(tmp_path / "a file"))
    status, rows = findings(command)
    assert (status, rows["folder of runs"]["status"]) == (1, "fail")
    assert "set FINGERPOST_HOME elsewhere" in rows["folder of runs"]["detail"]


def test_doctor_fails_without_a_needed_package(command, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["no-such-package>=1"])
    status, rows = findings(command)
    assert (status, rows["no-such-package"]["status"]) == (1, "fail")


def test_doctor_warns_of_more_threads_than_cores_and_of_missing_tools(command, monkeypatch):
    monkeypatch.setattr(doctor, "available_cores", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    _, rows = findings(command)
    assert [rows[item]["status"] for item in ("threads", "git", "chromium")] == ["warn"] * 3


def complete(*words: str) -> list[str]:
    """Asks bash what follows the words, with the script loaded."""
    line = " ".join(f"'{word}'" for word in ("fingerpost", *words))
    script = f"{completion.bash_script()}\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words)}\n_fingerpost\n"
    done = subprocess.run(
        ["bash", "-c", script + 'printf "%s\\n" "${COMPREPLY[@]}"'], capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_flags_and_experiments():
    assert complete("re") == ["report"]
    assert set(COMMANDS) < set(complete(""))
    assert complete("run", "ep-d") == ["ep-digits"]
    assert complete("run", "ep-digits", "--stri") == ["--strict"]
    assert complete("audit", "--perturb") == ["--perturbations"]
    assert complete("completion", "z") == ["zsh"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shells_script_names_all_commands_and_experiments_and_parses(command, shell):
    _, script, _ = command("completion", shell)
    assert all(word in script for word in [*COMMANDS, *EXPERIMENTS])
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_shell_is_one_line(command):
    status, _, err = command("completion", "tcsh")
    assert (status, err.count("\n")) == (2, 1)
    assert "'tcsh'" in err


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A source checkout with three benchmarks: one that works, one that fails, one that is no system."""
    folder = tmp_path / "checkout"
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    mark = f"open({str(tmp_path / 'ran')!r}, 'a').write"
    (folder / "benchmarks" / "credit.py").write_text(f"{mark}('credit')\n")
    (folder / "benchmarks" / "failing.py").write_text(f"{mark}('failing')\nraise SystemExit(3)\n")
    (folder / "benchmarks" / "_shared.py").write_text(f"{mark}('shared')\n")
    monkeypatch.setattr("fingerpost.cli.bench.source_checkout", lambda: folder)
    return tmp_path / "ran"


def test_bench_runs_what_is_named_or_all_and_tells_what_failed(command, checkout):
    assert command("bench", "credit")[0] == 0
    assert checkout.read_text() == "credit"
    status, _, err = command("bench")
    assert (status, checkout.read_text()) == (1, "creditcreditfailing")
    assert "these benchmarks failed: failing" in err


def test_bench_suggests_the_system_and_says_what_to_do_without_the_source(command, checkout, monkeypatch):
    assert "did you mean 'credit'?" in command("bench", "credti")[2]
    monkeypatch.setattr("fingerpost.cli.bench.source_checkout", lambda: None)
    status, _, err = command("bench")
    assert (status, err.count("\n")) == (2, 1)
    assert "get a source checkout" in err


def test_home_is_runs_in_the_current_folder_unless_named(command, tmp_path, monkeypatch):
    monkeypatch.delenv("FINGERPOST_HOME")
    monkeypatch.chdir(tmp_path)
    _, rows = findings(command)
    assert rows["folder of runs"]["detail"].startswith(str(tmp_path / "runs"))
    assert os.listdir(tmp_path) == []
