"""What the first answers of the command line cost: processor time of a whole process, user plus system.

Ours is the median of 10 runs, the floor a Python that does nothing, both taken in turn. The peer column stays
empty: a command line has no peer. Writes ``results/cli.json``.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

RUNS = 10
TARGET_SECONDS = 0.1
CASES = {
    "--help": ["-m", "fingerpost", "--help"],
    "--version": ["-m", "fingerpost", "--version"],
    "list": ["-m", "fingerpost", "list"],
    "a wrong command": ["-m", "fingerpost", "rnu"],
}
FLOOR = ["-c", "pass"]


def cpu_seconds(arguments: list[str]) -> float:
    """Runs one Python to its end; returns its user and system time."""
    quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    process = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ, file_actions=quiet)
    _, _, usage = os.wait4(process, 0)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measures, prints and saves."""
    rows = []
    for name, arguments in CASES.items():
        pairs = [(cpu_seconds(arguments), cpu_seconds(FLOOR)) for _ in range(RUNS)]
        ours, floor = (statistics.median(column) for column in zip(*pairs))
        row = {"system": "cli", "case": f"fingerpost {name}", "ours": ours, "peer": None, "floor": floor}
        row |= {"unit": "s CPU", "target": f"< {TARGET_SECONDS}", "holds": ours < TARGET_SECONDS}
        rows.append(row | {"worst": max(pair[0] for pair in pairs)})
        print(f"{row['case']:<28} {ours:.3f} s CPU (floor {floor:.3f}, worst {rows[-1]['worst']:.3f})")
    caption = (
        f"Medians of {RUNS} whole processes, user and system time; the floor is `python -c pass`, in turn."
    )
    result = {"title": "First answers of the command line", "caption": caption, "rows": rows}
    path = Path(__file__).parent / "results" / "cli.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
