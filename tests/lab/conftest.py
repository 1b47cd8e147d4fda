from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """Every test has a home of its own for runs."""
    monkeypatch.setenv("FINGERPOST_HOME", str(tmp_path / "home"))
