"""``fingerpost ls``: the runs made so far."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict, dataclass

from fingerpost.cli.flags import Help, Switch, parse
from fingerpost.cli.tables import runs_table, short_path
from fingerpost.lab import Store

_HELP = Help(
    "ls",
    "Lists the runs in FINGERPOST_HOME, oldest first, and those recorded from elsewhere. "
    "A run that cannot be read is listed as damaged, with the reason.",
    "fingerpost ls\nfingerpost ls --rebuild",
)


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost ls``."""

    rebuild: Switch = False
    """Make the index anew from the run folders."""
    json: Switch = False
    """Print one JSON object per run, for machines."""


def main(arguments: list[str]) -> int:
    """Prints the index of runs."""
    flags = parse(Flags, arguments, _HELP)
    store = Store()
    rows = store.rebuild() if flags.rebuild else store.list()
    if flags.json:
        for row in rows:
            print(json_text.dumps(asdict(row)))
    elif rows:
        print(runs_table(rows).to_text())
    else:
        print(f"There are no runs in {short_path(store.home)} yet. Make one: {_FIRST}")
    return 0


_FIRST = "fingerpost run ep-digits --preset quick"
