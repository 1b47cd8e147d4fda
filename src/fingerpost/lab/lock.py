"""One writer per run folder: a lock that the system releases when its holder dies, even by SIGKILL."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from fingerpost.errors import RunError

NAME = ".lock"


class FolderLock:
    """An exclusive ``flock`` on a file in the folder; it dies with its process.

    Args:
      folder: The folder that only this holder may write.

    Raises:
      RunError: If another process (or another Run of this one) holds it; the message names the folder and the
        holder's process number.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise RunError(
                f"{folder} is being written by process {holder}; wait for it, or use another folder"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Gives the folder back; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def is_locked(folder: Path) -> bool:
    """Says whether some process is writing the run in `folder` now."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
