"""The scoreboard: every claim of every experiment, what was expected, what was measured, whether it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fingerpost._table import format_interval, format_number
from fingerpost.lab.claims import Claim
from fingerpost.lab.report.markup import Markup, join, linkify, tag

_WIDTH, _HEIGHT, _MARGIN = 120.0, 18.0, 8.0


@dataclass(frozen=True)
class Entry:
    """One claim, where it stands on the page, and how its run ended when it is not complete and whole."""

    claim: Claim
    experiment: str
    anchor: str
    state: Markup | None = None


def verdict_mark(holds: bool) -> Markup:
    """Says whether a claim holds by word and shape; colour only repeats it."""
    shape, word = ("✓", "holds") if holds else ("✗", "does not hold")
    kind = "mark mark-yes" if holds else "mark mark-no"
    return tag("span", tag("span", shape, class_="shape", aria_hidden="true"), " ", word, class_=kind)


def measured_text(claim: Claim) -> Markup:
    """The measured value with its unit, and its interval."""
    value = tag(
        "span", format_number(claim.measured, 4), f" {claim.unit}" if claim.unit else None, class_="value"
    )
    if claim.interval is None:
        return value
    return join([value, " ", tag("span", format_interval(claim.interval), class_="interval")])


def accepted_text(claim: Claim) -> str:
    """The values that agree with the claim, as a range."""
    low, high = (None if bound is None else format_number(float(bound)) for bound in (claim.low, claim.high))
    if low is None:
        return f"≤ {high}"
    if high is None:
        return f"≥ {low}"
    return f"exactly {low}" if claim.low == claim.high else f"{low} to {high}"


def _is_above(claim: Claim) -> bool:
    """Whether "> x" is all that is accepted: from x itself on, or from the least number above 0 that the claim names."""
    sign, _, number = str(claim.expected).partition(" ")
    if sign != ">" or claim.low is None or claim.high is not None:
        return False
    try:
        x = float(number)
    except ValueError:
        return False
    return claim.low == x or (x == 0 and 0 < claim.low <= 1e-6)


def expected_text(claim: Claim) -> Markup:
    """What the source expects, and the values accepted as such where that says more."""
    accepted = accepted_text(claim)
    value = tag("span", str(claim.expected), class_="value")
    if accepted == str(claim.expected) or _is_above(claim):
        return value
    return join([value, " ", tag("span", f"accepted: {accepted}", class_="interval")])


def scoreboard(entries: Sequence[Entry], warning: Markup | None = None) -> Markup:
    """The section with the counts, a warning where there is one, the controls and the table of all claims."""
    holding = sum(entry.claim.holds for entry in entries)
    heading = tag("h2", "Scoreboard", id="scoreboard-title")
    if not entries:
        body = join([tag("p", "No claim has been measured yet.", class_="empty"), warning])
    else:
        body = join([_headline(holding, len(entries)), warning, _controls(len(entries)), _table(entries)])
    return tag("section", heading, body, id="scoreboard", aria_labelledby="scoreboard-title")


def _headline(holding: int, total: int) -> Markup:
    failing = total - holding
    parts = (
        tag("span", str(holding), class_="count"),
        f" of {total} claims hold" if total > 1 else " of 1 claim holds",
    )
    rest = "" if not failing else "; 1 does not" if failing == 1 else f"; {failing} do not"
    return tag("p", *parts, rest, ".", class_="headline", data_holding=holding, data_failing=failing)


def _controls(total: int) -> Markup:
    text = join(
        [
            tag("label", "Filter claims", for_="filter-text"),
            tag("input", type="search", id="filter-text", autocomplete="off", spellcheck="false"),
        ]
    )
    choices = (("all", "All"), ("yes", "Holds"), ("no", "Does not hold"))
    radios = [
        tag(
            "label",
            tag("input", type="radio", name="holds", value=value, checked=value == "all"),
            tag("span", label),
        )
        for value, label in choices
    ]
    status = tag("p", f"{total} of {total} claims shown", id="filter-status", role="status", class_="status")
    return tag(
        "form",
        tag("div", text, class_="field"),
        tag("fieldset", tag("legend", "Show"), *radios),
        status,
        class_="controls needs-script",
        id="filter",
        role="search",
        aria_label="Claims",
    )


_COLUMNS = (
    ("Verdict", "verdict"),
    ("Claim", "claim"),
    ("Expected", "expected"),
    ("Measured", "measured"),
    ("Experiment", "experiment"),
)


def _table(entries: Sequence[Entry]) -> Markup:
    heads = [tag("th", label, scope="col", role="columnheader", class_=key) for label, key in _COLUMNS]
    caption = tag(
        "caption",
        "Every claim, what its source expects and what was measured. In each small picture the band is what "
        "agrees with the claim; the dot is the measurement, the line its interval.",
    )
    rows = tag("tbody", *(_row(entry) for entry in entries), role="rowgroup")
    head = tag("thead", tag("tr", *heads, role="row"), role="rowgroup")
    return tag("table", caption, head, rows, id="claims", class_="table claims sortable", role="table")


def _row(entry: Entry) -> Markup:
    claim = entry.claim
    cells = (
        ("verdict", verdict_mark(claim.holds), int(claim.holds)),
        ("claim", _statement(entry), claim.statement),
        ("expected", expected_text(claim), claim.low if claim.low is not None else claim.high),
        ("measured", join([measured_text(claim), " ", interval_plot(claim)]), claim.measured),
        ("experiment", join([entry.experiment, " ", entry.state]), entry.experiment),
    )
    labels = {key: label for label, key in _COLUMNS}
    data = [
        tag("td", content, class_=key, data_label=labels[key], data_value=_sort_value(value), role="cell")
        for key, content, value in cells
    ]
    return tag("tr", *data, data_holds="yes" if claim.holds else "no", role="row")


def _statement(entry: Entry) -> Markup:
    """The claim, which leads to its experiment, with its source beneath."""
    link = tag("a", entry.claim.statement, href=f"#{entry.anchor}")
    return join([link, " ", tag("span", linkify(entry.claim.source), class_="source")])


def _sort_value(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def interval_plot(claim: Claim) -> Markup | None:
    """Draws the accepted band, the measured value and its interval on one line; None without numbers."""
    given = [claim.low, claim.high, claim.measured, *(claim.interval or ())]
    points = [float(value) for value in given if value is not None and math.isfinite(value)]
    if not math.isfinite(claim.measured) or not points:
        return None
    least, most = min(points), max(points)
    span = most - least or abs(most) or 1.0
    if not math.isfinite(span):
        return None

    def place(value: float) -> float:
        if value in (math.inf, -math.inf):
            return _WIDTH if value > 0 else 0.0
        share = (value - least) / span if most > least else 0.5
        return round(_MARGIN + share * (_WIDTH - 2 * _MARGIN), 1)

    return tag(
        "svg",
        *_strokes(claim, place),
        viewBox=f"0 0 {_WIDTH:g} {_HEIGHT:g}",
        class_="plot",
        aria_hidden="true",
    )


def _strokes(claim: Claim, place: Any) -> list[Markup]:
    middle = _HEIGHT / 2
    left = 0.0 if claim.low is None else place(claim.low)
    right = _WIDTH if claim.high is None else place(claim.high)
    strokes = [
        tag("rect", x=left, y=3, width=max(round(right - left, 1), 1.5), height=_HEIGHT - 6, class_="band"),
        tag("line", x1=0, x2=_WIDTH, y1=middle, y2=middle, class_="axis"),
    ]
    if claim.interval is not None and not any(math.isnan(end) for end in claim.interval):
        low, high = (place(end) for end in claim.interval)
        strokes.append(tag("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker"))
    kind = "dot" if claim.holds else "dot dot-no"
    strokes.append(tag("circle", cx=place(claim.measured), cy=middle, r=3.5, class_=kind))
    return strokes
