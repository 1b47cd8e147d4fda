"""Learning signals through depth: equilibrium propagation, backpropagation and their neighbours."""

from __future__ import annotations

from fingerpost.credit._beta import automatic_beta
from fingerpost.credit._blocks import ResidualBlock, residual_mlp
from fingerpost.credit._chain import ResidualChain
from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.credit._layered import LayeredLoss
from fingerpost.credit._local import local_gradients
from fingerpost.credit._phases import FreePhase, NudgedPhase, free_phase, nudged_phase
from fingerpost.credit.hopfield import HopfieldNetwork, HopfieldPhase
from fingerpost.credit.signals import (
    AbstractCredit,
    Backprop,
    Credits,
    DirectFeedbackAlignment,
    DisplacementCredit,
    ErrorCredit,
    FeedbackAlignment,
    ForwardGradient,
)
from fingerpost.credit.solvers import (
    SOLVERS,
    AbstractIterativeSolver,
    AbstractSolver,
    Anderson,
    ErrorCoordinates,
    GaussSeidel,
    GradientDescent,
    HeavyBall,
    Relaxation,
    Status,
)

__all__ = [
    "SOLVERS",
    "AbstractCredit",
    "AbstractIterativeSolver",
    "AbstractSolver",
    "Anderson",
    "Backprop",
    "Credits",
    "DirectFeedbackAlignment",
    "DisplacementCredit",
    "EnergyGradient",
    "ErrorCoordinates",
    "ErrorCredit",
    "FeedbackAlignment",
    "ForwardGradient",
    "FreePhase",
    "GaussSeidel",
    "GradientDescent",
    "HeavyBall",
    "HopfieldNetwork",
    "HopfieldPhase",
    "LayeredLoss",
    "NudgedPhase",
    "NudgedProblem",
    "Relaxation",
    "ResidualBlock",
    "ResidualChain",
    "Status",
    "automatic_beta",
    "free_phase",
    "local_gradients",
    "nudged_phase",
    "residual_mlp",
]
