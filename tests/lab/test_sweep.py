from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fingerpost.errors import ConfigError, InvalidValueError, RunError
from fingerpost.lab import RunFolder, Store, parse_over, sweep
from fingerpost.lab.executors import EXECUTORS, LocalExecutor
from fingerpost.lab.supervisor import Task, supervise
from fingerpost.lab.sweeps import points
from lab import toy_experiment
from lab.killing import contents

TOY = toy_experiment.__file__
BASE = toy_experiment.Config()


def task(directory: Path, code: str, **options) -> Task:
    directory.mkdir(exist_ok=True)
    return Task(
        {"seed": 0},
        directory / "run",
        [sys.executable, "-c", code, str(directory)],
        directory / "log",
        **options,
    )


# Finishes on its second try: the first one dies by the signal that the text names.
DIES_ONCE = """
import os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
if not (folder / "tried").exists():
    (folder / "tried").touch()
    os.kill(os.getpid(), {signal})
from fingerpost.lab import Run
Run.open(folder / "run", experiment="x", config={{"seed": 0}}).close("completed")
"""


def run_tasks(tasks, **options):
    supervise(tasks, LocalExecutor(), **{"jobs": 2, "retries": 1, "environment": {}, **options})


@pytest.mark.parametrize(
    ("words", "over"),
    [
        (["sigma=1,2,5", "seed=0:5"], {"sigma": [1, 2, 5], "seed": [0, 1, 2, 3, 4]}),
        (["lr=1e-3,0.5", "rule=fix,sign"], {"lr": [0.001, 0.5], "rule": ["fix", "sign"]}),
        (
            ["batch-size=8", "fast=true,False", "x=none"],
            {"batch_size": [8], "fast": [True, False], "x": [None]},
        ),
    ],
)
def test_what_to_sweep_over_is_parsed(words, over):
    assert parse_over(words) == over


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sigma"], "does not say"),
        (["=1"], "does not say"),
        (["sigma="], "does not say"),
        (["seed=0:x"], "whole numbers"),
        (["seed=3:3"], "empty range"),
        (["a=1", "a=2"], "twice"),
    ],
)
def test_what_cannot_be_swept_over_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_over(words)


def test_the_grid_is_whole_and_seeds_are_innermost():
    assert points({"seed": [0, 1], "a": [1, 2]}) == [
        {"a": 1, "seed": 0},
        {"a": 1, "seed": 1},
        {"a": 2, "seed": 0},
        {"a": 2, "seed": 1},
    ]


def test_a_sample_draws_settings_without_repeats_and_takes_all_seeds():
    over = {"a": list(range(10)), "b": list(range(10)), "seed": [0, 1]}
    drawn = points(over, sample=7, sample_seed=3)
    assert len(drawn) == 14
    assert len({(point["a"], point["b"]) for point in drawn}) == 7
    assert drawn == points(over, sample=7, sample_seed=3) != points(over, sample=7, sample_seed=4)
    with pytest.raises(InvalidValueError, match="sample is 0"):
        points(over, sample=0)


@pytest.mark.parametrize("name", ["slurm", "ray"])
def test_executors_of_later_versions_say_so(name):
    with pytest.raises(ConfigError, match="comes with a later version"):
        sweep(TOY, {"seed": [0]}, BASE, executor=name)


def test_unknown_names_and_numbers_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="no executor 'lokal'; did you mean 'local'"):
        sweep(TOY, {"seed": [0]}, BASE, executor="lokal")
    with pytest.raises(ConfigError, match="no setting 'sead'; did you mean 'seed'"):
        sweep(TOY, {"sead": [0]}, BASE)
    with pytest.raises(InvalidValueError, match="jobs is 0"):
        sweep(TOY, {"seed": [0]}, BASE, jobs=0)
    with pytest.raises(InvalidValueError, match="nothing to sweep over for 'seed'"):
        sweep(TOY, {"seed": []}, BASE)
    assert set(EXECUTORS) == {"local"}


def test_a_sweep_runs_each_point_in_a_folder_of_its_own_and_finds_it_finished_again(tmp_path):
    over = {"lr": [0.01], "seed": [0, 1]}
    result = sweep(TOY, over, BASE, directory=tmp_path / "s")
    assert result.failed == []
    configs = [RunFolder(one.directory).manifest["config"] for one in result.tasks]
    assert [(config["lr"], config["seed"]) for config in configs] == [(0.01, 0), (0.01, 1)]
    assert [row[1] for row in result.claims.rows] == [0.01, 0.01]
    assert {row[2] for row in result.claims.rows} == {2}
    assert len(Store().list()) == 2
    before = [contents(one.directory) for one in result.tasks]
    again = sweep(TOY, over, BASE, directory=tmp_path / "s")
    assert [one.tries for one in again.tasks] == [0, 0]
    assert [contents(one.directory) for one in again.tasks] == before
    with pytest.raises(RunError, match="holds another sweep"):
        sweep(TOY, {"seed": [5]}, BASE, directory=tmp_path / "s")


@pytest.mark.parametrize("sign", ["signal.SIGKILL", "signal.SIGSEGV"])
def test_a_worker_that_is_killed_is_started_again_and_the_others_lose_nothing(tmp_path, sign):
    number = {"signal.SIGKILL": signal.SIGKILL, "signal.SIGSEGV": signal.SIGSEGV}[sign]
    code = DIES_ONCE.format(signal=int(number))
    tasks = [task(tmp_path / "a", code), task(tmp_path / "b", code.replace("if not", "if False and not"))]
    run_tasks(tasks)
    assert [(one.status, one.tries) for one in tasks] == [("completed", 2), ("completed", 1)]


def test_a_worker_that_fails_always_is_reported_with_its_last_words(tmp_path):
    tasks = [
        task(tmp_path / "a", "raise SystemExit('no luck')"),
        task(tmp_path / "b", DIES_ONCE.format(signal=0)),
    ]
    run_tasks(tasks, retries=2)
    assert [(one.status, one.tries) for one in tasks] == [("failed", 3), ("completed", 1)]
    assert tasks[0].problem == "exit status 1: no luck"


def test_a_refused_configuration_is_not_tried_again(tmp_path):
    (one,) = tasks = [task(tmp_path / "a", "raise SystemExit(2)")]
    run_tasks(tasks, retries=5)
    assert (one.status, one.tries) == ("failed", 1)


def test_a_worker_that_exits_well_without_a_finished_run_has_failed(tmp_path):
    (one,) = tasks = [task(tmp_path / "a", "pass")]
    run_tasks(tasks, retries=0)
    assert one.status == "failed"


def test_the_live_table_shows_every_run_on_a_terminal_and_nothing_elsewhere(tmp_path, monkeypatch, capsys):
    ours, theirs = pty.openpty()
    one = task(tmp_path / "a", DIES_ONCE.format(signal=int(signal.SIGKILL)))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setenv("LINES", "24")
        run_tasks([one])
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "seed=0" in shown
    assert "1 running" in shown
    monkeypatch.undo()
    run_tasks([task(tmp_path / "b", DIES_ONCE.format(signal=0))])
    assert capsys.readouterr().err == ""


SUPERVISOR = """
import pathlib, sys
from fingerpost.lab.executors import LocalExecutor
from fingerpost.lab.supervisor import Task, supervise
folder = pathlib.Path(sys.argv[1])
code = '''
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
try:
    (folder / f"pid-{os.getpid()}").touch()
    time.sleep(60)
except KeyboardInterrupt:
    (folder / f"interrupted-{os.getpid()}").touch()
'''
command = [sys.executable, "-c", code, str(folder)]
tasks = [Task({}, folder / str(i), command, folder / f"log-{i}") for i in range(2)]
supervise(tasks, LocalExecutor(), jobs=2, retries=1, environment={})
"""


def start_supervisor(folder: Path) -> tuple[subprocess.Popen, list[int]]:
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(folder)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while len(list(folder.glob("pid-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    return process, [int(path.name[4:]) for path in folder.glob("pid-*")]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def wait_until_gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while not all(gone(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return all(gone(pid) for pid in pids)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's own")
def test_no_worker_outlives_a_killed_supervisor(tmp_path):
    process, pids = start_supervisor(tmp_path)
    assert len(pids) == 2
    assert not any(gone(pid) for pid in pids)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert wait_until_gone(pids)
    assert list(tmp_path.glob("interrupted-*")) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ctrl_c_reaches_every_worker_before_the_supervisor_ends(tmp_path):
    process, pids = start_supervisor(tmp_path)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert all(gone(pid) for pid in pids)
    assert {path.name for path in tmp_path.glob("interrupted-*")} == {f"interrupted-{pid}" for pid in pids}
    assert process.returncode == -signal.SIGINT or process.returncode in (1, 130)
    assert os.path.exists(tmp_path / "log-0")
