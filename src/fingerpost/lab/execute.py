"""Running an experiment: the one function that the command line, sweeps and tests call."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from fingerpost.errors import RunError
from fingerpost.lab._ranks import here
from fingerpost.lab.rng import isolated_rng
from fingerpost.lab.run import Run
from fingerpost.lab.store import Store


def run_experiment(
    module: ModuleType | Any,
    config: Any,
    directory: Path | str | None = None,
    *,
    name: str | None = None,
    title: str = "",
    summary: str = "",
    preset: str = "custom",
    command: Sequence[str] = (),
    resume: bool = True,
) -> Run:
    """Starts, resumes or finds finished one run of an experiment.

    The global random generators are seeded from the configuration's ``seed`` inside, and given back after. Under
    torchrun every process calls this alike, and rank 0 alone writes the folder.

    Args:
      module: The experiment: a module (or any object) with ``run(config, run)`` and perhaps
        ``check(config)``.
      config: Its configuration, an instance of its ``Config``.
      directory: The run folder; None makes a new one in the store.
      name: The experiment's name; the module's own when None.
      title: The experiment's title, kept for readers of the folder.
      summary: What it measures, in a sentence or two.
      preset: The name of the preset that `config` came from.
      command: The words of the command line that repeats this run.
      resume: Whether a run that stands in `directory` may be continued.

    Returns:
      The run, closed; ``run.finished`` is True.

    Raises:
      ConfigError: If ``check`` refuses the configuration; nothing is written then.
      RunError: If the folder cannot be written or resumed.
      BaseException: Whatever the experiment raises, once the manifest tells it: KeyboardInterrupt as
        ``"interrupted"``, an Exception as ``"error: …"``. The run can be resumed.
    """
    if hasattr(module, "check"):
        module.check(config)
    experiment = name or module.__name__.rpartition(".")[2].replace("_", "-")
    importlib.import_module("torch")  # loaded now, so that the manifest and the generators below know it
    if directory is None:
        directory = here().first("a new folder", lambda: Store().new_directory(experiment))
    facts = {"title": title, "summary": summary, "preset": preset, "resume": resume}
    run = Run.open(directory, experiment=experiment, config=config, command=command, **facts)
    _record(run)
    if not run.finished:
        try:
            _carry_out(module, config, run)
        finally:
            _record(run)
    return run


def _record(run: Run) -> None:
    """Takes the run into the index; the index is never the only copy, so a failure is a warning."""
    if here().rank:
        return
    try:
        Store().record(run.directory)
    except RunError as error:
        warnings.warn(f"the run goes on, but is not listed: {error}", stacklevel=3)


def _carry_out(module: ModuleType | Any, config: Any, run: Run) -> None:
    try:
        with isolated_rng(run.seed, "run"):
            module.run(config, run)
        here().together("the end of the experiment", lambda: None)
    except KeyboardInterrupt:
        run.close("interrupted")
        raise
    except BaseException as error:
        run.close(f"error: {type(error).__name__}: {error}")
        raise
    run.close("completed")
