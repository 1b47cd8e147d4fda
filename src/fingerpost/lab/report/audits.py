"""An audit report on the page: the verdict as a banner, its faults in sentences, every layer's figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from fingerpost._table import Table, format_interval, format_number
from fingerpost.errors import RunError
from fingerpost.lab.report.markup import Markup, join, tag
from fingerpost.lab.report.reading import number, plain
from fingerpost.lab.report.tables import definitions, table_block

_SHAPES = {
    "EXACT": ("good", "✓"),
    "ALIGNED": ("good", "✓"),
    "UNBIASED_NOISY": ("good", "✓"),
    "BIASED": ("fair", "△"),
    "NULL": ("bad", "✗"),
    "FAULT": ("bad", "✗"),
}
_UNDECIDED = ("unsure", "?")


def audit_block(row: Mapping[str, Any], text: str, anchor: str) -> Markup:
    """Renders one audit report.

    Args:
      row: The row of ``contents.json``, for its title and caption.
      text: The file that ``AuditReport.to_json`` gave; missing figures are left out.
      anchor: The id of the block.

    Raises:
      RunError: If the text is not an audit report.
    """
    report = _parse(text)
    title = str(row.get("title") or row.get("name") or "Audit")
    verdict = report["verdict"]
    caption = row.get("caption")
    return tag(
        "section",
        tag("h3", title, id=anchor),
        tag("p", str(caption)) if caption else None,
        _banner(verdict),
        _faults(verdict),
        _layers(report, title),
        _facts(report),
        class_="audit",
        aria_labelledby=anchor,
    )


def _parse(text: str) -> dict[str, Any]:
    try:
        report = plain(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise RunError(f"the audit report is not JSON: {error}") from error
    if not isinstance(report, dict) or not isinstance(report.get("verdict"), dict):
        raise RunError("the file is not an audit report: it has no verdict")
    return report


def _banner(verdict: Mapping[str, Any]) -> Markup:
    name = str(verdict.get("name") or "no verdict")
    kind, shape = _SHAPES.get(name, _UNDECIDED)
    faults = [str(fault.get("name")) for fault in _dicts(verdict.get("faults"))]
    full = f"{name}({', '.join(faults)})" if name == "FAULT" and faults else name
    return tag(
        "p",
        tag("span", shape, class_="shape", aria_hidden="true"),
        tag(
            "span",
            tag("strong", full),
            tag("span", str(verdict.get("reason") or ""), class_="reason"),
            class_="words",
        ),
        class_=f"banner banner-{kind}",
    )


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _faults(verdict: Mapping[str, Any]) -> Markup | None:
    reason = str(verdict.get("reason") or "")
    items = [_fault(fault, reason) for fault in _dicts(verdict.get("faults"))]
    return tag("ul", *items, class_="faults") if items else None


def _fault(fault: Mapping[str, Any], reason: str) -> Markup:
    sentence = str(fault.get("sentence") or "")
    layers = ", ".join(str(layer) for layer in fault.get("layers") or [])
    explained = number(fault.get("explained"))
    details = [
        "" if sentence in reason else sentence.rstrip("."),
        f"in {layers}" if layers else "",
        "" if math.isnan(explained) else f"explains {100 * explained:.0f} % of the residual",
    ]
    return tag(
        "li", tag("strong", str(fault.get("name"))), ": ", "; ".join(part for part in details if part), "."
    )


def _layers(report: Mapping[str, Any], title: str) -> Markup | None:
    rows = _dicts(report.get("layers"))
    if not rows:
        return None
    overall = {"name": "all together", "figures": report.get("overall")}
    rows = [*rows, *([overall] if overall["figures"] else [])]
    names = list(dict.fromkeys(name for row in rows for name in _figures(row)))
    counts = [key for key in ("samples", "set_aside") if any(row.get(key) is not None for row in rows)]
    legend = _legend(report)
    columns = ["layer", "verdict", *(_heading(legend, name) for name in [*names, *counts])]
    cells = [_cells(row, names, counts) for row in rows]
    table = Table(columns, cells, caption="Figures by layer, each with its interval.")
    return join([table_block(table, f"{title}: layers"), _meanings(legend, names)])


def _cells(row: Mapping[str, Any], names: list[str], counts: list[str]) -> list[Any]:
    figures = (_figure(_figures(row).get(name)) for name in names)
    return [row.get("name"), _plain(row.get("verdict")), *figures, *(_plain(row.get(key)) for key in counts)]


def _legend(report: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    texts = _mapping(report.get("legend")).items()
    return {
        key: (str(text[0]), str(text[1])) for key, text in texts if isinstance(text, list) and len(text) == 2
    }


def _heading(legend: Mapping[str, tuple[str, str]], name: str) -> str:
    return legend[name][0] if name in legend else name.replace("_", " ")


def _meanings(legend: Mapping[str, tuple[str, str]], names: list[str]) -> Markup | None:
    known = [legend[name] for name in names if name in legend]
    return tag("details", tag("summary", "What the figures mean"), definitions(known)) if known else None


def _figures(row: Mapping[str, Any]) -> Mapping[str, Any]:
    figures = row.get("figures")
    return figures if isinstance(figures, dict) else {}


def _figure(figure: Any) -> str | None:
    if not isinstance(figure, dict):
        return _plain(figure)
    value, low, high = (number(figure.get(key)) for key in ("value", "low", "high"))
    if math.isnan(value):
        return None
    text = format_number(value)
    pointless = math.isnan(low) or math.isnan(high) or format_number(low) == format_number(high) == text
    return text if pointless else f"{text} {format_interval((low, high))}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        value = value.get("name") or json.dumps(value, ensure_ascii=False)
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _facts(report: Mapping[str, Any]) -> Markup | None:
    rows = [
        [part, key.replace("_", " "), _figure(value)]
        for part in ("cost", "settings")
        for key, value in _mapping(report.get(part)).items()
    ]
    if not rows:
        return None
    table = table_block(
        Table(["part", "what", "value"], rows, caption="What the audit cost and how it was set."), "audit"
    )
    return tag("details", tag("summary", "Cost and settings"), table)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
