"""Run folders read as data: what is whole is shown, what is damaged is named, nothing is hidden."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fingerpost._table import Table
from fingerpost.errors import FingerpostError, InvalidTypeError, RunError
from fingerpost.lab.claims import Claim
from fingerpost.lab.files import read_json, sha256
from fingerpost.lab.folder import CLAIMS, CONTENTS, MANIFEST
from fingerpost.lab.lock import is_locked

State = Literal["completed", "running", "killed", "interrupted", "failed", "damaged"]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf|nan")
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,17})")


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds, as far as it can be read.

    Args:
      directory: The folder.
      manifest: The facts of ``manifest.json``, empty when it cannot be read.
      claims: The claims that can be read.
      contents: The rows of ``contents.json``, in the order of the narrative.
      problems: What is missing, altered or unreadable, one sentence each.
      locked: Whether a process is writing the run now.
    """

    directory: Path
    manifest: Mapping[str, Any] = field(default_factory=dict)
    claims: Sequence[Claim] = ()
    contents: Sequence[Mapping[str, Any]] = ()
    problems: Sequence[str] = ()
    locked: bool = False

    @property
    def experiment(self) -> str:
        """The experiment's name; the folder's when the manifest does not say."""
        return str(self.manifest.get("experiment") or self.directory.name)

    @property
    def title(self) -> str:
        """The experiment's title, or its name."""
        return str(self.manifest.get("title") or self.experiment)

    @property
    def identifier(self) -> str:
        """The run's id, or its folder's name."""
        return str(self.manifest.get("id") or self.directory.name)

    @property
    def state(self) -> State:
        """How the run ended: damaged outweighs everything else."""
        if self.problems:
            return "damaged"
        ending = self.manifest.get("exit")
        if ending is None:
            return "running" if self.locked else "killed"
        return (
            "completed" if ending == "completed" else "interrupted" if ending == "interrupted" else "failed"
        )

    @property
    def time(self) -> str:
        """When it finished, or else started (ISO 8601): the order of runs."""
        return str(self.manifest.get("finished") or self.manifest.get("started") or "")

    def read_text(self, path: Any) -> str:
        """Reads one file of the run.

        Raises:
          RunError: If the path leaves the folder, or the file is missing or not UTF-8 text.
        """
        return _read_text(self.directory, path)


def read_run(directory: Path) -> RunRecord:
    """Reads a run folder; whatever is wrong inside it becomes one of the record's `problems`.

    Raises:
      RunError: If there is no such folder.
    """
    if not directory.is_dir():
        raise RunError(f"{directory} is not a folder; give run folders, as `fingerpost ls` lists them")
    problems: list[str] = []
    manifest = _read(directory, MANIFEST, dict, problems) or {}
    completed = manifest.get("exit") == "completed"
    rows = _read(directory, CLAIMS, list, problems, required=completed) or []
    contents = _read(directory, CONTENTS, list, problems, required=completed) or []
    problems += _altered(directory, manifest)
    return RunRecord(
        directory=directory,
        manifest=manifest,
        claims=_claims(rows, problems),
        contents=[row for row in contents if isinstance(row, dict)],
        problems=problems,
        locked=is_locked(directory),
    )


def _read(directory: Path, name: str, kind: type, problems: list[str], required: bool = True) -> Any:
    if not required and not (directory / name).exists():
        return None
    try:
        value = plain(read_json(directory / name))
    except RunError as error:
        problems.append(str(error).replace(f"{directory}/", ""))
        return None
    except RecursionError:
        problems.append(f"{name} nests too deeply to be read")
        return None
    if not isinstance(value, kind):
        problems.append(f"{name} holds a {type(value).__name__} where a {kind.__name__} belongs")
        return None
    return value


def plain(data: Any) -> Any:
    """Makes parsed JSON fit for a page: integers that no float holds become infinite, lone surrogates "?".

    >>> plain({"big": [10**400, 3], "torn": chr(0xD800)})
    {'big': [inf, 3], 'torn': '?'}
    """
    if isinstance(data, str):
        return data.encode("utf-8", "replace").decode("utf-8")
    if isinstance(data, int) and abs(data) > 2**1000:
        return math.inf if data > 0 else -math.inf
    if isinstance(data, dict):
        return {plain(key): plain(value) for key, value in data.items()}
    return [plain(value) for value in data] if isinstance(data, list) else data


def _claims(rows: Sequence[Any], problems: list[str]) -> list[Claim]:
    claims = []
    for number, row in enumerate(rows, 1):
        try:
            claim = _checked(Claim.from_json(row))
            contradicted = row.get("holds") is not claim.holds
        except (FingerpostError, TypeError, ValueError, AttributeError, KeyError) as error:
            problems.append(f"claim {number} of claims.json cannot be read: {error}")
            continue
        if contradicted:
            problems.append(
                f"claim {claim.name} is recorded as holds = {row.get('holds')!r}, which its own numbers "
                "contradict; the page shows what the numbers say"
            )
        claims.append(claim)
    return claims


def _checked(claim: Claim) -> Claim:
    for name in ("name", "statement", "source", "unit", "note"):
        if not isinstance(getattr(claim, name), str):
            raise InvalidTypeError(f"its {name} is {getattr(claim, name)!r}, not text")
    bounds = [bound for bound in (claim.low, claim.high) if bound is not None]
    for value in (claim.measured, *bounds, *(claim.interval or ())):
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise InvalidTypeError(f"{value!r} stands where a number belongs")
    return claim


def _altered(directory: Path, manifest: Mapping[str, Any]) -> list[str]:
    files = manifest.get("files")
    if not isinstance(files, dict):
        return []
    problems = []
    for name, digest in sorted(files.items()):
        try:
            if sha256(_inside(directory, name)) != digest:
                problems.append(f"{name} is not what the run wrote: its SHA-256 differs from the manifest's")
        except (OSError, RunError) as error:
            problems.append(f"{name} is listed in the manifest and cannot be read: {_reason(error)}")
    return problems


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _inside(directory: Path, path: Any) -> Path:
    root = directory.resolve()
    try:
        full = (root / str(path)).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise RunError(f"{path!r} is not a path") from error
    if root not in full.parents:
        raise RunError(f"{path} lies outside the run folder and is not read")
    return full


def _read_text(directory: Path, path: Any) -> str:
    try:
        return _inside(directory, path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = _reason(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise RunError(f"{path} cannot be read: {reason}") from error


def read_table(text: str, title: str = "", caption: str = "") -> Table:
    r"""Reads CSV text as `Table.to_csv` wrote it: numbers become numbers again, empty cells None.

    Raises:
      RunError: If it has no header or its rows differ in length.

    >>> read_table("layer,cosine\n1,0.5\n2,\n").rows
    [[1, 0.5], [2, None]]
    """
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
        if not rows or not rows[0]:
            raise RunError("the table is empty: its first line should name the columns")
        return Table(
            rows[0], [[_cell(cell) for cell in row] for row in rows[1:] if row], title, caption, digits=4
        )
    except (csv.Error, ValueError) as error:
        raise RunError(f"the table cannot be read: {error}") from error


def _cell(text: str) -> Any:
    if text in {"True", "False"}:
        return text == "True"
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and not re.match(r"[+-]?0\d", text):
        return float(text)
    return text or None


def number(value: Any) -> float:
    """Returns `value` as a float, NaN when it is not a number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
