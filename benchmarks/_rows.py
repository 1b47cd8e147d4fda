"""Rows of results/*.json in the one format that the report reads: ours over a base, with a peer over the same base."""

from __future__ import annotations

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
    """Time over that of `base`: smaller is better. The peer, if timed, over the same base.

    `times` has the seconds of "ours", of "bare" (the base) and perhaps of the peer by its name.
    """
    median = medians(times)
    ratio = median["ours"] / median["bare"]
    timed = peer is not None and peer in median
    return {
        "system": what,
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
