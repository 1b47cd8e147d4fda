"""What JOIN and LINK do on average: sizes of items, transfer curves, margins, and what fires that should not.

In G(n, p) a neuron gets Binomial(r, p) inputs from r firing neurons, and what one neuron gets is independent of what
another does. All functions take p = degree / n. Sizes may be arrays and need not be whole.
"""

from __future__ import annotations

from fingerpost.neuroidal.theory.requirements import (
    Condition,
    capacity,
    condition_table,
    conditions,
    crowding,
    interference,
    link_capacity,
    link_crowding,
    link_probability,
)
from fingerpost.neuroidal.theory.sizes import PRINTED, size_map, size_table, solve_r
from fingerpost.neuroidal.theory.tails import Floats, binomial_tail, joint_tail, union_size
from fingerpost.neuroidal.theory.transfer import (
    FORMS,
    Circuit,
    Margins,
    UnityGain,
    noise_margin,
    recall_curve,
    transfer_curve,
    unity_gain,
)

__all__ = [
    "FORMS",
    "PRINTED",
    "Circuit",
    "Condition",
    "Floats",
    "Margins",
    "UnityGain",
    "binomial_tail",
    "capacity",
    "condition_table",
    "conditions",
    "crowding",
    "interference",
    "joint_tail",
    "link_capacity",
    "link_crowding",
    "link_probability",
    "noise_margin",
    "recall_curve",
    "size_map",
    "size_table",
    "solve_r",
    "transfer_curve",
    "union_size",
    "unity_gain",
]
