"""``fingerpost run NAME``: an experiment, its claims, and a folder that holds everything."""

from __future__ import annotations

import json as json_text
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from fingerpost.cli.flags import Help, Switch, wrapped
from fingerpost.cli.settings import Settings, as_words, peek, read_settings
from fingerpost.cli.tables import claims_table, short_path
from fingerpost.errors import ConfigError
from fingerpost.experiments import Entry, find_experiment, load_experiment
from fingerpost.experiments.loading import siblings_importable
from fingerpost.lab import Claim, RunFolder, Store, run_experiment
from fingerpost.lab._ranks import here
from fingerpost.lab.folder import MANIFEST
from fingerpost.lab.run import resolved_config

_DESCRIPTION = (
    "Runs an experiment: it measures, states claims and judges them, and keeps everything in one folder. "
    "A run that was stopped goes on where it was. "
    "Exit status: 0 when it completed, whatever its claims say (1 with --strict if one does not hold), "
    "1 for an error, 2 for a wrong command line, 130 after Ctrl-C."
)
_USAGE = """\
usage: fingerpost run NAME… [flags]

{description}

NAME is an experiment (fingerpost list names them) or the path of your own file.
fingerpost run NAME --help shows the flags of that experiment.

examples:
  fingerpost run ep-digits --preset quick
  fingerpost run ep-digits --seed 3 --run-dir my-run
  fingerpost run path/to/my_experiment.py
  torchrun --nproc-per-node 2 --no-python fingerpost run ep-digits"""


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost run``, beside those of the experiment."""

    preset: str = "full"
    """The experiment's settings to start from: quick (minutes) or full."""
    run_dir: Path | None = None
    """Folder of the run: made, gone on with, or found finished. None makes a new one in FINGERPOST_HOME."""
    resume: Switch = False
    """Go on with the newest unfinished run of this experiment, with its settings."""
    config_json: Path | None = None
    """JSON file with settings of the experiment, {"name": value}."""
    threads: int = 1
    """CPU threads of torch. Networks of these sizes run fastest on one, and the same number gives the same bits."""
    strict: Switch = False
    """Exit with 1 when a claim does not hold."""
    json: Switch = False
    """Print one JSON object per event, for machines."""


class _Plan(NamedTuple):
    entry: Entry
    module: ModuleType
    settings: Settings
    standing: Path | None


def main(arguments: list[str]) -> int:
    """Runs each named experiment in turn; all command lines are checked before the first starts."""
    names, rest = _split_names(arguments)
    if not names:
        return _usage(rest)
    if len(names) > 1 and peek(rest, "--run-dir") is not None:
        raise ConfigError(
            f"--run-dir names the folder of one run, and {len(names)} experiments were asked for"
        )
    plans = [_plan(name, rest) for name in names]
    held = [_carry_out(plan) for plan in plans]
    return 0 if all(held) or not plans[0].settings.options.strict else 1


def _split_names(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Experiments come first, flags after them."""
    count = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    return list(arguments[:count]), list(arguments[count:])


def _usage(rest: Sequence[str]) -> int:
    if "--help" in rest or "-h" in rest:
        print(wrapped(_USAGE.format(description=_DESCRIPTION)))
        return 0
    where = " before the flags" if rest else ""
    raise ConfigError(f"fingerpost run needs the name of an experiment{where}; fingerpost list names them")


def _plan(name: str, rest: Sequence[str]) -> _Plan:
    entry = find_experiment(name)
    examples = f"fingerpost run {name} --preset quick\nfingerpost run {name} --resume"
    directory = peek(rest, "--run-dir")
    standing = Path(directory) if directory else None
    if standing is None and "--resume" in rest:
        standing = here().first("the run to resume", lambda: _unfinished(entry))
    module = load_experiment(name)
    about = Help(f"run {name}", f"{entry.summary} {_DESCRIPTION}", examples)
    settings = read_settings(Flags(), rest, entry, module, about, standing)
    if settings.options.threads < 1:
        raise ConfigError(f"--threads is {settings.options.threads}; give at least 1")
    if settings.options.resume and (standing is None or not (standing / MANIFEST).exists()):
        where = f" in {standing}" if standing else ""
        raise ConfigError(f"there is no run of {name} to resume{where}; start one: fingerpost run {name}")
    return _Plan(entry, module, settings, standing)


def _unfinished(entry: Entry) -> Path | None:
    """Finds the newest run of an experiment that was stopped, killed or failed."""
    done = ("completed", "running", "damaged")
    rows = [row for row in Store().list() if row.experiment == entry.name and row.status not in done]
    return Path(rows[-1].path) if rows else None


def _carry_out(plan: _Plan) -> bool:
    """Runs one experiment; returns whether all of its claims hold."""
    as_json = plan.settings.options.json
    directory = plan.standing or here().first("a new folder", lambda: Store().new_directory(plan.entry.name))
    if as_json and not here().rank:
        _print_start(plan, directory)
    try:
        _run(plan, directory)
    except KeyboardInterrupt:
        if not (directory / MANIFEST).exists():
            raise
        resume = shlex.join(["fingerpost", "run", plan.entry.typed, "--run-dir", short_path(directory)])
        raise KeyboardInterrupt(f"stopped; to go on: {resume}") from None
    if here().rank:
        return True  # rank 0 tells the outcome, and its exit status is the command's
    claims = RunFolder(directory).claims()
    if as_json:
        _print_end(plan, directory, claims)
    else:
        _print_outcome(plan, directory, claims)
    return all(claim.holds for claim in claims)


def _run(plan: _Plan, directory: Path) -> None:
    siblings = siblings_importable(Path(plan.entry.module)) if plan.entry.is_file else nullcontext()
    with siblings, _threads(plan.settings.options.threads):
        run_experiment(
            plan.module,
            plan.settings.config,
            directory,
            name=plan.entry.name,
            title=plan.entry.title,
            summary=plan.entry.summary,
            preset=plan.settings.preset,
            command=repeating_words(plan.entry, plan.module, plan.settings),
        )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Runs torch on `count` threads; the process has its own number again afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def repeating_words(entry: Entry, module: ModuleType, settings: Settings) -> list[str]:
    """Writes the command line that repeats a run: its preset, and every setting that differs from it."""
    preset = module.PRESETS.get(settings.preset, settings.config)
    values = resolved_config(settings.config)
    words = ["fingerpost", "run", entry.typed, "--preset", settings.preset]
    if settings.options.threads != 1:
        words += as_words("threads", settings.options.threads)
    for name, usual in resolved_config(preset).items():
        if values[name] != usual:
            words += as_words(name, values[name])
    return words


def _print_start(plan: _Plan, directory: Path) -> None:
    settings = {"preset": plan.settings.preset, "config": resolved_config(plan.settings.config)}
    event = {"event": "start", "experiment": plan.entry.name, "directory": str(directory)}
    print(json_text.dumps({**event, **settings}), flush=True)


def _print_end(plan: _Plan, directory: Path, claims: Sequence[Claim]) -> None:
    for claim in claims:
        print(json_text.dumps({"event": "claim", "experiment": plan.entry.name, **claim.to_json()}))
    held = sum(claim.holds for claim in claims)
    event = {"event": "end", "experiment": plan.entry.name, "directory": str(directory)}
    print(json_text.dumps({**event, "claims": len(claims), "held": held}), flush=True)


def _print_outcome(plan: _Plan, directory: Path, claims: Sequence[Claim]) -> None:
    print(claims_table(claims, plan.entry.name).to_text())
    print(f"\nEverything is in {short_path(directory)}")
    print(f"See it as a page: fingerpost report {shlex.quote(short_path(directory))} --open")
