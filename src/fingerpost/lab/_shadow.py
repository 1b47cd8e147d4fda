"""Where the other processes of a run write: a folder that is thrown away, with what rank 0's experiment wrote."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fingerpost.lab import files
from fingerpost.lab._ranks import here
from fingerpost.lab.folder import CLAIMS, CONTENTS, MANIFEST, METRICS
from fingerpost.lab.lock import NAME as LOCK_NAME

_LABS_OWN = {MANIFEST, METRICS, CLAIMS, CONTENTS, LOCK_NAME}
_LABS_OWN |= {"stages", "checkpoint", "figures", "tables", "audits"}


class Shadow:
    """A folder of this process alone."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fingerpost-")
        self.directory = Path(self._folder.name)

    def remove(self) -> None:
        """Throws the folder away; it goes with the process otherwise."""
        self._folder.cleanup()


class SharedFiles:
    """Sends what an experiment itself wrote into rank 0's folder to the folders of the other ranks.

    Args:
      directory: This process's folder.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sent: dict[str, tuple[int, int]] = {}

    def share(self) -> None:
        """Sends what is new or changed since the last call; alone it does nothing."""
        ranks = here()
        if ranks.alone:
            return
        for path, content in ranks.first("sharing files", self._changed):
            if ranks.rank:
                target = self._directory / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)

    def _changed(self) -> list[tuple[str, bytes]]:
        found = []
        for item in sorted(self._directory.iterdir()):
            if item.name in _LABS_OWN or item.name.startswith(files.TEMPORARY_PREFIX):
                continue
            for path in [item, *sorted(item.rglob("*"))]:
                if path.is_file() and self._is_new(path):
                    found.append((path.relative_to(self._directory).as_posix(), path.read_bytes()))
        return found

    def _is_new(self, path: Path) -> bool:
        name, facts = path.relative_to(self._directory).as_posix(), path.stat()
        now = (facts.st_size, facts.st_mtime_ns)
        if self._sent.get(name) == now:
            return False
        self._sent[name] = now
        return True
