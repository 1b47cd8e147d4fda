"""Graphs: one that is generated and never stored, and one that is stored to hold it against."""

from __future__ import annotations

from fingerpost.neuroidal.graphs.base import AbstractGraph
from fingerpost.neuroidal.graphs.implicit import ImplicitGraph
from fingerpost.neuroidal.graphs.stored import StoredGraph

__all__ = ["AbstractGraph", "ImplicitGraph", "StoredGraph"]
