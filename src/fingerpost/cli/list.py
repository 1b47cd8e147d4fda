"""``fingerpost list``: the experiments. Answers without tyro, numpy or torch."""

from __future__ import annotations

import json

from fingerpost.errors import ConfigError, did_you_mean
from fingerpost.experiments import EXPERIMENTS

HELP = """\
usage: fingerpost list [--json]

Names the experiments that come with fingerpost. Each measures the claims of its sources and says
which hold. You can also run an experiment of your own: fingerpost run path/to/file.py

flags:
  -h, --help  show this help and exit
  --json      one JSON object a line, for machines

example:
  fingerpost list"""


def main(arguments: list[str]) -> int:
    """Prints the registry of experiments."""
    if "-h" in arguments or "--help" in arguments:
        print(HELP)
        return 0
    for word in arguments:
        if word != "--json":
            raise ConfigError(f"fingerpost list knows no {word!r}{did_you_mean(word, ['--json', '--help'])}")
    if "--json" in arguments:
        for entry in EXPERIMENTS.values():
            print(json.dumps(entry._asdict()))
        return 0
    print(_listing())
    return 0


def _listing() -> str:
    width = max(map(len, EXPERIMENTS)) + 2
    paragraphs = [
        f"{entry.name:<{width}}{entry.title}\n{'':<{width}}{entry.summary}" for entry in EXPERIMENTS.values()
    ]
    return "\n".join([*paragraphs, "", "Run one: fingerpost run NAME --preset quick"])
