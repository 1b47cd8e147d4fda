"""Errors of predictions along one sequence: from one step to the next, and to what is still to come."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.td._scan import recurrence


def td_errors(predictions: Tensor, z: Tensor, c: Tensor | None, gamma: float) -> Tensor:
    """c_{t+1} + γP_{t+1} − P_t, shape (m,), with P_{m+1} = z."""
    errors = gamma * torch.cat([predictions[1:], z[None]]) - predictions
    return errors if c is None else errors + c


def later_errors(errors: Tensor, decay: float) -> Tensor:
    """Σ_{t ≥ k} decay^(t−k) δ_t for each k, shape (m,): what a trace collects, seen from its start."""
    return recurrence(errors, errors.new_tensor(decay), errors.new_zeros(()))


def returns(z: Tensor, c: Tensor | None, gamma: float, m: int) -> Tensor:
    """G_t = c_{t+1} + γ G_{t+1} with G_{m+1} = z, shape (m,)."""
    if c is None:
        return z * gamma ** torch.arange(m, 0, -1, dtype=z.dtype, device=z.device)
    return recurrence(c, z.new_tensor(gamma), z)


def accumulated(slopes: Tensor, decay: float) -> Tensor:
    """e_t = decay · e_{t−1} + g_t along the first axis, in the shape of g."""
    backwards = slopes.flatten(1).T.flip(-1) if slopes.ndim > 1 else slopes.flip(-1)
    traces = recurrence(backwards, slopes.new_tensor(decay), slopes.new_zeros(())).flip(-1)
    return traces.T.reshape(slopes.shape)
