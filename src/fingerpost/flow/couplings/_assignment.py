"""Exact assignment between two batches of points, fast."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fingerpost.flow.couplings.base import squared_distances

SMALL = 128  # below, scipy's solver is faster without a warm start
LARGE = 768
FIRST, RATIO, FLOOR = 0.2, np.float32(0.2), np.float32(-40.0)


def assign(x0: Tensor, x1: Tensor) -> Tensor:
    """The permutation π that minimises Σ ‖x0_π(i) − x1_i‖², shape (B,), on x1's device.

    In one dimension sorting is optimal for any convex cost; otherwise `solve_assignment`.
    """
    if len(x1) == 1:
        return torch.zeros(1, dtype=torch.long, device=x1.device)
    if x1[0].numel() == 1:
        order = torch.empty(len(x1), dtype=torch.long, device=x1.device)
        order[x1.flatten().argsort(stable=True)] = x0.flatten().argsort(stable=True)
        return order
    return torch.from_numpy(solve_assignment(squared_distances(x1, x0))).to(x1.device)


def solve_assignment(cost: Tensor) -> np.ndarray:
    """The columns of an optimal assignment of a square cost matrix (n, n), float64.

    `scipy.optimize.linear_sum_assignment` augments along shortest paths, and takes as long as these are. Subtracting any
    numbers from rows and columns leaves the optimum where it is; approximate dual variables make the optimal entries
    nearly the least of their rows, and the paths short: 4 times faster at n = 256 and 10 times at 2,048, and as exact.
    """
    matrix = cost.cpu().numpy()
    if len(matrix) >= SMALL:
        rows, columns = _duals(matrix)
        reduced = matrix - rows[:, None]
        reduced -= columns
        matrix = reduced
    return linear_sum_assignment(matrix)[1]


def _duals(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Approximate dual variables, by entropic transport at falling temperatures (Schmitzer 2019), in float32.

    At each temperature the kernel is made once, about the duals so far, and scaled by a few matrix–vector products. It
    is floored above the numbers that float32 handles slowly.
    """
    mean = float(cost.mean())
    if not mean > 0:
        return np.zeros(len(cost)), np.zeros(len(cost))
    c = (cost * (1 / mean)).astype(np.float32)
    temperature, (levels, sweeps) = np.float32(FIRST), (5, 20) if len(c) > LARGE else (4, 10)
    rows = c.min(1)
    columns = (c - rows[:, None]).min(0)
    kernel = np.empty_like(c)
    for _ in range(levels):
        np.subtract(columns, c, out=kernel)
        kernel += rows[:, None]
        kernel *= 1 / temperature
        np.exp(np.maximum(kernel, FLOOR, out=kernel), out=kernel)
        right = np.ones_like(columns)
        for _ in range(sweeps):
            left = 1 / (kernel @ right)
            right = 1 / (left @ kernel)
        rows, columns = rows + temperature * np.log(left), columns + temperature * np.log(right)
        temperature *= RATIO
    # any row duals are allowed; these are the best for the column duals
    rows = (c - columns).min(1)
    if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
        return np.zeros(len(cost)), np.zeros(len(cost))
    return rows.astype(np.float64) * mean, columns.astype(np.float64) * mean
