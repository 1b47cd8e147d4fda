"""The command line: a thin door to the lab, and to the audit's one command."""

from __future__ import annotations

from fingerpost.cli.dispatch import main  # not here: the command module ``list`` would hide the built-in

__all__ = ["main"]
