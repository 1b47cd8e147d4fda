"""Integrals of many elements at once: Gauss–Legendre sums, region by region, in blocks that stay in the cache.

Layout: elements are the last dimension, nodes the first, so that work at one node is contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Branch = Callable[..., tuple[Tensor, ...]]
"""1-D tensors of one length to 1-D tensors of that length."""

BLOCK = 2048  # elements; with 20 to 48 nodes a temporary is below 1 MB


@lru_cache(maxsize=64)
def _rule(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(0.5 + 0.5 * nodes).to(device), torch.from_numpy(0.5 * weights).to(device)


def legendre(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The Gauss–Legendre rule on [0, 1]: float64 nodes of shape (count, 1) and weights of shape (count,)."""
    nodes, weights = _rule(count, like.device)
    return nodes[:, None], weights


def flat(*tensors: Tensor) -> tuple[torch.Size, list[Tensor]]:
    """The common shape of tensors, and each of them at that shape as a 1-D tensor."""
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))
    return shape, [x.expand(shape).reshape(-1) for x in tensors]


def blockwise(branch: Branch, *inputs: Tensor, block: int = BLOCK) -> tuple[Tensor, ...]:
    """Applies a branch to 1-D tensors block by block."""
    if inputs[0].numel() <= block:
        return branch(*inputs)
    pieces = [branch(*part) for part in zip(*(x.split(block) for x in inputs))]
    return tuple(torch.cat(column) for column in zip(*pieces))


def piecewise(
    regions: Sequence[tuple[Tensor, Branch]], *inputs: Tensor, block: int = BLOCK
) -> tuple[Tensor, ...]:
    """Computes each element by the branch of its region, and only by that one.

    Args:
      regions: Masks, 1-D, of which exactly one is true at each element; and what is computed there.
      *inputs: 1-D tensors of the masks' length.
      block: How many elements are worked on at a time.
    """
    places: list[Tensor] = []
    pieces: list[tuple[Tensor, ...]] = []
    for mask, branch in regions:
        place = mask.nonzero().squeeze(-1)
        if len(place) == len(mask):
            return blockwise(branch, *inputs, block=block)
        if len(place):
            places.append(place)
            pieces.append(blockwise(branch, *(x[place] for x in inputs), block=block))
    order = torch.cat(places)
    columns = [torch.cat(column) for column in zip(*pieces)]
    return tuple(torch.zeros_like(column).index_copy(0, order, column) for column in columns)
