"""``fingerpost compare RUN RUN``: two runs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from fingerpost.cli.flags import Help, parse
from fingerpost.lab import Store, compare

_HELP = Help(
    "compare",
    "Sets two runs side by side: the settings that differ, their claims, and the last metrics of each stage. "
    "RUN is an identifier from fingerpost ls, the beginning of one, or a path.",
    "fingerpost compare ep-digits-20261123-1 ep-digits-20261124\nfingerpost compare runs/a runs/b",
)


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost compare``."""

    first: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """One run."""
    second: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OTHER-RUN")]
    """The other."""


def main(arguments: list[str]) -> int:
    """Prints the comparison."""
    flags = parse(Flags, arguments, _HELP)
    store = Store()
    tables = compare(store.find(flags.first), store.find(flags.second))
    print("\n\n".join(table.to_text() if table.rows else f"{table.title}: nothing" for table in tables))
    return 0
