"""Benchmarks on the page: ours beside each peer and the floor, with the target and whether it is met."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fingerpost._table import Table, format_interval
from fingerpost.errors import RunError
from fingerpost.lab.files import read_json
from fingerpost.lab.report.markup import Markup, tag
from fingerpost.lab.report.reading import number, plain
from fingerpost.lab.report.tables import table_block

_ORDER = ("holds", "system", "case", "ours", "peer", "floor", "unit", "ratio", "target")


def benchmarks_section(folder: Path) -> Markup | None:
    """Renders every ``*.json`` of a folder of benchmark results; None when there is none.

    A file is a list of rows, an object with ``rows`` and perhaps ``title`` and ``caption``, or plain figures
    by name. A row names what was timed (``system, case, ours, peer, floor, ratio, target, holds, unit``) and
    whatever else it has.
    """
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        return None
    heading = tag("h2", "Benchmarks", id="benchmarks-title")
    lead = tag(
        "p",
        "Ours and each peer on the same work, taken in turn; the floor is the least that the work can cost.",
        class_="lead",
    )
    return tag(
        "section",
        heading,
        lead,
        *(_file(path) for path in files),
        id="benchmarks",
        aria_labelledby="benchmarks-title",
    )


def _file(path: Path) -> Markup:
    try:
        table = _table(plain(read_json(path)), path.stem)
    except (RunError, RecursionError) as error:
        return tag("div", tag("p", f"{path.name} cannot be shown: {error}"), class_="notice", role="note")
    return table_block(table, f"benchmark-{path.stem}")


def _table(content: Any, name: str) -> Table:
    whole: Mapping[str, Any] = content if isinstance(content, dict) else {"rows": content}
    rows = whole.get("rows", [{"figure": key, "value": value} for key, value in whole.items()])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise RunError("it holds no rows of results")
    found = list(dict.fromkeys(key for row in rows for key in row))
    columns = [key for key in _ORDER if key in found] + [key for key in found if key not in _ORDER]
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    title, caption = str(whole.get("title") or name), _caption(whole)
    return Table([column.replace("_", " ") for column in columns], cells, title, caption)


def _caption(whole: Mapping[str, Any]) -> str:
    environment = whole.get("environment")
    facts = environment.items() if isinstance(environment, dict) else ()
    measured = f"Measured with {', '.join(f'{key} {value}' for key, value in facts)}." if facts else ""
    return " ".join(part for part in (str(whole.get("caption") or ""), measured) if part)


def _cell(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 2 and not any(math.isnan(number(end)) for end in value):
        return format_interval(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
