"""The index of runs: SQLite beside the folders, rebuilt from them at any time, never the only copy."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from fingerpost.errors import RunError
from fingerpost.lab.folder import MANIFEST, RunFolder
from fingerpost.lab.lock import is_locked
from fingerpost.lab.run import checked_name

INDEX = "index-1.sqlite"  # another layout gets another number, and fills itself from the folders
_DEPTH = 4


def home() -> Path:
    """Returns where runs go: ``FINGERPOST_HOME``, or ``./runs``."""
    return Path(os.environ.get("FINGERPOST_HOME") or "runs").absolute()


@dataclass(frozen=True)
class RunRow:
    """One run as the index knows it.

    Attributes:
      path: The run folder.
      id: Its identifier.
      experiment: The experiment's name.
      preset: The preset's name.
      seed: The seed.
      started: UTC, ISO 8601.
      finished: UTC, ISO 8601, or None.
      status: ``completed``, ``interrupted``, ``error: …``, ``running``, ``killed``, or ``damaged``.
      claims: How many claims it states.
      held: How many of them hold.
      problem: What is damaged, empty otherwise.
      stamp: When the manifest changed last, in nanoseconds; an older row is read again.
    """

    path: str
    id: str
    experiment: str = ""
    preset: str = ""
    seed: int = 0
    started: str = ""
    finished: str | None = None
    status: str = "damaged"
    claims: int = 0
    held: int = 0
    problem: str = ""
    stamp: int = 0


_COLUMNS = [field.name for field in fields(RunRow)]


def _stamp(path: Path) -> int:
    try:
        return (path / MANIFEST).stat().st_mtime_ns
    except OSError:
        return 0


def read_row(path: Path) -> RunRow:
    """Reads a run folder into a row; a damaged folder gives a row that says so."""
    stamp = _stamp(path)
    try:
        folder = RunFolder(path)
        claims = folder.claims()
        facts = folder.manifest
        return RunRow(
            path=str(path),
            id=folder.id,
            experiment=facts["experiment"],
            preset=str(facts.get("preset", "")),
            seed=int(facts.get("seed") or 0),
            started=facts["started"],
            finished=facts.get("finished"),
            status=folder.status,
            claims=len(claims),
            held=sum(claim.holds for claim in claims),
            stamp=stamp,
        )
    except (RunError, ValueError, TypeError) as error:
        return RunRow(path=str(path), id=path.name, problem=str(error), stamp=stamp)


class Store:
    """The runs under one folder, and those that were recorded from elsewhere.

    Args:
      folder: Where runs go; ``FINGERPOST_HOME`` or ``./runs`` when None.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.home = home() if folder is None else Path(folder).absolute()

    def new_directory(self, experiment: str) -> Path:
        """Makes an empty folder for a new run, named like ``ep-digits-20261123-185901-ab12``."""
        checked_name(experiment)
        while True:
            stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
            path = self.home / f"{experiment}-{stamp}-{secrets.token_hex(2)}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise RunError(f"{path} could not be made: {error}") from error
            return path

    def record(self, path: Path | str) -> RunRow:
        """Takes a run folder into the index, or brings its row up to date."""
        row = read_row(Path(path).absolute())
        with self._index() as index:
            self._put(index, row)
        return row

    def list(self) -> list[RunRow]:
        """Returns all runs, oldest first; folders that are gone are forgotten, damaged ones say so."""
        with self._index() as index:
            rows = [RunRow(*values) for values in index.execute(f"SELECT {', '.join(_COLUMNS)} FROM runs")]
            fresh = [row for row in (self._refreshed(index, row) for row in rows) if row is not None]
        return sorted(fresh, key=lambda row: (row.started, row.id))

    def find(self, key: str | Path) -> Path:
        """Finds a run folder by its path, its identifier, or the beginning of its identifier.

        Raises:
          RunError: If no run or more than one fits; the message lists those that do.
        """
        if (Path(key) / MANIFEST).exists():
            return Path(key).absolute()
        rows = self.list()
        if not any(row.id.startswith(str(key)) for row in rows):
            rows = self.rebuild()
        exact = [row for row in rows if row.id == str(key)]
        fits = exact or [row for row in rows if row.id.startswith(str(key))]
        if not fits:
            raise RunError(f"there is no run {str(key)!r} in {self.home}; fingerpost ls lists the runs")
        if len(fits) > 1:
            names = ", ".join(row.id if not exact else row.path for row in fits[:5])
            raise RunError(f"{str(key)!r} fits {len(fits)} runs: {names}; write more of it, or the path")
        return Path(fits[0].path)

    def rebuild(self) -> list[RunRow]:
        """Makes the index anew from the folders; runs outside the home that it knew are kept."""
        known: list[Path] = []
        with contextlib.suppress(RunError), self._index() as index:
            known = [Path(path) for (path,) in index.execute("SELECT path FROM runs")]
        paths = {path for path in [*self._folders(self.home, _DEPTH), *known] if path.is_dir()}
        rows = [read_row(path) for path in sorted(paths)]
        with self._index() as index:
            index.execute("DELETE FROM runs")
            for row in rows:
                self._put(index, row)
        return sorted(rows, key=lambda row: (row.started, row.id))

    def _folders(self, folder: Path, depth: int) -> Iterator[Path]:
        if not folder.is_dir() or depth == 0:
            return
        for child in sorted(folder.iterdir()):
            if (child / MANIFEST).exists():
                yield child
            elif child.is_dir() and not child.name.startswith("."):
                yield from self._folders(child, depth - 1)

    def _refreshed(self, index: sqlite3.Connection, row: RunRow) -> RunRow | None:
        path = Path(row.path)
        if not path.is_dir():
            index.execute("DELETE FROM runs WHERE path = ?", (row.path,))
            return None
        settled = row.finished is not None and row.stamp == _stamp(path)
        if settled and not is_locked(path):
            return row
        fresh = read_row(path)
        if fresh != row:
            self._put(index, fresh)
        return fresh

    def _put(self, index: sqlite3.Connection, row: RunRow) -> None:
        marks = ", ".join("?" * len(_COLUMNS))
        index.execute(f"INSERT OR REPLACE INTO runs VALUES ({marks})", tuple(asdict(row).values()))

    @contextlib.contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        path = self.home / INDEX
        try:
            connection = self._opened(path)
            try:
                with connection:
                    yield connection
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise RunError(f"the index {path} cannot be used: {error}") from error

    def _opened(self, path: Path) -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        try:
            connection = self._connected(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            path.unlink(missing_ok=True)  # not a database: it holds nothing that the folders do not
            fresh, connection = True, self._connected(path)
        if fresh:
            with connection:
                for folder in self._folders(self.home, _DEPTH):
                    self._put(connection, read_row(folder))
        return connection

    def _connected(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=30)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            kinds = {"seed": "INTEGER", "claims": "INTEGER", "held": "INTEGER", "stamp": "INTEGER"}
            columns = ", ".join(f"{name} {kinds.get(name, 'TEXT')}" for name in _COLUMNS)
            connection.execute(f"CREATE TABLE IF NOT EXISTS runs ({columns}, PRIMARY KEY (path))")
        except sqlite3.Error:
            connection.close()
            raise
        return connection
