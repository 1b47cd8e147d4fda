"""Who, what, where: the facts of ``manifest.json``.

Keys: ``format`` (1), ``id``, ``experiment``, ``title``, ``summary``, ``preset``, ``seed``, ``config``
  (resolved),
``command`` (a list of words), ``git`` ({``revision``, ``dirty``}: dirty is the SHA-256 of the difference,
null when clean; the whole is null outside git), ``python``, ``platform``, ``packages`` ({name: version}),
``hardware`` ({``cpu``, ``cores``, ``memory_bytes``, ``gpus``}), ``threads``, ``processes`` (of torchrun; left out
when there is one), ``started`` and ``finished`` (UTC, ISO 8601), ``resumed`` (a list of {``at``, ``git``}),
``exit`` (``"completed"``, ``"interrupted"``,
``"error: …"``; null while it runs, or when it was killed) and ``files`` ({path: SHA-256} of every other
file, once finished).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fingerpost.lab.files import jsonable

FORMAT = 1
PACKAGES = ("fingerpost", "torch", "numpy", "scipy", "safetensors", "matplotlib", "scikit-learn")


def now() -> str:
    """Returns the time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def config_digest(experiment: str, config: Mapping[str, Any]) -> str:
    """Returns the SHA-256 that identifies an experiment with its resolved configuration."""
    text = json.dumps([experiment, jsonable(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _git(*arguments: str, folder: Path) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def git_state(folder: Path) -> dict[str, str | None] | None:
    """Returns the revision and the SHA-256 of what differs from it (None when clean); None outside git."""
    revision = _git("rev-parse", "HEAD", folder=folder)
    if revision is None:
        return None
    changes = _git("diff", "HEAD", folder=folder)
    return {
        "revision": revision.decode().strip(),
        "dirty": hashlib.sha256(changes).hexdigest() if changes else None,
    }


def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def cpu_name() -> str:
    """Returns the processor's model name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def environment() -> dict[str, Any]:
    """Returns where this process runs: git, Python, packages, hardware and threads.

    GPUs and torch's threads are seen only when torch is already loaded: this function never imports it.
    """
    torch = sys.modules.get("torch")
    return {
        "git": git_state(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(),
        "hardware": {"cpu": cpu_name(), "cores": _cores(), "memory_bytes": _memory_bytes(), "gpus": _gpus()},
        "threads": torch.get_num_threads() if torch is not None else None,
    }
