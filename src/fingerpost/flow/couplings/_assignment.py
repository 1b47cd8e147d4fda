"""Exact assignment between two batches of points, fast."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fingerpost.flow.couplings.base import squared_distances


def assign(x0: Tensor, x1: Tensor) -> Tensor:
    """The permutation π that minimises Σ ‖x0_π(i) − x1_i‖², shape (B,), on x1's device.

    In one dimension sorting is optimal for any convex cost. Otherwise the shortest augmenting paths of
    `scipy.optimize.linear_sum_assignment`, on costs reduced by approximate dual variables, which leaves the optimum
    where it is and makes the paths short.
    """
    if len(x1) == 1:
        return torch.zeros(1, dtype=torch.long, device=x1.device)
    if x1[0].numel() == 1:
        order = torch.empty(len(x1), dtype=torch.long, device=x1.device)
        order[x1.flatten().argsort(stable=True)] = x0.flatten().argsort(stable=True)
        return order
    cost = squared_distances(x1, x0)
    return torch.from_numpy(solve_assignment(cost)).to(x1.device)


def solve_assignment(cost: Tensor) -> np.ndarray:
    """The columns of the optimal assignment of a square cost matrix (n, n), float64."""
    if len(cost) < 32:
        return linear_sum_assignment(cost.cpu().numpy())[1]
    rows, columns = _duals(cost)
    reduced = (cost - rows[:, None]).sub_(columns)
    return linear_sum_assignment(reduced.cpu().numpy())[1]


def _duals(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Approximate dual variables, by entropic transport at a falling temperature, in float32.

    Any u, v give cost − u − v the same optimal assignment; good ones make the optimal entries nearly the least of
    their rows and columns.
    """
    c = cost.float()
    rows = torch.zeros(len(c), dtype=c.dtype, device=c.device)
    columns = torch.zeros_like(rows)
    temperature = float(c.mean())
    for _ in range(SWEEPS):
        temperature = max(temperature * 0.5, 1e-30)
        scaled = c / -temperature
        rows = -temperature * torch.logsumexp(scaled + columns / temperature, 1)
        columns = -temperature * torch.logsumexp(scaled + (rows / temperature)[:, None], 0)
    return rows.double(), columns.double()


SWEEPS = 4
