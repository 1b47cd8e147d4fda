"""Memory on a sparse random graph: items, JOIN and LINK, on graphs whose edges are drawn when they are asked for."""

from __future__ import annotations

from fingerpost.neuroidal import theory
from fingerpost.neuroidal.fire import fire, fire_jointly
from fingerpost.neuroidal.graphs import AbstractGraph, ImplicitGraph, StoredGraph
from fingerpost.neuroidal.item import Item
from fingerpost.neuroidal.join import join
from fingerpost.neuroidal.link import JoinLink, Link, join_link, link
from fingerpost.neuroidal.memory import Memory

__all__ = [
    "AbstractGraph",
    "ImplicitGraph",
    "Item",
    "JoinLink",
    "Link",
    "Memory",
    "StoredGraph",
    "fire",
    "fire_jointly",
    "join",
    "join_link",
    "link",
    "theory",
]
