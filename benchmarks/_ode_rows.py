"""Rows of results/ode.json, in the one format that the report reads."""

from __future__ import annotations

from typing import Any

from _interleave import medians, ratio_interval

Times = dict[str, list[float]]


def speed_up(
    what: str, case: str, times: Times, ours: str, peer: str, peer_name: str, target: float | None, note: str
) -> dict[str, Any]:
    """How many times less CPU time ours takes than the peer: larger is better."""
    median = medians({ours: times[ours], peer: times[peer]})
    ratio = median[peer] / median[ours]
    return _row(
        what, case, ratio, "× faster", target, None if target is None else ratio >= target,
        ours=median[ours] * 1e3, base=median[peer] * 1e3, peer_name=peer_name,
        interval=ratio_interval(times[peer], times[ours]), repeats=len(times[ours]), note=note,
    )  # fmt: skip


def over_floor(
    what: str, case: str, ours: list[float], floor: list[float], target: float | None, note: str
) -> dict[str, Any]:
    """CPU time over that of the evaluations alone: smaller is better."""
    median = medians({"ours": ours, "floor": floor})
    ratio = median["ours"] / median["floor"]
    return _row(
        what, case, ratio, "× its evaluations", target, None if target is None else ratio <= target,
        ours=median["ours"] * 1e3, base=median["floor"] * 1e3, floor=1.0,
        interval=ratio_interval(ours, floor), repeats=len(ours), note=note,
    )  # fmt: skip


def figure(
    what: str, case: str, value: float, unit: str, *, peer: float | None = None, peer_name: str | None = None,
    target: float | None = None, note: str = "",
) -> dict[str, Any]:  # fmt: skip
    """A figure that is no time: an error, smaller is better."""
    holds = None if target is None else value <= target
    return _row(what, case, value, unit, target, holds, peer=peer, peer_name=peer_name, note=note)


def absent(what: str, case: str, peer_name: str, note: str) -> dict[str, Any]:
    """A peer that could not be measured."""
    return _row(what, case, None, "× faster", None, None, peer_name=peer_name, note=note)


def _row(
    what: str,
    case: str,
    ratio: float | None,
    unit: str,
    target: float | None,
    holds: bool | None,
    *,
    ours: float | None = None,
    base: float | None = None,
    peer: float | None = None,
    peer_name: str | None = None,
    floor: float | None = None,
    interval: list[float] | None = None,
    repeats: int = 1,
    note: str = "",
) -> dict[str, Any]:
    return {
        "system": f"ode: {what}",
        "case": case,
        "ours": ours,
        "base": base,
        "peer": peer,
        "peer_name": peer_name,
        "floor": floor,
        "ratio": ratio,
        "interval": interval,
        "target": target,
        "holds": holds,
        "unit": unit,
        "repeats": repeats,
        "note": note,
    }
