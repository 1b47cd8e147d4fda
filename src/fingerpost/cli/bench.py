"""``fingerpost bench``: the benchmarks of a source checkout."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

import fingerpost
from fingerpost.cli.flags import Help, parse
from fingerpost.errors import ConfigError, did_you_mean

RESULTS = Path("benchmarks", "results")
"""Where a source checkout keeps the results of its benchmarks."""

_HELP = Help(
    "bench",
    "Times fingerpost and its peers on the same work, one system after another, and writes "
    "benchmarks/results/SYSTEM.json, which the report shows. Works from a source checkout. "
    "Exit status: 0 when every benchmark ran, 1 when one failed.",
    "fingerpost bench\nfingerpost bench credit",
)


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost bench``."""

    systems: tyro.conf.Positional[tuple[str, ...]] = ()
    """Systems to time; all of them when none is named."""


def main(arguments: list[str]) -> int:
    """Runs the named benchmarks, each in its own process."""
    flags = parse(Flags, arguments, _HELP)
    scripts = benchmark_scripts(source_checkout())
    for system in flags.systems:
        if system not in scripts:
            hint = did_you_mean(system, scripts) or f"; there are {', '.join(scripts)}"
            raise ConfigError(f"there is no benchmark {system!r}{hint}")
    failed = [
        name
        for name in flags.systems or scripts
        if subprocess.run([sys.executable, scripts[name]]).returncode
    ]
    if failed:
        print(f"fingerpost: these benchmarks failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def source_checkout() -> Path | None:
    """Finds the source checkout that fingerpost is imported from; None when it is an installed package."""
    root = Path(fingerpost.__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() and (root / "benchmarks").is_dir() else None


def benchmark_scripts(checkout: Path | None) -> dict[str, Path]:
    """Finds the benchmarks of a source checkout, by system.

    Raises:
      ConfigError: If there is no checkout; the message says how to get one.
    """
    if checkout is None:
        raise ConfigError(
            "benchmarks come with the source, not with the installed package: get a source checkout, "
            "install it with `pip install -e .`, and run fingerpost bench again"
        )
    return {
        path.stem: path
        for path in sorted((checkout / "benchmarks").glob("*.py"))
        if not path.name.startswith("_")
    }
