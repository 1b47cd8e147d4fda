"""Sweeps: one subprocess per run under a supervisor, so that one killed worker loses nothing.

A sweep is a folder: ``sweep.json`` (what was asked), ``configs/``, ``logs/`` and one run folder per point.
Swept again in the same folder, finished runs are found finished and the others go on.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fingerpost._table import Table
from fingerpost.errors import ConfigError, InvalidValueError, RunError, did_you_mean
from fingerpost.lab._ranks import here
from fingerpost.lab.executors import make_executor
from fingerpost.lab.files import read_json, write_json
from fingerpost.lab.run import resolved_config
from fingerpost.lab.store import Store
from fingerpost.lab.supervisor import Task, supervise
from fingerpost.lab.sweep_tables import claims_table, runs_table

SWEEP = "sweep.json"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves behind.

    Attributes:
      directory: The sweep's folder.
      tasks: One per run: its point, its folder, how it ended, how often it was tried.
      runs: A table of the runs.
      claims: A table of each claim's mean over seeds, with Student's t interval.
    """

    directory: Path
    tasks: list[Task]
    runs: Table
    claims: Table

    @property
    def failed(self) -> list[Task]:
        """The runs that did not complete."""
        return [task for task in self.tasks if task.status != "completed"]


def parse_over(words: Sequence[str]) -> dict[str, list[Any]]:
    """Parses what to sweep over.

    Args:
      words: Each ``name=value,value,…`` or ``name=start:stop`` (whole numbers, `stop` left out).

    Raises:
      ConfigError: If a word is neither, or a name comes twice.

    Example:
      >>> parse_over(["sigma=1,2.5", "seed=0:3", "rule=fix"])
      {'sigma': [1, 2.5], 'seed': [0, 1, 2], 'rule': ['fix']}
    """
    over: dict[str, list[Any]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        if not equals or not name or not values:
            raise ConfigError(f"{word!r} does not say what to sweep over; write name=1,2,5 or seed=0:5")
        if name in over:
            raise ConfigError(f"{name!r} is swept over twice; give all its values at once")
        over[name.replace("-", "_")] = _values(word, values)
    return over


def _values(word: str, text: str) -> list[Any]:
    start, colon, stop = text.partition(":")
    if not colon:
        return [_value(item) for item in text.split(",")]
    try:
        values = list(range(int(start), int(stop)))
    except ValueError as error:
        raise ConfigError(f"{word!r}: a range is start:stop in whole numbers, as seed=0:5") from error
    if not values:
        raise ConfigError(
            f"{word!r} is an empty range; stop ({stop}) is left out and must be above start ({start})"
        )
    return values


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def points(
    over: Mapping[str, Sequence[Any]], sample: int | None = None, sample_seed: int = 0
) -> list[dict[str, Any]]:
    """Returns the settings of each run: the grid, or a random part of it, times all seeds.

    Args:
      over: Values by name; ``seed`` is the innermost.
      sample: How many combinations of the names other than ``seed`` to draw without replacement; None takes
        all.
      sample_seed: Seeds the draw.

    Raises:
      InvalidValueError: If a name has no values, or `sample` is below 1.
    """
    for name, values in over.items():
        if not values:
            raise InvalidValueError(f"nothing to sweep over for {name!r}: give at least one value")
    names = [name for name in over if name != "seed"]
    grid = [dict(zip(names, values)) for values in itertools.product(*(over[name] for name in names))]
    if sample is not None:
        if sample < 1:
            raise InvalidValueError(f"sample is {sample}; it must be at least 1")
        chosen = random.Random(sample_seed).sample(range(len(grid)), min(sample, len(grid)))
        grid = [grid[index] for index in sorted(chosen)]
    seeds = [{"seed": seed} for seed in over["seed"]] if "seed" in over else [{}]
    return [{**point, **seed} for point in grid for seed in seeds]


def sweep(
    name: str,
    over: Mapping[str, Sequence[Any]],
    base: Any,
    *,
    preset: str | None = None,
    directory: Path | str | None = None,
    executor: str = "local",
    jobs: int = 2,
    retries: int = 1,
    sample: int | None = None,
    sample_seed: int = 0,
) -> SweepResult:
    """Runs an experiment at many settings, each in a process and a folder of its own.

    Args:
      name: The experiment's name, or the path of a file of one's own.
      over: Values by name (`parse_over` makes it from a command line).
      base: The configuration of everything else: an instance of the experiment's ``Config``, or a mapping.
      preset: The name of the preset that `base` came from.
      directory: The sweep's folder; None makes a new one in the store.
      executor: ``"local"``.
      jobs: Runs at a time.
      retries: How often a run that failed or was killed is started again; it goes on where it was.
      sample: Draws this many combinations instead of the whole grid.
      sample_seed: Seeds the draw.

    Raises:
      ConfigError: If a name is not in the configuration, the executor is unknown, or torchrun started this.
      InvalidValueError: If a number is out of its range.
      RunError: If `directory` holds another sweep.
      KeyboardInterrupt: On Ctrl-C, once every worker has stopped; all runs can be resumed.
    """
    if not here().alone:
        raise ConfigError("a sweep starts processes of its own, so torchrun is not for it; use --jobs")
    if jobs < 1 or retries < 0:
        raise InvalidValueError(f"jobs is {jobs} and retries {retries}; give at least 1 and 0")
    engine, config = make_executor(executor), resolved_config(base)
    for key in over:
        if key not in config:
            raise ConfigError(f"{name} has no setting {key!r}{did_you_mean(key, config)}")
    stem = Path(name).stem if name.endswith(".py") else name
    folder = Store().new_directory(f"{stem}-sweep") if directory is None else Path(directory).absolute()
    asked = {
        "experiment": name,
        "preset": preset,
        "base": config,
        "points": points(over, sample, sample_seed),
    }
    _claim_folder(folder, asked)
    tasks = [_task(folder, asked, index, point) for index, point in enumerate(asked["points"])]
    threads = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // jobs))
    }
    supervise(tasks, engine, jobs=jobs, retries=retries, environment=threads)
    return SweepResult(folder, tasks, runs_table(tasks, list(over)), claims_table(tasks, list(over)))


def _claim_folder(folder: Path, asked: dict[str, Any]) -> None:
    path = folder / SWEEP
    if path.exists():
        if read_json(path) != asked:
            raise RunError(f"{folder} holds another sweep; use another folder")
        return
    write_json(path, asked)


def _task(folder: Path, asked: Mapping[str, Any], index: int, point: dict[str, Any]) -> Task:
    run_directory = folder / f"{folder.name}-{index:03d}"
    config_file, log = folder / "configs" / f"{index:03d}.json", folder / "logs" / f"{index:03d}.log"
    write_json(config_file, {**asked["base"], **point})
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "fingerpost", "run", asked["experiment"]]
    command += ["--run-dir", str(run_directory), "--config-json", str(config_file)]
    if asked["preset"] is not None:
        command += ["--preset", asked["preset"]]
    return Task(point, run_directory, command, log)
