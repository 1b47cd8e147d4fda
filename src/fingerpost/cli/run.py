"""``fingerpost run NAME``: an experiment, its claims, and a folder that holds everything."""

from __future__ import annotations

import dataclasses
import json as json_text
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from fingerpost._table import Table, format_interval
from fingerpost.cli.flags import Help
from fingerpost.cli.settings import Settings, as_words, peek, read_settings
from fingerpost.errors import ConfigError
from fingerpost.experiments import Entry, find_experiment, load_experiment
from fingerpost.experiments.loading import siblings_importable

_DESCRIPTION = (
    "Runs an experiment: it measures, states claims and judges them, and keeps everything in one folder. "
    "A run that was stopped goes on where it was. The flags below the first group are the experiment's own. "
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
  fingerpost run path/to/my_experiment.py"""


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost run``, beside those of the experiment."""

    preset: str = "full"
    """The experiment's settings to start from: quick (minutes) or full."""
    run_dir: Path | None = None
    """Folder of the run: made, gone on with, or found finished. None makes a new one in FINGERPOST_HOME."""
    resume: bool = False
    """Go on with the newest unfinished run of this experiment, with its settings."""
    config_json: Path | None = None
    """JSON file with settings of the experiment, {"name": value}."""
    strict: bool = False
    """Exit with 1 when a claim does not hold."""
    json: bool = False
    """Print one JSON object per event, for machines."""


class _Plan(NamedTuple):
    entry: Entry
    module: ModuleType
    settings: Settings
    directory: Path


def main(arguments: list[str]) -> int:
    """Runs each named experiment in turn; all command lines are checked before the first starts."""
    names, rest = _split_names(arguments)
    if not names:
        return _usage(rest)
    if len(names) > 1 and peek(rest, "--run-dir") is not None:
        raise ConfigError(f"--run-dir names the folder of one run, and {len(names)} experiments were asked for")
    plans = [_plan(name, rest) for name in names]
    held = [_carry_out(plan) for plan in plans]
    return 0 if all(held) or not plans[0].settings.options.strict else 1


def _split_names(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Experiments come first, flags after them."""
    count = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    return list(arguments[:count]), list(arguments[count:])


def _usage(rest: Sequence[str]) -> int:
    if "--help" in rest or "-h" in rest:
        print(_USAGE.format(description=_DESCRIPTION))
        return 0
    where = " before the flags" if rest else ""
    raise ConfigError(f"fingerpost run needs the name of an experiment{where}; fingerpost list names them")


def _plan(name: str, rest: Sequence[str]) -> _Plan:
    entry = find_experiment(name)
    module = load_experiment(name)
    about = Help(f"run {name}", _DESCRIPTION, f"fingerpost run {name} --preset quick\nfingerpost run {name} --resume")
    directory = peek(rest, "--run-dir")
    standing = Path(directory) if directory else _unfinished(entry) if "--resume" in rest else None
    settings = read_settings(Flags(), rest, entry, module, about, standing)
    if settings.options.resume and standing is None:
        raise ConfigError(f"there is no unfinished run of {name} to resume; start one: fingerpost run {name}")
    return _Plan(entry, module, settings, standing or _new_folder(entry))


def _carry_out(plan: _Plan) -> bool:
    """Runs one experiment; returns whether all of its claims hold."""
    from fingerpost.lab import Claim, RunFolder

    as_json = plan.settings.options.json
    if as_json:
        _print_start(plan)
    try:
        _run(plan)
    except KeyboardInterrupt:
        if not (plan.directory / "manifest.json").exists():
            raise
        resume = shlex.join(["fingerpost", "run", _typed_name(plan.entry), "--run-dir", str(plan.directory)])
        raise KeyboardInterrupt(f"stopped; to go on: {resume}") from None
    claims: list[Claim] = RunFolder(plan.directory).claims()
    if as_json:
        _print_end(plan, claims)
    else:
        _print_outcome(plan, claims)
    return all(claim.holds for claim in claims)


def _run(plan: _Plan) -> None:
    from fingerpost.lab import run_experiment

    with siblings_importable(Path(plan.entry.module)) if _is_file(plan.entry) else nullcontext():
        run_experiment(
            plan.module,
            plan.settings.config,
            plan.directory,
            name=plan.entry.name,
            title=plan.entry.title,
            summary=plan.entry.summary,
            preset=plan.settings.preset,
            command=repeating_words(plan.entry, plan.module, plan.settings),
        )


def repeating_words(entry: Entry, module: ModuleType, settings: Settings) -> list[str]:
    """Writes the command line that repeats a run: its preset, and every setting that differs from it."""
    preset = module.PRESETS.get(settings.preset, settings.config)
    words = ["fingerpost", "run", _typed_name(entry), "--preset", settings.preset]
    for field in dataclasses.fields(settings.config):
        value = getattr(settings.config, field.name)
        if value != getattr(preset, field.name):
            words += as_words(field.name, dataclasses.asdict(settings.config)[field.name])
    return words


def _is_file(entry: Entry) -> bool:
    return entry.module.endswith(".py")


def _typed_name(entry: Entry) -> str:
    return entry.module if _is_file(entry) else entry.name


def _print_start(plan: _Plan) -> None:
    config = json_text.loads(json_text.dumps(dataclasses.asdict(plan.settings.config), default=str))
    event = {"event": "start", "experiment": plan.entry.name, "preset": plan.settings.preset, "config": config}
    print(json_text.dumps({**event, "directory": str(plan.directory)}), flush=True)


def _print_end(plan: _Plan, claims: Sequence[Any]) -> None:
    for claim in claims:
        print(json_text.dumps({"event": "claim", "experiment": plan.entry.name, **claim.to_json()}))
    held = sum(claim.holds for claim in claims)
    event = {"event": "end", "experiment": plan.entry.name, "claims": len(claims), "hold": held}
    print(json_text.dumps({**event, "directory": str(plan.directory)}), flush=True)


def claims_table(claims: Sequence[Any], title: str) -> Table:
    """Lays claims out for a terminal: what is claimed, what was expected and measured, whether it holds."""
    rows = [
        (
            claim.statement,
            f"{claim.expected} {claim.unit}".rstrip(),
            claim.measured,
            format_interval(claim.interval),
            claim.holds,
        )
        for claim in claims
    ]
    return Table(("claim", "expected", "measured", "interval", "holds"), rows, title=title)


def _print_outcome(plan: _Plan, claims: Sequence[Any]) -> None:
    held = sum(claim.holds for claim in claims)
    print(claims_table(claims, f"{plan.entry.name}: {held} of {len(claims)} claims hold").to_text())
    print(f"\nEverything is in {plan.directory}")
    print(f"See it as a page: fingerpost report {shlex.quote(str(plan.directory))} --open")
