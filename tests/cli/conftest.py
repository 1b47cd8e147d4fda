"""What these tests share: a home for runs, files of users, the command line in and out of this process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FILES = Path(__file__).parent / "files"


@pytest.fixture
def files() -> Path:
    """The folder of user's files."""
    return FILES


@pytest.fixture
def tiny() -> str:
    """The path of a user's own experiment."""
    return str(FILES / "tiny.py")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty FINGERPOST_HOME."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FINGERPOST_HOME", str(folder))
    return folder


@pytest.fixture
def command(capsys, home):
    """Carries out a command line in this process: ``status, out, err = command("run", "x")``."""
    from fingerpost.cli import main

    def run(*words: str) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def process(home):
    """Carries out a command line in a fresh process, and says which modules of `heavy` it imported."""
    script = (
        "import sys\nfrom fingerpost.cli import main\nstatus = main(sys.argv[1:])\n"
        "loaded = [m for m in ('torch', 'numpy', 'tyro') if m in sys.modules]\n"
        "print('loaded:', *loaded, file=sys.stderr)\nsys.exit(status)"
    )

    def run(*words: str) -> tuple[int, str, str, list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True
        )
        err, _, loaded = done.stderr.rpartition("loaded:")
        return done.returncode, done.stdout, err, loaded.split()

    return run
