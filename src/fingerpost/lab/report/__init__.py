"""One self-contained HTML page from run folders: the scoreboard of claims, then every experiment.

Run folders are read as data: nothing in them is executed, and torch is never imported.
"""

from __future__ import annotations

from fingerpost.lab.report.page import build_report

__all__ = ["build_report"]
