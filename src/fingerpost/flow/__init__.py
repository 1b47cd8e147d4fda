"""Learning signals for continuous flows, without simulation: probability paths, couplings, and their losses."""

from __future__ import annotations

from fingerpost.flow._loss import cfm_loss
from fingerpost.flow.couplings import AbstractCoupling, ExactOT, Independent
from fingerpost.flow.paths import (
    AbstractPath,
    AbstractSchedule,
    Bridge,
    CondOT,
    GaussianPath,
    Trigonometric,
    VarianceExploding,
    VariancePreserving,
)
from fingerpost.flow.times import AbstractTime, Beta, LogitNormal, Uniform

__all__ = [
    "AbstractCoupling",
    "AbstractPath",
    "AbstractSchedule",
    "AbstractTime",
    "Beta",
    "Bridge",
    "CondOT",
    "ExactOT",
    "GaussianPath",
    "Independent",
    "LogitNormal",
    "Trigonometric",
    "Uniform",
    "VarianceExploding",
    "VariancePreserving",
    "cfm_loss",
]
