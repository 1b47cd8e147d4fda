"""A table in a text file, as cells: any usual delimiter, a header, rows of one length."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from fingerpost.errors import InvalidValueError, counted

DELIMITERS = (",", ";", "\t", "|")


def read_cells(
    file: Path, row: str = "row", may_lack_header: bool = False
) -> tuple[list[str], list[list[str]]]:
    """The header and the rows below it, blanks stripped; empty lines are left out.

    Args:
      file: A text file in UTF-8, with or without its mark; the delimiter is the one that is commonest in the first line.
      row: What an error calls a row; they are counted from 1 below the header.
      may_lack_header: A first line of numbers alone is a row, and the header x1, x2, ….

    Raises:
      InvalidValueError: If there is no file, it is no text or no table, a column's name stands twice, or a row is too short or
        too long.
    """
    if not file.is_file():
        raise InvalidValueError(f"there is no file {str(file)!r}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"{file} is not text in UTF-8: {error}; save it as CSV in UTF-8") from None
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    try:
        read = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    except csv.Error as error:
        raise InvalidValueError(f"{file} is no CSV file: {error}") from None
    rows = [[cell.strip() for cell in cells] for cells in read if any(cell.strip() for cell in cells)]
    if may_lack_header and rows and all(_is_number(cell) for cell in rows[0]):
        rows.insert(0, [f"x{k + 1}" for k in range(len(rows[0]))])
    if len(rows) < 2:
        raise InvalidValueError(f"{file} holds no rows{'' if may_lack_header else ' below a header'}")
    header, rows = rows[0], rows[1:]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InvalidValueError(f"{file} has two columns called {twice[0]!r}; give each a name of its own")
    top = "the first line" if may_lack_header else "the header"
    for number, cells in enumerate(rows, 1):
        if len(cells) != len(header):
            raise InvalidValueError(
                f"{file}: {row} {number} has {counted(len(cells), 'cell')} and {top} {len(header)} (separated by {delimiter!r})"
            )
    return header, rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
