"""Two runs side by side, and a run against the checksums that it was finished with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fingerpost._table import Table, format_interval
from fingerpost.errors import RunError
from fingerpost.lab.claims import Claim
from fingerpost.lab.folder import RunFolder
from fingerpost.lab.run import checksums


def compare(first: Path | str, second: Path | str) -> list[Table]:
    """Compares two runs.

    Args:
      first: A run folder.
      second: Another.

    Returns:
      Three tables: the settings that differ, the claims side by side, the last metrics of each stage.

    Raises:
      RunError: If a folder cannot be read.
    """
    a, b = RunFolder(first), RunFolder(second)
    return [_settings(a, b), _claims(a, b), _metrics(a, b)]


def verify(directory: Path | str) -> list[str]:
    """Checks every file of a finished run against the SHA-256 that its manifest holds.

    Args:
      directory: The run folder.

    Returns:
      One sentence per file that is changed, missing or new; empty when all is as it was finished.

    Raises:
      RunError: If the folder cannot be read, or the run was never finished (it has no checksums).
    """
    folder = RunFolder(directory)
    if folder.status != "completed":
        raise RunError(f"{folder.directory} is {folder.status}: a run has checksums once it is completed")
    told, found = folder.manifest.get("files") or {}, checksums(folder.directory)
    problems = []
    for path in sorted({*told, *found}):
        if path not in found:
            problems.append(f"{folder.directory / path} is missing")
        elif path not in told:
            problems.append(f"{folder.directory / path} was not there when the run completed")
        elif told[path] != found[path]:
            problems.append(f"{folder.directory / path} has changed since the run completed")
    return problems


def _names(a: RunFolder, b: RunFolder) -> tuple[str, str]:
    return (a.id, b.id) if a.id != b.id else (str(a.directory), str(b.directory))


def _settings(a: RunFolder, b: RunFolder) -> Table:
    rows = []
    for key in dict.fromkeys([*a.manifest, *b.manifest]):
        if key in ("experiment", "preset", "git", "packages", "python", "threads"):
            rows.append((key, a.manifest.get(key), b.manifest.get(key)))
    config_a, config_b = a.manifest["config"], b.manifest["config"]
    rows += [(key, config_a.get(key), config_b.get(key)) for key in dict.fromkeys([*config_a, *config_b])]
    differing = [(key, _cell(x), _cell(y)) for key, x, y in rows if x != y]
    return Table(("setting", *_names(a, b)), differing, title="What differs")


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _claims(a: RunFolder, b: RunFolder) -> Table:
    of_a = {claim.name: claim for claim in a.claims()}
    of_b = {claim.name: claim for claim in b.claims()}
    rows = []
    for name in dict.fromkeys([*of_a, *of_b]):
        x, y = of_a.get(name), of_b.get(name)
        expected = (x or y).expected  # pyright: ignore[reportOptionalMemberAccess]
        rows.append((name, expected, *_claim_cells(x), *_claim_cells(y)))
    one, other = _names(a, b)
    columns = ["claim", "expected"]
    for run in (one, other):
        columns += [f"measured ({run})", f"interval ({run})", f"holds ({run})"]
    return Table(columns, rows, title="Claims")


def _claim_cells(claim: Claim | None) -> tuple[Any, Any, Any]:
    if claim is None:
        return None, None, None
    return claim.measured, format_interval(claim.interval), claim.holds


def _metrics(a: RunFolder, b: RunFolder) -> Table:
    last_a, last_b = _last(a), _last(b)
    keys = list(dict.fromkeys([*last_a, *last_b]))
    rows = [(stage, name, last_a.get((stage, name)), last_b.get((stage, name))) for stage, name in keys]
    return Table(("stage", "metric", *_names(a, b)), rows, title="Last metrics of each stage")


def _last(folder: RunFolder) -> dict[tuple[str, str], float]:
    last = {}
    for row in folder.metrics():
        last |= {(row["stage"], name): value for name, value in row.items() if name != "stage"}
    return last
