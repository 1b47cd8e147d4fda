"""Learning signals through randomness: distributions whose samples carry exact gradients."""

from __future__ import annotations

from fingerpost.distributions.base import AbstractImplicit

__all__ = ["AbstractImplicit"]
