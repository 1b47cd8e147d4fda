"""The one table renderer: plain text for terminals and logs, HTML for notebooks and the report, CSV for files."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def format_number(value: Any, digits: int = 3) -> str:
    """Formats a value for a table cell: `digits` significant digits, an en dash for what is absent.

    Args:
      value: A number, string, boolean or None. Integers are kept whole.
      digits: Significant digits for floating-point values.

    Returns:
      A short string; NaN and None give ``"–"``.
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if math.isnan(value):
            return "–"
        if value != 0 and not 1e-3 <= abs(value) < 1e5 and math.isfinite(value):
            return f"{value:.{digits - 1}e}"
        text = f"{value:.{digits}g}"
        return f"{value:.0f}" if "e" in text else text
    return str(value)


def format_interval(interval: Sequence[float] | None, digits: int = 3) -> str:
    """Formats an interval as ``[low, high]``, or an en dash when there is none."""
    if interval is None:
        return "–"
    low, high = interval
    return f"[{format_number(float(low), digits)}, {format_number(float(high), digits)}]"


@dataclass(frozen=True)
class Table:
    """Rows and columns, rendered in one way everywhere.

    Args:
      columns: Column headings, unit included where there is one (``"time (ms)"``).
      rows: One sequence of cells per row; numbers stay numbers until they are rendered.
      title: A short heading, without a full stop.
      caption: A sentence or two that say what is seen and how it was measured.
      digits: Significant digits of floating-point cells.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    caption: str = ""
    digits: int = field(default=3)

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {number} of table {self.title!r} has {len(row)} cells; "
                    f"its {len(self.columns)} columns are {list(self.columns)}"
                )

    def _numeric(self, column: int) -> bool:
        cells = [row[column] for row in self.rows if row[column] is not None]
        return bool(cells) and all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in cells)

    def _texts(self) -> list[list[str]]:
        return [[format_number(cell, self.digits) for cell in row] for row in self.rows]

    def to_text(self) -> str:
        """Renders as aligned plain text: numbers to the right, words to the left."""
        texts = self._texts()
        widths = [max([len(c), *(len(row[i]) for row in texts)]) for i, c in enumerate(self.columns)]
        right = [self._numeric(i) for i in range(len(self.columns))]

        def line(cells: Sequence[str]) -> str:
            parts = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right)]
            return "  ".join(parts).rstrip()

        head = [self.title] if self.title else []
        rule = "  ".join("─" * w for w in widths)
        tail = [self.caption] if self.caption else []
        return "\n".join([*head, line(list(self.columns)), rule, *(line(row) for row in texts), *tail])

    def to_html(self, css_class: str = "table") -> str:
        """Renders as one HTML ``<table>``; every string is escaped; numeric cells carry ``data-value``."""
        right = [self._numeric(i) for i in range(len(self.columns))]
        out = [f'<table class="{html.escape(css_class, quote=True)}">']
        if self.title or self.caption:
            title = f"<strong>{html.escape(self.title)}</strong> " if self.title else ""
            out.append(f"<caption>{title}{html.escape(self.caption)}</caption>")
        heads = (
            f'<th scope="col"{" class=number" if r else ""}>{html.escape(str(c))}</th>'
            for c, r in zip(self.columns, right)
        )
        out.append(f"<thead><tr>{''.join(heads)}</tr></thead><tbody>")
        for row, texts in zip(self.rows, self._texts()):
            out.append(f"<tr>{''.join(self._cell(c, t, r) for c, t, r in zip(row, texts, right))}</tr>")
        out.append("</tbody></table>")
        return "".join(out)

    @staticmethod
    def _cell(value: Any, text: str, right: bool) -> str:
        kind = " class=number" if right else ""
        data = f' data-value="{float(value)!r}"' if right and value is not None else ""
        return f"<td{kind}{data}>{html.escape(text)}</td>"

    def to_csv(self) -> str:
        """Renders as CSV text with a header row; numbers keep full precision."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow(
                ["" if cell is None else repr(cell) if isinstance(cell, float) else cell for cell in row]
            )
        return buffer.getvalue()

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html()
