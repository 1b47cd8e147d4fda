"""Solvers of the nudged phase: one file each, the shared loop in `base`."""

from __future__ import annotations

from fingerpost.credit.solvers.anderson import Anderson
from fingerpost.credit.solvers.base import AbstractIterativeSolver, AbstractSolver, Relaxation, Status
from fingerpost.credit.solvers.error import ErrorCoordinates
from fingerpost.credit.solvers.gauss_seidel import GaussSeidel
from fingerpost.credit.solvers.gd import GradientDescent
from fingerpost.credit.solvers.momentum import HeavyBall

SOLVERS: dict[str, type[AbstractSolver]] = {
    "gd": GradientDescent,
    "momentum": HeavyBall,
    "gauss_seidel": GaussSeidel,
    "anderson": Anderson,
    "error": ErrorCoordinates,
}

__all__ = [
    "SOLVERS",
    "AbstractIterativeSolver",
    "AbstractSolver",
    "Anderson",
    "ErrorCoordinates",
    "GaussSeidel",
    "GradientDescent",
    "HeavyBall",
    "Relaxation",
    "Status",
]
