"""Probability paths between noise and data, one file each."""

from fingerpost.flow.paths.base import AbstractPath, AbstractSchedule
from fingerpost.flow.paths.bridge import Bridge
from fingerpost.flow.paths.cond_ot import CondOT
from fingerpost.flow.paths.gaussian import GaussianPath
from fingerpost.flow.paths.trigonometric import Trigonometric
from fingerpost.flow.paths.variance_exploding import VarianceExploding
from fingerpost.flow.paths.variance_preserving import VariancePreserving

__all__ = [
    "AbstractPath",
    "AbstractSchedule",
    "Bridge",
    "CondOT",
    "GaussianPath",
    "Trigonometric",
    "VarianceExploding",
    "VariancePreserving",
]
