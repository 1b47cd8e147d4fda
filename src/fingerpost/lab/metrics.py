"""``metrics.jsonl``: appended lines, and their replay when a run is resumed.

A resumed run executes its experiment again from the top; finished stages return their stored results and
move the cursor past their lines. A line logged again where the same line already stands is not written
twice; the first line that differs cuts the file there. What stands past the cursor when the run completes
was left by a kill, and is cut.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fingerpost.errors import RunError
from fingerpost.lab.files import json_number, naming_the_path, whole_length
from fingerpost.lab.folder import parse_metrics


def format_row(stage: str, step: int, values: Mapping[str, Any]) -> bytes:
    """Formats one row of metrics: the stage, the step, then the numbers in the order given."""
    cells = [f'"stage": {json.dumps(stage, ensure_ascii=False)}', f'"step": {int(step)}']
    cells += [f"{json.dumps(key, ensure_ascii=False)}: {json_number(value)}" for key, value in values.items()]
    return ("{" + ", ".join(cells) + "}\n").encode()


class MetricsFile:
    """The writer of ``metrics.jsonl``; `cursor` is the byte after the last line that counts.

    Args:
      path: The file; a torn last line is cut away.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cursor = 0
        with naming_the_path(path):
            self._length = whole_length(path)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(self._descriptor, self._length)

    def append(self, row: bytes) -> None:
        """Puts `row` at the cursor, unless it stands there already; a kill does not lose it."""
        end = self.cursor + len(row)
        with naming_the_path(self.path):
            if end > self._length or os.pread(self._descriptor, len(row), self.cursor) != row:
                self.cut()
                self._write(row)
                self._length = end
        self.cursor = end

    def _write(self, row: bytes) -> None:
        done = 0
        while done < len(row):
            done += os.pwrite(self._descriptor, row[done:], self.cursor + done)

    def jump(self, offset: int) -> None:
        """Moves the cursor to `offset`, past lines that a finished stage or a checkpoint vouches for.

        Raises:
          RunError: If the file is shorter than that.
        """
        if offset > self._length:
            raise RunError(
                f"{self.path} has {self._length} bytes of whole lines, fewer than the {offset} of "
                "the last save; it was cut or replaced, or the code changed: start the run in a new folder"
            )
        self.cursor = offset

    def rows(self, start: int, end: int) -> list[dict[str, Any]]:
        """Reads the rows between two offsets."""
        return parse_metrics(os.pread(self._descriptor, end - start, start), self.path)

    def cut(self) -> None:
        """Cuts away what stands past the cursor."""
        os.ftruncate(self._descriptor, self.cursor)
        self._length = self.cursor

    def sync(self) -> int:
        """Forces the lines to disk; returns the cursor."""
        with naming_the_path(self.path):
            os.fsync(self._descriptor)
        return self.cursor

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
