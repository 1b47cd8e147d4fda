"""``fingerpost show RUN``: one run, and whether its files are as it left them."""

from __future__ import annotations

import json as json_text
import shlex
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from fingerpost._table import Table
from fingerpost.cli.flags import Help, Switch, parse
from fingerpost.cli.tables import claims_table, short_path
from fingerpost.lab import RunFolder, Store, verify

_HELP = Help(
    "show",
    "Shows one run: its claims, its settings, and where and with what it was made. RUN is an identifier from "
    "fingerpost ls, the beginning of one, or a path. "
    "Exit status: 0, or 1 when --verify finds a file that is not as the run left it.",
    "fingerpost show ep-digits-20261123\nfingerpost show runs/my-run --verify",
)


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost show``."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run's identifier, the beginning of it, or its folder."""
    verify: Switch = False
    """Check every file against the SHA-256 that the run ended with."""
    json: Switch = False
    """Print the manifest and the claims as one JSON object, for machines."""


def main(arguments: list[str]) -> int:
    """Prints one run; returns 1 when its files were to be verified and are not as they were."""
    flags = parse(Flags, arguments, _HELP)
    folder = RunFolder(Store().find(flags.run))
    if flags.json:
        claims = [claim.to_json() for claim in folder.claims()]
        print(json_text.dumps({"directory": str(folder.directory), **folder.manifest, "claims": claims}))
    else:
        print("\n\n".join(_parts(folder)))
    return _verified(folder, quiet=flags.json) if flags.verify else 0


def _parts(folder: RunFolder) -> list[str]:
    facts = folder.manifest
    return [
        claims_table(folder.claims(), facts["experiment"]).to_text(),
        Table(("setting", "value"), _rows(facts["config"]), title="Settings").to_text(),
        Table(("fact", "value"), _origin(folder), title="Where it comes from").to_text(),
    ]


def _rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, value if isinstance(value, str) else json_text.dumps(value)) for name, value in values.items()
    ]


def _origin(folder: RunFolder) -> list[tuple[str, Any]]:
    facts = folder.manifest
    git, hardware = facts.get("git") or {}, facts.get("hardware") or {}
    revision = git.get("revision")
    packages = ", ".join(f"{name} {version}" for name, version in (facts.get("packages") or {}).items())
    return [
        ("folder", short_path(folder.directory)),
        ("status", folder.status),
        ("started (UTC)", facts.get("started")),
        ("finished (UTC)", facts.get("finished")),
        ("command", shlex.join(facts.get("command") or [])),
        ("code", f"{revision} with changes" if revision and git.get("dirty") else revision),
        ("python", facts.get("python")),
        ("packages", packages),
        ("processor", hardware.get("cpu")),
        ("gpus", ", ".join(map(str, hardware.get("gpus") or [])) or None),
    ]


def _verified(folder: RunFolder, quiet: bool) -> int:
    problems = verify(folder.directory)
    for problem in problems:
        print(f"fingerpost: {problem}", file=sys.stderr)
    if not problems and not quiet:
        print("\nEvery file is as the run left it.")
    return 1 if problems else 0
