"""What a sweep found, as two tables: its runs, and each claim's mean over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fingerpost._table import Table, format_interval
from fingerpost.errors import RunError
from fingerpost.lab.claims import Claim
from fingerpost.lab.folder import RunFolder
from fingerpost.lab.intervals import mean_interval
from fingerpost.lab.supervisor import Task


def _read_claims(task: Task) -> list[Claim]:
    try:
        return RunFolder(task.directory).claims()
    except RunError:
        return []


def runs_table(tasks: Sequence[Task], names: Sequence[str]) -> Table:
    """Lays out the runs: one row each, with its point, how it ended, and how many claims hold.

    Args:
      tasks: The runs.
      names: What is swept over, one column each.
    """
    rows = []
    for task in tasks:
        claims = _read_claims(task)
        held = f"{sum(claim.holds for claim in claims)}/{len(claims)}"
        cells = [task.point.get(name) for name in names]
        rows.append((task.directory.name, *cells, task.status, task.tries, held, task.problem))
    return Table(("run", *names, "status", "tries", "claims held", "problem"), rows, title="Runs")


def claims_table(tasks: Sequence[Task], names: Sequence[str]) -> Table:
    """Lays out each claim's mean over seeds, with its 95 % t interval, at each setting of the other names.

    Args:
      tasks: The runs; those that did not complete are left out.
      names: What is swept over.
    """
    settings = [name for name in names if name != "seed"]
    groups: dict[tuple[Any, ...], list[Claim]] = {}
    for task in tasks:
        if task.status == "completed":
            point = tuple(task.point.get(name) for name in settings)
            for claim in _read_claims(task):
                groups.setdefault((claim.name, *point), []).append(claim)
    rows = [_claim_row(key, claims) for key, claims in groups.items()]
    columns = ("claim", *settings, "runs", "mean measured", "interval", "held")
    caption = "Mean over seeds with its 95 % interval (Student's t)."
    return Table(columns, rows, title="Claims over seeds", caption=caption)


def _claim_row(key: tuple[Any, ...], claims: Sequence[Claim]) -> tuple[Any, ...]:
    values = [claim.measured for claim in claims]
    held = f"{sum(claim.holds for claim in claims)}/{len(claims)}"
    if len(values) < 2:
        return (*key, len(values), values[0], None, held)
    found = mean_interval(values)
    return (*key, len(values), found.mean, format_interval(found.interval), held)
