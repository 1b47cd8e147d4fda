"""Sequences and plain loops that the tests of td compare with."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from fingerpost.td import OutcomeSequence


def draw(m: int, d: int, seed: int = 0, rewards: bool = False) -> OutcomeSequence:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(m, d, generator=generator, dtype=torch.float64)
    z = torch.randn((), generator=generator, dtype=torch.float64)
    c = torch.randn(m, generator=generator, dtype=torch.float64) if rewards else None
    return OutcomeSequence(x, z, c)


def weights(d: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def many(count: int, d: int, seed: int = 0, rewards: bool = False) -> list[OutcomeSequence]:
    """Sequences of lengths 1 to 7."""
    return [draw(1 + (3 * i + seed) % 7, d, 100 * seed + i, rewards) for i in range(count)]


def td_by_definition(sequence, w, lam, alpha=1.0, gamma=1.0, online=False):
    """Δw_t = α (c + γP_{t+1} − P_t) Σ_k (γλ)^(t−k) x_k, term by term."""
    x, z, c = sequence
    m, changes, w = len(x), [], w.clone()
    for t in range(m):
        following = x[t + 1] @ w if t + 1 < m else z
        error = (0.0 if c is None else c[t]) + gamma * following - x[t] @ w
        trace = sum((gamma * lam) ** (t - k) * x[k] for k in range(t + 1))
        changes.append(alpha * error * trace)
        if online:
            w = w + changes[-1]
    return torch.stack(changes)


def returns_by_definition(sequence, gamma):
    x, z, c = sequence
    m = len(x)
    c = torch.zeros(m, dtype=x.dtype) if c is None else c
    return torch.stack(
        [sum(gamma ** (k - t) * c[k] for k in range(t, m)) + gamma ** (m - t) * z for t in range(m)]
    )


units = st.floats(0, 1)
lengths = st.integers(1, 12)
widths = st.integers(1, 5)
seeds = st.integers(0, 2**20)
