"""Real kills at chosen moments: a forked child runs the experiment and is killed at its n-th system call."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What a run does to the disk, in the order in which it asks; a kill is placed before and after each.
CALLS = ("write", "pwrite", "fsync", "replace", "unlink", "ftruncate", "rmdir")


def counting(limit: int | None, after: bool) -> list[int]:
    """Wraps the calls of `os` in this process: the `limit`-th is its end. Returns the counter."""
    count = [0]

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] == limit and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **options)
            if count[0] == limit and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))
    return count


def in_child(function: Callable[[], None], limit: int | None = None, after: bool = False) -> tuple[int, int]:
    """Runs `function` in a forked child, killed at its `limit`-th call; returns exit code and calls."""
    context = multiprocessing.get_context("fork")
    calls = context.Value("i", 0)

    def body() -> None:
        count = counting(limit, after)
        function()
        calls.value = count[0]

    process = context.Process(target=body)
    process.start()
    process.join(60)
    assert process.exitcode is not None, "the child hangs"
    return process.exitcode, calls.value


def contents(directory: Path) -> dict[str, bytes]:
    """Returns all files of a run but the manifest (it holds times) and the lock, by path."""
    paths = [
        path
        for path in directory.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", ".lock")
    ]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in sorted(paths)}
