"""The live table of a sweep: rewritten in place on standard error, when that is a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fingerpost._table import Table
from fingerpost.lab.folder import METRICS

if TYPE_CHECKING:
    from fingerpost.lab.supervisor import Task

_TAIL_BYTES = 4096


def progress(directory: Path) -> str:
    """Returns where a run is, as ``stage step``, from its last whole line of metrics; empty before it."""
    try:
        with open(directory / METRICS, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            row = json.loads(stream.read().rpartition(b"\n")[0].rpartition(b"\n")[2])
        return f"{row['stage']} {row['step']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


class Display:
    """Shows tasks as a table with a line of counts; only the counts when the terminal is too low."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._live = sys.stderr.isatty()
        self._shown = ""

    def show(self) -> None:
        """Draws the present state where the last one was drawn, if it differs."""
        if not self._live or (text := self._text()) == self._shown:
            return
        self._erase()
        print(text, file=sys.stderr, flush=True)
        self._shown = text

    def close(self) -> None:
        """Removes what was drawn."""
        if self._live:
            self._erase()

    def _erase(self) -> None:
        if self._shown:
            print(f"\033[{self._shown.count(chr(10)) + 1}A\033[J", end="", file=sys.stderr, flush=True)
            self._shown = ""

    def _text(self) -> str:
        width, height = shutil.get_terminal_size()
        counts = Counter(task.status for task in self._tasks)
        lines = ["  ".join(f"{count} {status}" for status, count in counts.items())]
        if len(self._tasks) + 4 <= height:
            rows = [(_point(task), task.status, task.tries, progress(task.directory)) for task in self._tasks]
            lines = [*Table(("run", "status", "tries", "at"), rows).to_text().split("\n"), *lines]
        return "\n".join(line[: width - 1] for line in lines)


def _point(task: Task) -> str:
    return " ".join(f"{name}={value}" for name, value in task.point.items())
