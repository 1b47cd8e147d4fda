"""The supervisor of a sweep: starts runs, watches them, starts lost ones again, stops all on Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fingerpost.errors import RunError
from fingerpost.lab._display import Display
from fingerpost.lab.executors import AbstractExecutor, AbstractJob
from fingerpost.lab.folder import RunFolder

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 15.0
_BAD_CONFIG = 2


@dataclass
class Task:
    """One run of a sweep.

    Attributes:
      point: The settings that are swept over.
      directory: The run folder.
      command: What runs it.
      log: Where its output goes.
      status: ``waiting``, ``running``, ``completed`` or ``failed``.
      tries: How often it was started.
      problem: Why it failed last.
    """

    point: dict[str, Any]
    directory: Path
    command: Sequence[str]
    log: Path
    status: str = "waiting"
    tries: int = 0
    problem: str = ""


def is_complete(directory: Path) -> bool:
    """Says whether the run in `directory` completed; a missing or damaged folder did not."""
    try:
        return RunFolder(directory).status == "completed"
    except RunError:
        return False


def supervise(
    tasks: Sequence[Task],
    executor: AbstractExecutor,
    *,
    jobs: int,
    retries: int,
    environment: Mapping[str, str],
) -> None:
    """Runs the tasks, `jobs` at a time; each ends as ``completed`` or ``failed``.

    A task that completed before is not started. One that dies in whatever way is started again up to
    `retries` times, unless its configuration was refused (exit status 2).

    Raises:
      KeyboardInterrupt: On Ctrl-C, once every worker has stopped.
    """
    for task in tasks:
        task.status = "completed" if is_complete(task.directory) else "waiting"
    running: dict[int, AbstractJob] = {}
    display = Display(tasks)
    try:
        while any(task.status in ("waiting", "running") for task in tasks):
            _start(tasks, running, executor, jobs, environment)
            time.sleep(_POLL_SECONDS)
            _collect(tasks, running, retries)
            display.show()
    finally:
        _stop(running)
        display.close()


def _start(
    tasks: Sequence[Task],
    running: dict[int, AbstractJob],
    executor: AbstractExecutor,
    jobs: int,
    environment: Mapping[str, str],
) -> None:
    for index, task in enumerate(tasks):
        if len(running) >= jobs:
            return
        if task.status == "waiting":
            task.status, task.tries = "running", task.tries + 1
            running[index] = executor.submit(task.command, task.log, environment)


def _collect(tasks: Sequence[Task], running: dict[int, AbstractJob], retries: int) -> None:
    for index, job in list(running.items()):
        code = job.poll()
        if code is None:
            continue
        del running[index]
        task = tasks[index]
        if is_complete(task.directory):
            task.status, task.problem = "completed", ""
            continue
        task.problem = _problem(code, task.log)
        again = task.tries <= retries and code != _BAD_CONFIG
        task.status = "waiting" if again else "failed"


def _problem(code: int, log: Path) -> str:
    how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return f"{how}: {lines[-1]}" if lines else how


def _stop(running: Mapping[int, AbstractJob]) -> None:
    for job in running.values():
        job.interrupt()
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(job.poll() is None for job in running.values()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    for job in running.values():
        if job.poll() is None:
            job.kill()
