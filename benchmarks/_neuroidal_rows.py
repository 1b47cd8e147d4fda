"""Rows of results/neuroidal.json, in the one format that the report reads."""

from __future__ import annotations

import statistics

from _rows import Row


def measured(
    what: str, case: str, values: list[float], unit: str, target: float | None = None, note: str = ""
) -> Row:
    """A figure with a unit of its own, the median of its values: smaller is better."""
    value = statistics.median(values)
    return {
        "system": what,
        "case": case,
        "ours": None,
        "base": None,
        "peer": None,
        "peer_name": None,
        "floor": None,
        "ratio": value,
        "interval": [min(values), max(values)],
        "target": target,
        "holds": None if target is None else value <= target,
        "unit": unit,
        "repeats": len(values),
        "note": note,
    }


def smallest(times: dict[str, list[float]], start: str, name: str) -> dict[str, list[float]]:
    """The times with the fastest of those whose name starts so under one name."""
    ways = {key: values for key, values in times.items() if key.startswith(start)}
    rest = {key: values for key, values in times.items() if key not in ways}
    return rest | {name: min(ways.values(), key=statistics.median)}


def per_edge(times: dict[str, list[float]], edges: int) -> str:
    """What an edge costs each way, in words."""
    names = {"ours": "ours", "bare": "the base"}
    parts = [
        f"{names.get(name, name)} {statistics.median(values) / edges * 1e9:.3g} ns"
        for name, values in times.items()
    ]
    return "per edge: " + ", ".join(parts)
