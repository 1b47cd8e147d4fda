"""Learning signals through delay: temporal differences, λ-returns, and what they converge to."""

from __future__ import annotations

from fingerpost.td._checks import OutcomeSequence
from fingerpost.td.environments import from_gymnasium
from fingerpost.td.gradients import td_gradients, widrow_hoff_gradients
from fingerpost.td.learner import TDLearner
from fingerpost.td.maps import batch_fixed_point, sequence_map, stable_alpha, sweep
from fingerpost.td.random_walk import RandomWalk
from fingerpost.td.returns import generalized_advantage, lambda_return
from fingerpost.td.tables import SequenceTable, read_sequences
from fingerpost.td.updates import td_updates, widrow_hoff_updates

__all__ = [
    "OutcomeSequence",
    "RandomWalk",
    "SequenceTable",
    "TDLearner",
    "batch_fixed_point",
    "from_gymnasium",
    "generalized_advantage",
    "lambda_return",
    "read_sequences",
    "sequence_map",
    "stable_alpha",
    "sweep",
    "td_gradients",
    "td_updates",
    "widrow_hoff_gradients",
    "widrow_hoff_updates",
]
