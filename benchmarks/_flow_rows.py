"""Rows of results/flow.json, in the one format that the report reads."""

from __future__ import annotations

import statistics
from typing import Any

from _interleave import medians, ratio_interval

Row = dict[str, Any]


def over_base(
    what: str,
    case: str,
    times: dict[str, list[float]],
    base: str,
    target: float | None,
    peer: str | None,
    note: str,
) -> Row:
    """Time over that of `base`: smaller is better. The peer, if timed, over the same base."""
    median = medians(times)
    ratio = median["ours"] / median["bare"]
    timed = peer is not None and peer in median
    return {
        "system": f"flow: {what}",
        "case": case,
        "ours": median["ours"] * 1e3,
        "base": median["bare"] * 1e3,
        "peer": median[peer] / median["bare"] if timed and peer else None,
        "peer_name": peer,
        "floor": None,
        "ratio": ratio,
        "interval": ratio_interval(times["ours"], times["bare"]),
        "target": target,
        "holds": None if target is None else ratio <= target,
        "unit": f"× {base}",
        "repeats": len(times["ours"]),
        "note": note,
    }


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
