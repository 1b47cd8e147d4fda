"""Rows of results/flow.json, in the one format that the report reads."""

from __future__ import annotations

import statistics

from _rows import Row


def distance(
    what: str,
    case: str,
    ours: list[float],
    floors: list[float],
    target: float,
    peer: list[float] | None,
    note: str,
) -> Row:
    """A distance of samples from data, the mean over seeds: smaller is better."""
    value = statistics.mean(ours)
    return {
        "system": f"flow: {what}",
        "case": case,
        "ours": None,
        "base": None,
        "peer": None if peer is None else statistics.mean(peer),
        "peer_name": "torchcfm",
        "floor": statistics.mean(floors),
        "ratio": value,
        "interval": [min(ours), max(ours)],
        "target": target,
        "holds": value <= target,
        "unit": "W₂",
        "repeats": len(ours),
        "note": note or "mean over seeds, the interval their range",
    }
