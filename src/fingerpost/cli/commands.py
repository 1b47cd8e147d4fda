"""The commands: one row here and one file beside this one. Nothing here may import tyro, numpy or torch."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """A row of the command table.

    Args:
      name: What is typed; the file that answers is ``fingerpost/cli/<name>.py``, by its ``main(arguments)``.
      arguments: What follows the name, as the help shows it.
      summary: What it does, in one line.
    """

    name: str
    arguments: str
    summary: str

    @property
    def module(self) -> str:
        """The module whose ``main(arguments: list[str]) -> int`` carries the command out."""
        return f"fingerpost.cli.{self.name}"


COMMANDS: dict[str, Command] = {
    row.name: row
    for row in (
        Command("list", "", "name the experiments that can be run"),
        Command("run", "NAME…", "run an experiment: measure, judge its claims, keep everything in a folder"),
        Command("report", "[RUN…]", "make one self-contained web page from runs"),
        Command("ls", "", "list the runs made so far"),
        Command("show", "RUN", "show one run: its claims, settings and where they came from"),
        Command("compare", "RUN RUN", "set two runs side by side"),
        Command("sweep", "NAME --over …", "run an experiment at many settings and seeds"),
        Command("audit", "FILE:FUNCTION", "check your own learning signal against the true gradient"),
        Command("translate", "RUN", "translate lines of text with the model that a run has trained"),
        Command("leakwatch", "SCRIPT …", "run your own script and name the lines that keep memory for ever"),
        Command("lint", "PATH…", "hints at lines that may keep memory, without running anything"),
        Command("bench", "[SYSTEM…]", "time fingerpost beside its peers (from a source checkout)"),
        Command("doctor", "", "check this machine: versions, extras, folders, tools"),
        Command("completion", "bash|zsh|fish", "print a script that completes commands in your shell"),
    )
}


class HelpShown(Exception):
    """Help was asked for and has been printed: the command ends, with status 0."""


EXAMPLE = """\
A first run, and its page:
  fingerpost run ep-digits --preset quick
  fingerpost report --open"""


def overview() -> str:
    """The text of ``fingerpost --help``."""
    left = [f"  {row.name} {row.arguments}".rstrip() for row in COMMANDS.values()]
    width = max(map(len, left)) + 2
    rows = [f"{head:<{width}}{row.summary}" for head, row in zip(left, COMMANDS.values())]
    return "\n".join(
        [
            "usage: fingerpost [--help] [--version] [--traceback] COMMAND …",
            "",
            "Learning signals: compute them, train with them, audit whether they point the right way.",
            "",
            "commands:",
            *rows,
            "",
            "fingerpost COMMAND --help says what a command does, with its flags and an example.",
            "FINGERPOST_HOME names the folder where runs are kept (default: ./runs).",
            "--traceback, or FINGERPOST_TRACEBACK=1, shows where an error came from.",
            "",
            EXAMPLE,
        ]
    )
