"""``fingerpost lint PATH…``: hints at lines that may keep memory, from their text alone."""

from __future__ import annotations

import dataclasses
import json as json_text
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from fingerpost.cli.flags import Help, Switch, parse
from fingerpost.errors import ConfigError, InvalidValueError

_HELP = Help(
    "lint",
    "Reads Python files, or all in a folder, and hints at in-place operations whose graph would hold itself, and at "
    "custom autograd Functions that keep their own output on ctx. Nothing is run. Hints, no findings: "
    "fingerpost leakwatch says whether a line leaks. Exit status: 0; with --strict, 1 when there is a hint.",
    "fingerpost lint train.py\nfingerpost lint src --strict",
)


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost lint``."""

    paths: tyro.conf.Positional[tuple[Path, ...]]
    """Python files and folders."""
    json: Switch = False
    """Print one JSON object a line, for machines."""
    strict: Switch = False
    """Exit with status 1 when there is a hint."""


def main(arguments: list[str]) -> int:
    """Prints the hints, and a line of what was read."""
    flags = parse(Flags, arguments, _HELP)
    if not flags.paths:
        raise ConfigError("fingerpost lint needs PATH, a Python file or a folder (fingerpost lint --help)")
    from fingerpost.leakwatch.lint import lint_paths

    try:
        hints, lines, failures = lint_paths(list(flags.paths))
    except InvalidValueError as error:
        raise ConfigError(str(error)) from error
    for hint in hints:
        print(json_text.dumps(dataclasses.asdict(hint)) if flags.json else hint)
    for failure in failures:
        print(f"not read: {failure}", file=sys.stderr)
    if not flags.json:
        many = "" if len(hints) == 1 else "s"
        print(f"{len(hints)} hint{many} in {lines:,} lines")
    return 1 if hints and flags.strict else 0
