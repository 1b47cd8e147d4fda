"""Tables on the page: sortable, downloadable, scrolling inside their own frame on a narrow screen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from fingerpost._table import Table
from fingerpost.lab.report.markup import Markup, tag


def table_block(table: Table, name: str) -> Markup:
    """Renders a table in a frame that can be scrolled by keyboard; the script adds sorting and the download.

    Args:
      table: The table.
      name: What the download is called and how the frame is announced.
    """
    html = Markup(table.to_html("table sortable"))
    frame = tag("div", html, class_="scroll", tabindex="0", role="region", aria_label=table.title or name)
    return tag("div", frame, class_="table-block", data_name=name)


def definitions(facts: Iterable[tuple[str, Any]]) -> Markup:
    """Renders named facts as a definition list; a mapping inside becomes lines ``key: value``."""
    pairs = [(term, _plain(value)) for term, value in facts if value not in (None, "", [], {})]
    return tag("dl", *(tag("div", tag("dt", term), tag("dd", text)) for term, text in pairs), class_="facts")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, int, float)) for item in value):
        return ", ".join(str(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
