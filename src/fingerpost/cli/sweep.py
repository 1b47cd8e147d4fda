"""``fingerpost sweep NAME --over …``: an experiment at many settings and seeds."""

from __future__ import annotations

import json as json_text
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fingerpost.cli.flags import Help, Switch, wrapped
from fingerpost.cli.settings import config_from_mapping, peek, read_settings
from fingerpost.cli.tables import short_path
from fingerpost.errors import ConfigError
from fingerpost.experiments import find_experiment, load_experiment
from fingerpost.lab import Store
from fingerpost.lab.executors import make_executor
from fingerpost.lab.sweeps import SweepResult, parse_over, sweep

_DESCRIPTION = (
    "Runs an experiment at every combination of the given values, each in its own process and folder. A run "
    "that is killed is started again and goes on where it was; so does the whole sweep, in the same "
    "--sweep-dir. Exit status: 0 when every run completed, 1 when one did not, 2 for a wrong command line, "
    "130 after Ctrl-C."
)
_EXAMPLES = (
    "fingerpost sweep ep-digits --preset quick --over seed=0:5\n"
    "fingerpost sweep path/to/mine.py --over sigma=1,2,5 seed=0:5 --jobs 2"
)
_USAGE = """\
usage: fingerpost sweep NAME --over SETTING=VALUES … [flags]

{description}

NAME is an experiment (fingerpost list names them) or the path of your own file.
VALUES are 1,2,5 or, for whole numbers, start:stop with the stop left out.
fingerpost sweep NAME --help shows all flags.

examples:
{examples}"""


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost sweep``, beside those of the experiment."""

    over: tuple[str, ...] = ()
    """What to vary: sigma=1,2,5 seed=0:5 runs 3 × 5 combinations."""
    preset: str = "full"
    """The experiment's settings to start from: quick (minutes) or full."""
    config_json: Path | None = None
    """JSON file with settings of the experiment, {"name": value}."""
    executor: str = "local"
    """Where the runs are made: local is this machine."""
    jobs: int = 2
    """Runs at a time."""
    retries: int = 1
    """How often a run that failed or was killed is started again."""
    sample: int | None = None
    """Draw this many combinations at random instead of all; every seed is run for each."""
    sample_seed: int = 0
    """Seed of that draw."""
    sweep_dir: Path | None = None
    """Folder of the sweep: made, or gone on with. None makes a new one in FINGERPOST_HOME."""
    json: Switch = False
    """Print one JSON object per run, for machines."""


def main(arguments: list[str]) -> int:
    """Sweeps; every value is checked before the first run starts."""
    if not arguments or arguments[0].startswith("-"):
        return _usage(arguments)
    name, rest = arguments[0], arguments[1:]
    entry, module = find_experiment(name), load_experiment(name)
    settings = read_settings(
        Flags(), rest, entry, module, Help(f"sweep {name}", _DESCRIPTION, _EXAMPLES), None
    )
    options = settings.options
    over = parse_over(options.over)
    _check(over, settings.config, module, options.executor)
    folder = options.sweep_dir or Store().new_directory(f"{entry.name}-sweep")
    try:
        result = sweep(
            entry.typed,
            over,
            settings.config,
            preset=settings.preset,
            directory=folder,
            executor=options.executor,
            jobs=options.jobs,
            retries=options.retries,
            sample=options.sample,
            sample_seed=options.sample_seed,
        )
    except KeyboardInterrupt:
        again = shlex.join(["fingerpost", "sweep", *_with_folder(arguments, folder)])
        raise KeyboardInterrupt(f"stopped; to go on: {again}") from None
    _print(result, options.json)
    return 1 if result.failed else 0


def _usage(arguments: Sequence[str]) -> int:
    if "--help" in arguments or "-h" in arguments:
        examples = "\n".join(f"  {line}" for line in _EXAMPLES.splitlines())
        print(wrapped(_USAGE.format(description=_DESCRIPTION, examples=examples)))
        return 0
    where = " before the flags" if arguments else ""
    raise ConfigError(f"fingerpost sweep needs the name of an experiment{where}; fingerpost list names them")


def _check(over: Mapping[str, Sequence[Any]], config: Any, module: ModuleType, executor: str) -> None:
    if not over:
        raise ConfigError("fingerpost sweep needs --over, such as --over sigma=1,2,5 seed=0:5")
    make_executor(executor)
    for name, values in over.items():
        for value in values:
            changed = config_from_mapping({name: value}, config, "--over")
            if hasattr(module, "check"):
                module.check(changed)


def _with_folder(arguments: Sequence[str], folder: Path) -> list[str]:
    if peek(arguments, "--sweep-dir") is not None:
        return list(arguments)
    return [*arguments, "--sweep-dir", short_path(folder)]


def _print(result: SweepResult, as_json: bool) -> None:
    if not as_json:
        tables = [table.to_text() for table in (result.runs, result.claims) if table.rows]
        print("\n\n".join([*tables, f"Everything is in {short_path(result.directory)}"]))
        return
    for task in result.tasks:
        row = {"directory": str(task.directory), "settings": task.point, "status": task.status}
        print(json_text.dumps({**row, "tries": task.tries, "problem": task.problem}))
