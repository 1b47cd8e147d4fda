"""``fingerpost report``: one self-contained page from runs."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fingerpost.cli.bench import RESULTS, source_checkout
from fingerpost.cli.flags import Help, Switch, parse
from fingerpost.cli.tables import short_path
from fingerpost.lab import Store
from fingerpost.lab.report import build_report

_HELP = Help(
    "report",
    "Makes one web page from runs: the scoreboard of all claims, then every experiment with its figures, "
    "tables, settings and how to run it again. The page is one file that needs no server and no network. "
    "RUN is an identifier from fingerpost ls, the beginning of one, or a path; without any, all runs are "
    "taken and the newest of each experiment is shown.",
    "fingerpost report --open\nfingerpost report runs/my-run --output my-run.html",
)


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost report``."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN ...]")] = ()
    """The runs to show, each in full; without any, the newest of each experiment."""
    open: Switch = False
    """Open the page in the web browser."""
    output: Path | None = None
    """The file to write; None writes report.html in FINGERPOST_HOME."""


def main(arguments: list[str]) -> int:
    """Writes the page and says where it is."""
    flags = parse(Flags, arguments, _HELP)
    store = Store()
    folders = [store.find(run) for run in flags.runs] or [Path(row.path) for row in store.rebuild()]
    checkout = source_checkout()
    page = build_report(
        folders,
        flags.output or store.home / "report.html",
        benchmarks=checkout / RESULTS if checkout else None,
        show_all=bool(flags.runs),
    )
    print(f"The page is {short_path(page)}")
    if flags.open and not webbrowser.open(page.absolute().as_uri()):
        print("No web browser could be opened; open the file in one by hand.")
    return 0
