"""Killed and resumed equals never killed, to the bit: shown by really killing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.backends.backend_svg  # noqa: F401  (loaded here, not in every child)
import pytest

from fingerpost.errors import RunError
from fingerpost.lab import RunFolder, Store, run_experiment, verify
from lab import toy_experiment
from lab.killing import contents, in_child

CONFIG = toy_experiment.Config()


def run_toy(directory: Path) -> None:
    run_experiment(toy_experiment, CONFIG, directory, name="toy")


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    home = tmp_path_factory.mktemp("reference")
    previous = os.environ.get("FINGERPOST_HOME")
    os.environ["FINGERPOST_HOME"] = str(home)
    code, calls = in_child(lambda: run_toy(home / "run"))
    os.environ.pop("FINGERPOST_HOME") if previous is None else os.environ.update(FINGERPOST_HOME=previous)
    assert code == 0
    return contents(home / "run"), calls


def test_a_run_leaves_every_kind_of_file(never_killed):
    files, _ = never_killed
    kinds = {path.partition("/")[0] for path in files}
    assert kinds == {
        "metrics.jsonl",
        "claims.json",
        "contents.json",
        "figures",
        "tables",
        "stages",
        "checkpoint",
    }


def test_two_runs_of_one_seed_are_the_same_bytes(never_killed, tmp_path):
    run_toy(tmp_path / "run")
    assert contents(tmp_path / "run") == never_killed[0]


@pytest.mark.parametrize("part", range(3))
def test_a_kill_at_any_system_call_and_a_resume_give_the_same_bytes(never_killed, tmp_path, part):
    reference, calls = never_killed
    assert calls > 100
    for limit in range(1 + 9 * part, calls, 27):
        directory = tmp_path / f"run-{limit}"
        code, _ = in_child(lambda d=directory: run_toy(d), limit, after=bool(limit % 2))
        assert code == -signal.SIGKILL
        code, _ = in_child(lambda d=directory: run_toy(d))
        assert code == 0, f"no resume after a kill at call {limit}"
        assert contents(directory) == reference, f"killed at call {limit}"


def test_many_kills_of_one_run_give_the_same_bytes(never_killed, tmp_path):
    reference, _ = never_killed
    kills = 0
    for limit in (9, 15, 22, 40, 61, 33, 27, 80):
        code, _ = in_child(lambda: run_toy(tmp_path / "run"), limit, after=bool(limit % 2))
        kills += code == -signal.SIGKILL
    assert kills >= 4
    run_toy(tmp_path / "run")
    assert contents(tmp_path / "run") == reference
    assert verify(tmp_path / "run") == []


def test_a_process_killed_from_outside_is_resumed_to_the_same_bytes(tmp_path):
    script = [sys.executable, toy_experiment.__file__]
    options = ["steps=16", "wait=0.02"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([*script, str(tmp_path / "killed"), *options], env=environment)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not metrics.exists() or metrics.read_bytes().count(b"\n") < 6):
        time.sleep(0.01)
    assert RunFolder(tmp_path / "killed").status == "running"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert RunFolder(tmp_path / "killed").status == "killed"
    config = toy_experiment.Config(steps=16, wait=0.02)
    run_experiment(toy_experiment, config, tmp_path / "killed", name="toy")
    run_experiment(toy_experiment, config, tmp_path / "whole", name="toy")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert [row.status for row in Store().list()] == ["completed", "completed"]


def test_a_run_that_found_the_disk_full_is_resumed_to_the_same_bytes(never_killed, tmp_path):
    def on_a_small_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        with pytest.raises(RunError, match=r"could not be written.*File too large"):
            run_toy(tmp_path / "run")

    code, _ = in_child(on_a_small_disk)
    assert code == 0
    assert not (tmp_path / "run" / "figures").exists()
    run_toy(tmp_path / "run")
    assert contents(tmp_path / "run") == never_killed[0]


def test_an_interrupted_run_says_so_and_resumes_to_the_same_bytes(never_killed, tmp_path, monkeypatch):
    original = toy_experiment.fit

    def interrupted(config, run, stage, width):
        if stage == "wide":
            raise KeyboardInterrupt
        return original(config, run, stage, width)

    monkeypatch.setattr(toy_experiment, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path / "run")
    assert RunFolder(tmp_path / "run").status == "interrupted"
    monkeypatch.setattr(toy_experiment, "fit", original)
    run_toy(tmp_path / "run")
    assert RunFolder(tmp_path / "run").status == "completed"
    assert contents(tmp_path / "run") == never_killed[0]


def test_a_failed_run_tells_the_error_and_can_be_resumed(never_killed, tmp_path, monkeypatch):
    original = toy_experiment.fit

    def failing(config, run, stage, width):
        raise ValueError("no such luck")

    monkeypatch.setattr(toy_experiment, "fit", failing)
    with pytest.raises(ValueError, match="no such luck"):
        run_toy(tmp_path / "run")
    assert RunFolder(tmp_path / "run").status == "error: ValueError: no such luck"
    monkeypatch.setattr(toy_experiment, "fit", original)
    run_toy(tmp_path / "run")
    assert contents(tmp_path / "run") == never_killed[0]


def test_a_finished_run_is_found_finished_and_untouched(tmp_path, monkeypatch):
    run_toy(tmp_path / "run")
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    monkeypatch.setattr(toy_experiment, "run", lambda config, run: pytest.fail("it ran again"))
    found = run_experiment(toy_experiment, CONFIG, tmp_path / "run", name="toy")
    assert found.finished
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before
