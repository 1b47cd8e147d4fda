"""Reading a run folder as data, without torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from fingerpost.errors import RunError
from fingerpost.lab import lock
from fingerpost.lab.claims import Claim
from fingerpost.lab.files import read_json, whole_length

MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
CLAIMS = "claims.json"
CONTENTS = "contents.json"


def parse_metrics(content: bytes, path: Path) -> list[dict[str, Any]]:
    """Parses whole metric lines; null is read as NaN.

    Raises:
      RunError: If a line is not a JSON object; the message names `path` and the line.
    """
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
            rows.append({key: math.nan if value is None else value for key, value in row.items()})
        except (ValueError, AttributeError) as error:
            raise RunError(f"{path} line {number} is not a JSON object: {line[:80]!r}") from error
    return rows


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON list of objects; a missing file is an empty list.

    Raises:
      RunError: If it is something else; the message names the path.
    """
    rows = read_json(path) if path.exists() else []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"{path} is not a list of objects")
    return rows


def read_claims(directory: Path) -> list[Claim]:
    """Reads the claims of the run in `directory`.

    Raises:
      RunError: If ``claims.json`` is damaged; the message names the path.
    """
    path = directory / CLAIMS
    try:
        return [Claim.from_json(row) for row in read_rows(path)]
    except (TypeError, ValueError) as error:
        raise RunError(f"{path} holds something that is not a claim: {error}") from error


class RunFolder:
    """A run folder, read as data: its manifest now, the rest when asked for.

    Args:
      directory: The run folder.

    Raises:
      RunError: If the manifest is missing, unreadable or not a run's; the message names the path.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        path = self.directory / MANIFEST
        if not path.is_file():
            raise RunError(f"{self.directory} is not a run folder: it has no {MANIFEST}")
        self.manifest: dict[str, Any] = read_json(path)
        needed = {"id": str, "experiment": str, "config": dict, "started": str}
        wrong = not isinstance(self.manifest, dict) or [
            key for key, kind in needed.items() if not isinstance(self.manifest.get(key), kind)
        ]
        if wrong:
            raise RunError(
                f"{path} is not a run's manifest: wrong or missing {wrong if wrong is not True else 'object'}"
            )

    @property
    def id(self) -> str:
        """The run's identifier."""
        return self.manifest["id"]

    @property
    def status(self) -> str:
        """``completed``, ``interrupted``, ``error: …``; without a reason ``running`` or ``killed``."""
        reason = self.manifest.get("exit")
        if reason is not None:
            return str(reason)
        return "running" if lock.is_locked(self.directory) else "killed"

    def claims(self) -> list[Claim]:
        """Reads the claims stated so far; raises RunError if ``claims.json`` is damaged."""
        return read_claims(self.directory)

    def contents(self) -> list[dict[str, Any]]:
        """Reads the narrative order of what the report shows."""
        return read_rows(self.directory / CONTENTS)

    def metrics(self) -> list[dict[str, Any]]:
        """Reads the metrics; a torn last line is left out, null is NaN."""
        path = self.directory / METRICS
        if not path.exists():
            return []
        return parse_metrics(path.read_bytes()[: whole_length(path)], path)
