"""``fingerpost leakwatch SCRIPT …``: a user's own script, unchanged, under the guard."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fingerpost.cli.flags import Help, parse
from fingerpost.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from fingerpost.leakwatch import LeakReport

_HELP = Help(
    "leakwatch",
    "Runs your own script, unchanged, and names each line whose in-place operation makes a graph hold itself: such "
    "memory is never freed. What follows the script is the script's. The report goes to stderr. Child processes and "
    "compiled regions are not watched; the report says so. "
    "Exit status: 1 when a line leaks, otherwise the script's own; 2 when the script cannot be run.",
    "fingerpost leakwatch train.py --epochs 1\n"
    "fingerpost leakwatch --output leaks.json train.py\n"
    "torchrun --nproc-per-node 2 --no-python fingerpost leakwatch train.py",
)


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost leakwatch``; they stand before the script."""

    script: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SCRIPT [ARGUMENT…]")]
    """Your script."""
    output: Path | None = None
    """Also write the report to this file, as JSON."""


def main(arguments: list[str]) -> int:
    """Runs the script, prints the report, and returns 1 when a line leaks."""
    own, rest = _split(arguments)
    flags = parse(Flags, own, _HELP)
    if not Path(flags.script).is_file():
        folder = Path(flags.script).parent
        near = [file.name for file in folder.glob("*.py")] if folder.is_dir() else []
        raise ConfigError(f"there is no file {flags.script!r}{did_you_mean(Path(flags.script).name, near)}")
    if flags.output is not None and not flags.output.parent.is_dir():
        raise ConfigError(f"there is no folder {str(flags.output.parent)!r} to write the report to")
    from fingerpost.leakwatch.script import watch_script

    try:
        watched = watch_script(flags.script, rest)
    except (SyntaxError, UnicodeDecodeError, ValueError, OSError) as error:
        raise ConfigError(f"{flags.script} cannot be run: {type(error).__name__}: {error}") from error
    if watched.report is None:
        return watched.status
    _show(watched.report, flags.output)
    return 1 if watched.report.leaks else watched.status


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Ours, up to the script, and the script's."""
    takes_value = ("--output",)
    index = 0
    while index < len(arguments) and arguments[index].startswith("-"):
        index += 2 if arguments[index] in takes_value else 1
    return arguments[: index + 1], arguments[index + 1 :]


def _show(report: LeakReport, output: Path | None) -> None:
    sys.stdout.flush()
    rank = os.environ.get("RANK")
    prefix = "" if rank is None else f"rank {rank}, "
    print(f"{prefix}{report}", file=sys.stderr)
    if output is not None:
        output.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
