"""Learning signals for continuous flows, without simulation: probability paths, couplings, and their losses."""

from __future__ import annotations

from fingerpost.flow._loss import cfm_loss
from fingerpost.flow.couplings import AbstractCoupling, ExactOT, Independent, Prefetched, Sinkhorn
from fingerpost.flow.estimator import FlowEstimator
from fingerpost.flow.estimator_scaling import resolutions
from fingerpost.flow.guidance import Guided, drop_condition
from fingerpost.flow.marginal import MarginalField, Nodes
from fingerpost.flow.metrics import mmd, nll, wasserstein2
from fingerpost.flow.nets import ClassEmbedding, FlowMLP, GaussianStart, TimeEmbedding, UNet
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
from fingerpost.flow.sampling import log_prob, sample, trajectory
from fingerpost.flow.tables import NumericTable, read_table, write_table
from fingerpost.flow.times import AbstractTime, Beta, LogitNormal, Uniform

__all__ = [
    "AbstractCoupling",
    "AbstractPath",
    "AbstractSchedule",
    "AbstractTime",
    "Beta",
    "Bridge",
    "ClassEmbedding",
    "CondOT",
    "ExactOT",
    "FlowEstimator",
    "FlowMLP",
    "GaussianPath",
    "GaussianStart",
    "Guided",
    "Independent",
    "LogitNormal",
    "MarginalField",
    "Nodes",
    "NumericTable",
    "Prefetched",
    "Sinkhorn",
    "TimeEmbedding",
    "Trigonometric",
    "UNet",
    "Uniform",
    "VarianceExploding",
    "VariancePreserving",
    "cfm_loss",
    "drop_condition",
    "log_prob",
    "mmd",
    "nll",
    "read_table",
    "resolutions",
    "sample",
    "trajectory",
    "wasserstein2",
    "write_table",
]
