"""Moments of very many posteriors, a chunk of trials at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.population.posterior import Posterior


class Moments(NamedTuple):
    """Of each trial's posterior, (T,) each.

    Args:
      mean: On a circle in [grid[0], grid[0] + period).
      variance: In the stimulus's unit squared.
    """

    mean: Tensor
    variance: Tensor


def stream_moments(
    code: Any, counts: Any, like: Posterior, gain: Any, prior: Tensor | None, chunk: int | None
) -> Moments:
    """The loop behind `decode_moments`."""
    means, variances = [], []
    for rows in torch.arange(len(counts)).split(chunk or 256):
        level = code.log_likelihood(counts[rows], like.grid, gain)
        one = Posterior(like.grid, level if prior is None else level + prior, period=like.period[0])
        means.append(one.mean)
        variances.append(one.variance)
    return Moments(torch.cat(means), torch.cat(variances))
