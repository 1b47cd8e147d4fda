"""How runs and claims look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fingerpost._table import Table, format_interval
from fingerpost.lab import Claim, RunRow


def short_path(path: Path) -> str:
    """Writes a path from the current folder where it lies below that, and whole where it does not."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def claims_table(claims: Sequence[Claim], subject: str) -> Table:
    """Lays claims out: what is claimed, what was expected and measured, whether it holds."""
    rows = [
        (
            claim.statement,
            f"{claim.expected} {claim.unit}".rstrip(),
            claim.measured,
            format_interval(claim.interval),
            claim.holds,
        )
        for claim in claims
    ]
    held = sum(claim.holds for claim in claims)
    title = f"{subject}: {held} of {len(claims)} claims hold" if claims else f"{subject} states no claims"
    return Table(("claim", "expected", "measured", "interval", "holds"), rows, title=title)


def runs_table(rows: Sequence[RunRow]) -> Table:
    """Lays runs out, oldest first."""
    cells = [
        (
            row.id,
            row.experiment or None,
            row.preset or None,
            row.seed if row.started else None,
            row.started or None,
            f"{row.held} of {row.claims}" if row.claims else None,
            f"{row.status}: {row.problem}" if row.problem else row.status,
        )
        for row in rows
    ]
    return Table(("run", "experiment", "preset", "seed", "started (UTC)", "claims hold", "status"), cells)
