"""Several processes train as one does: equal weights, equal numbers, one run folder, and none is left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fingerpost.cli import main
from fingerpost.errors import ConfigError, RunError
from fingerpost.lab import RunFolder, _ranks, sweeps, verify
from lab import ranks_cases, toy_experiment
from lab.killing import contents

TOLERANCE = 1e-6
linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


def launch(case: str, directory: Path, *words: str, size: int = 2) -> list[tuple[int, str]]:
    """Runs a case of `ranks_cases` on forked ranks with torchrun's environment; returns exit codes and what they said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    errors = [directory / f"stderr{rank}" for rank in range(size)]

    def body(rank: int) -> None:
        os.environ.update(address, RANK=str(rank))
        tempfile.tempdir = str(directory)  # a killed rank leaves its folder there
        _ranks.here.cache_clear()
        os.dup2(os.open(errors[rank], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.stderr = os.fdopen(2, "w")
        getattr(ranks_cases, case)(directory, *words)
        _ranks._leave()

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=body, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    hanging = [process for process in processes if process.exitcode is None]
    for process in hanging:
        process.kill()
    assert not hanging, "a rank waits for ever"
    return [(process.exitcode or 0, path.read_text()) for process, path in zip(processes, errors)]


def completed(case: str, directory: Path, *words: str) -> None:
    for code, errors in launch(case, directory, *words):
        assert code == 0, errors


def assert_close(ours: Any, theirs: Any, where: str = "") -> None:
    if isinstance(ours, dict):
        assert list(ours) == list(theirs), where
        for key in ours:
            assert_close(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for index, pair in enumerate(zip(ours, theirs)):
            assert_close(*pair, f"{where}/{index}")
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, abs=TOLERANCE, rel=0, nan_ok=True), where
    else:
        assert ours == theirs, where


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    directory = tmp_path_factory.mktemp("numbers")
    completed("numbers", directory)
    return [json.loads((directory / f"rank{rank}.json").read_text()) for rank in range(2)]


def without_rows(result: dict[str, Any]) -> dict[str, Any]:
    """The number of rows that `squares` logs is each rank's own."""
    rows = [{key: value for key, value in row.items() if key != "rows"} for row in result["history"]]
    best = result["best"] and {key: value for key, value in result["best"].items() if key != "rows"}
    return {**result, "history": rows, "best": best}


@pytest.mark.parametrize("case", ranks_cases.SAME, ids=lambda case: case.__name__)
def test_two_processes_give_the_weights_and_the_numbers_of_one(found, case):
    alone = json.loads(json.dumps(case()))
    assert_close(without_rows(found[0][case.__name__]), without_rows(alone))


def test_all_ranks_end_with_the_same_bits(found):
    for case in found[0]:
        assert json.dumps(found[0][case]) == json.dumps(found[1][case]), case


def test_ranks_begin_with_the_weights_of_the_first(found):
    alone = json.loads(json.dumps(ranks_cases.other_first_weights()))
    assert_close(without_rows(found[0]["other_first_weights"]), without_rows(alone))


def test_early_stopping_stopped_and_a_part_diverged(found):
    """The cases above are what they say."""
    assert found[0]["every_option"]["stopped"] == "patience"
    assert found[0]["diverging"]["stopped"] == "diverged"
    assert found[0]["diverging"]["history"][-1]["step"] == 4
    assert found[0]["parameters_of_some_rows"]["state"]["none"] == [1.0, 1.0]
    assert found[0]["words"]["history"][0]["count"] == 4
    assert found[0]["short_last_batch"]["history"][0]["rows"] == 2


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    completed("killed", directory)
    return directory


def test_rank_0_alone_writes_and_the_others_leave_nothing(never_killed):
    folder = RunFolder(never_killed / "run")
    assert folder.status == "completed"
    assert folder.manifest["processes"] == 2
    assert verify(never_killed / "run") == []
    assert [row["caption"] for row in folder.contents()] == ["Written by rank 0."]
    steps = [row["step"] for row in folder.metrics() if row["stage"] == "first"]
    assert steps == list(range(1, 11))
    assert (never_killed / "run" / "kept" / "first.txt").read_text() == "first of rank 0"


def test_ranks_draw_different_numbers(never_killed):
    noise = [json.loads((never_killed / f"noise{rank}.json").read_text()) for rank in range(2)]
    assert len(noise[0]) == len(noise[1]) == 18
    assert not set(noise[0]) & set(noise[1])


def test_kills_of_either_rank_end_both_and_a_resume_gives_the_same_bytes(never_killed, tmp_path):
    for kill, rank in (("5", 0), ("9", 1)):
        ended = launch("killed", tmp_path, kill, str(rank))
        assert ended[rank][0] == -signal.SIGKILL
        code, errors = ended[1 - rank]
        assert code == 1
        assert "lost another one" in errors
    before = contents(tmp_path / "run")
    with pytest.raises(RunError, match="saved by 2 processes, and now there are 1"):
        ranks_cases.killed(tmp_path)
    assert contents(tmp_path / "run") == before
    completed("killed", tmp_path)
    assert contents(tmp_path / "run") == contents(never_killed / "run")


def test_an_error_on_one_rank_is_raised_on_all_and_one_outside_ends_all(tmp_path):
    first, second = launch("failing", tmp_path)
    assert [(tmp_path / f"rank{rank}.txt").read_text() for rank in range(2)] == ["of rank 1", "of rank 1"]
    assert all("sparse=False" in (tmp_path / f"sparse{rank}.txt").read_text() for rank in range(2))
    assert (first[0], second[0]) == (1, 1)
    assert "ValueError: alone" in second[1]
    assert "RunError: process 0 of 2 lost another one at \"the start of 'train'\"" in first[1]


def test_ranks_that_part_say_so(tmp_path):
    first, second = launch("parted", tmp_path)
    assert "process 1 of 2 is at 'there', and process 0 at 'here'" in first[1]
    assert "process 0 of 2 is at 'here', and process 1 at 'there'" in second[1]


def test_an_environment_that_makes_no_sense_is_refused(monkeypatch):
    _ranks.here.cache_clear()
    for name, value in {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="RANK=2 and WORLD_SIZE=2"):
        _ranks.here()
    monkeypatch.setenv("MASTER_PORT", "")
    assert _ranks.here().alone
    _ranks.here.cache_clear()


def test_a_process_alone_exchanges_nothing():
    ranks = _ranks.Ranks(0, 1)
    assert ranks.first("x", lambda: 1) == ranks.together("x", lambda: 1) == 1
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("gpus", "backend", "chosen"), [(0, "gloo", []), (1, "gloo", []), (2, "cpu:gloo,cuda:nccl", [1])]
)
def test_nccl_is_for_processes_with_a_gpu_each(monkeypatch, gpus, backend, chosen):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    seen = []
    cuda = SimpleNamespace(
        is_available=lambda: gpus > 0, device_count=lambda: gpus, set_device=lambda index: seen.append(index)
    )
    dist = SimpleNamespace(is_nccl_available=lambda: True)
    assert _ranks._backend(SimpleNamespace(cuda=cuda), dist) == backend
    assert seen == chosen


def test_a_sweep_is_not_for_torchrun(monkeypatch):
    monkeypatch.setattr(sweeps, "here", lambda: _ranks.Ranks(0, 2))
    with pytest.raises(ConfigError, match="torchrun is not for it"):
        sweeps.sweep("toy", {"seed": [0]}, {"seed": 0})


# The command, as torchrun starts it.

TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "--no-python",
]
FINGERPOST = [sys.executable, "-m", "fingerpost"]


def test_the_same_command_under_torchrun_states_the_same_claims(tmp_path):
    words = [
        "run",
        "ep-digits",
        "--seeds",
        "2",
        "--epochs",
        "1",
        "--depth",
        "2",
        "--width",
        "8",
        "--warm-up",
        "3",
    ]
    words += ["--batch-size", "256", "--steps", "2", "--dtype", "float64"]
    assert main([*words, "--run-dir", str(tmp_path / "one")]) == 0
    command = [*TORCHRUN, *FINGERPOST, *words, "--run-dir", str(tmp_path / "two")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Everything is in") == 1
    one, two = (RunFolder(tmp_path / name) for name in ("one", "two"))
    assert two.manifest["processes"] == 2
    assert_close([claim.to_json() for claim in two.claims()], [claim.to_json() for claim in one.claims()])
    assert_close(two.metrics(), one.metrics())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@linux
def test_no_worker_outlives_its_agent(tmp_path):
    words = [sys.executable, toy_experiment.__file__, str(tmp_path / "run"), "steps=1000", "wait=0.02"]
    own = {**environment(), "TMPDIR": str(tmp_path)}  # a killed rank leaves its folder there
    agent = subprocess.Popen([*TORCHRUN, *words], env=own, stderr=subprocess.DEVNULL)
    try:
        deadline, metrics = time.monotonic() + 60, tmp_path / "run" / "metrics.jsonl"
        while time.monotonic() < deadline and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.05)
        workers = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
        assert len(workers) == 2
        assert all(running(int(pid)) for pid in workers)
    finally:
        agent.kill()
        agent.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(running(int(pid)) for pid in workers):
        time.sleep(0.05)
    assert not any(running(int(pid)) for pid in workers)
    while time.monotonic() < deadline and RunFolder(tmp_path / "run").status == "running":
        time.sleep(0.05)  # the lock goes with a process's last thread
    assert RunFolder(tmp_path / "run").status == "killed"
