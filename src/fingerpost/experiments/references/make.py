"""Writes the tables of references: ``python -m fingerpost.experiments.references.make [NAME …]``.

Every number is computed with growing working precision until two precisions agree in 24 digits, and written
with 21. Numbers too small for a double are written as 0. mpmath, which does the arithmetic, comes with torch.
"""

from __future__ import annotations

import csv
import importlib
import sys
import time
from functools import partial
from multiprocessing import get_context
from typing import Any

from mpmath import mp, mpf

from fingerpost.errors import InvalidValueError, did_you_mean
from fingerpost.experiments.references import FOLDER
from fingerpost.experiments.references._quadrature import Number, settled

TABLES = (
    "noncentral_chi",
    "gamma",
    "von_mises",
    "truncated_normal",
    "student_t",
    "beta",
    "mixture_normal",
    "entropies_and_moments",
)
DIGITS = 21
PROCESSES = 2


def written(x: Number) -> str:
    """A decimal of x with `DIGITS` significant digits, without trailing zeros."""
    if x == 0 or abs(x) < mpf("1e-320"):
        return "0"
    with mp.workdps(40):
        return str(mp.nstr(x, DIGITS, strip_zeros=True, min_fixed=-3, max_fixed=6)).removesuffix(".0")


def row(table: str, inputs: tuple[Any, ...]) -> dict[str, str]:
    """One line of `table`: the inputs, doubles as Python prints them, then the values."""
    module = importlib.import_module(f"{__package__}.make_{table}")
    given = {name: _given(x) for name, x in zip(module.INPUTS, inputs, strict=True)}
    return given | {name: written(x) for name, x in settled(module.evaluate, inputs).items()}


def _given(x: str | float | None) -> str:
    if x is None:
        return ""
    return x if isinstance(x, str) else repr(x).removesuffix(".0")


def make(table: str) -> None:
    """Computes `table` and writes its file."""
    if table not in TABLES:
        raise InvalidValueError(
            f"no table is called {table!r}{did_you_mean(table, TABLES)}: {', '.join(TABLES)}"
        )
    inputs = importlib.import_module(f"{__package__}.make_{table}").inputs()
    started = time.monotonic()
    with get_context("spawn").Pool(PROCESSES) as pool:
        rows = pool.map(partial(row, table), inputs, chunksize=4)
    path = FOLDER / f"{table}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    seconds = time.monotonic() - started
    print(f"{table}: {len(rows)} rows, {path.stat().st_size / 1000:.0f} kB, {seconds:.0f} s")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or TABLES:
        make(chosen)
