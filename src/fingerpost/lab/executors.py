"""How a sweep launches a run: an executor only launches; what a run has done is in its folder alone.

Adding one (SLURM, Ray) is one class that starts a command somewhere and one row in `EXECUTORS`; each runs
the same idempotent ``fingerpost run NAME --run-dir D``, so that a lost worker is started again and goes on
where it was.
"""

from __future__ import annotations

import abc
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fingerpost.errors import ConfigError, did_you_mean

_PR_SET_PDEATHSIG = 1


class AbstractJob(abc.ABC):
    """One launched command."""

    @abc.abstractmethod
    def poll(self) -> int | None:
        """Returns the exit status, negative for a signal, or None while it runs."""

    @abc.abstractmethod
    def interrupt(self) -> None:
        """Asks it to stop, as Ctrl-C would."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Stops it at once."""


class AbstractExecutor(abc.ABC):
    """Launches commands."""

    @abc.abstractmethod
    def submit(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> AbstractJob:
        """Starts `command`; its output is appended to `log`.

        Args:
          command: The words of the command.
          log: A file for standard output and standard error together.
          environment: Variables to set beside those of this process.
        """


class LocalJob(AbstractJob):
    """A subprocess of this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def poll(self) -> int | None:
        """Returns the exit status, negative for a signal, or None while it runs."""
        return self.process.poll()

    def interrupt(self) -> None:
        """Sends SIGINT."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Sends SIGKILL and waits for the end."""
        self.process.kill()
        self.process.wait()


class LocalExecutor(AbstractExecutor):
    """One subprocess per run, each in a session of its own, so that Ctrl-C reaches the supervisor alone.

    On Linux a worker asks the kernel to be killed with its supervisor's thread (``PR_SET_PDEATHSIG``), so
    none outlives it.
    """

    def submit(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> LocalJob:
        """Starts `command` as a subprocess."""
        with open(log, "ab") as output:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_dies_with_parent(),
            )
        return LocalJob(process)


def _dies_with_parent() -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl, supervisor = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:  # it died before the kernel was asked
            os._exit(1)

    return ask


EXECUTORS: dict[str, type[AbstractExecutor]] = {"local": LocalExecutor}
_LATER = {"slurm": "SLURM clusters", "ray": "Ray clusters"}


def make_executor(name: str) -> AbstractExecutor:
    """Makes the executor of that name.

    Raises:
      ConfigError: If there is none, or it comes with a later version.
    """
    if name in EXECUTORS:
        return EXECUTORS[name]()
    if name in _LATER:
        raise ConfigError(f"executor {name!r} ({_LATER[name]}) comes with a later version; use local")
    raise ConfigError(f"there is no executor {name!r}{did_you_mean(name, [*EXECUTORS, *_LATER])}")
