"""``fingerpost doctor``: what this machine has, what is missing, and what to type about it."""

from __future__ import annotations

import importlib.metadata
import json as json_text
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from fingerpost._table import Table
from fingerpost.cli.flags import Help, Switch, parse
from fingerpost.lab.store import home as runs_home

_HELP = Help(
    "doctor",
    "Checks this machine and says what to do about what is missing. Every row is ok, warn (something "
    "optional is missing) or fail (fingerpost cannot work). Exit status: 0, or 1 when a row fails.",
    "fingerpost doctor\nfingerpost doctor --json",
)

DEVELOPER_EXTRAS = {"test", "dev"}
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True)
class Flags:
    """Flags of ``fingerpost doctor``."""

    json: Switch = False
    """Print one JSON object per row, for machines."""


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, how it is, and what to do when it is not well."""

    item: str
    status: Literal["ok", "warn", "fail"]
    detail: str


def main(arguments: list[str]) -> int:
    """Prints the findings; returns 1 when one of them fails."""
    flags = parse(Flags, arguments, _HELP)
    findings = list(examine())
    if flags.json:
        for finding in findings:
            print(json_text.dumps(asdict(finding)))
    else:
        rows = [(finding.item, finding.status, finding.detail) for finding in findings]
        print(Table(("item", "status", "what was found"), rows).to_text())
    return 1 if any(finding.status == "fail" for finding in findings) else 0


def examine() -> Iterator[Finding]:
    """Looks at everything, one finding after another."""
    yield _python()
    yield from _torch()
    yield from _requirements()
    yield _home()
    yield _tool("git", ("git",), "runs will not name the code revision they were made with")
    yield _tool("chromium", CHROMIUM_NAMES, "only the report's browser tests need it")


def _python() -> Finding:
    floor = importlib.metadata.metadata("fingerpost")["Requires-Python"] or ">=3.10"
    least = tuple(int(part) for part in re.findall(r"\d+", floor)[:2])
    enough = sys.version_info[:2] >= least
    return Finding("python", "ok" if enough else "fail", f"{platform.python_version()} (needs {floor})")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        yield Finding("torch", "fail", f"cannot be imported ({error}): pip install torch")
        return
    yield Finding("torch", "ok", torch.__version__)
    threads, cores = torch.get_num_threads(), available_cores()
    detail = f"{threads} threads for {cores} cores"
    if threads > cores:
        yield Finding("threads", "warn", f"{detail}: slow; set OMP_NUM_THREADS={cores}")
    else:
        yield Finding("threads", "ok", detail)
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("gpu", "ok", f"{', '.join(names)}: use it with --device cuda")
    else:
        yield Finding("gpu", "ok", "none that torch can use; everything runs on the CPU")


def available_cores() -> int:
    """Counts the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _requirements() -> Iterator[Finding]:
    for requirement in importlib.metadata.requires("fingerpost") or []:
        package = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if package in ("torch", "fingerpost") or (extra and extra[1] in DEVELOPER_EXTRAS):
            continue
        yield _package(package, extra[1] if extra else None)


def _package(package: str, extra: str | None) -> Finding:
    item = f"{package} (extra: {extra})" if extra else package
    try:
        return Finding(item, "ok", importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        if extra:
            return Finding(item, "warn", f"not installed: pip install 'fingerpost[{extra}]'")
        return Finding(item, "fail", f"not installed: pip install {package}")


def _home() -> Finding:
    home = runs_home()
    item = "folder of runs"
    nearest = next(folder for folder in (home, *home.resolve().parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest) as probe:
            probe.write(b"fingerpost")
    except OSError as error:
        return Finding(
            item, "fail", f"{home} cannot be written ({error.strerror}): set FINGERPOST_HOME elsewhere"
        )
    free = shutil.disk_usage(nearest).free
    detail = f"{home}: {free / 1e9:.1f} GB free"
    return Finding(item, "ok" if free >= LEAST_FREE_BYTES else "warn", detail)


def _tool(item: str, names: tuple[str, ...], without: str) -> Finding:
    found: Path | None = next((Path(path) for path in map(shutil.which, names) if path), None)
    if found is None:
        return Finding(item, "warn", f"not found: {without}")
    return Finding(item, "ok", str(found))
