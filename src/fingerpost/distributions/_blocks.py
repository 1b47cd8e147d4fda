"""Work on long tensors a few thousand elements at a time, so that what is held for them stays in cache."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 16384


def in_blocks(
    function: Callable[..., tuple[Tensor, ...]], shape: torch.Size, *inputs: Tensor
) -> tuple[Tensor, ...]:
    """Applies a function block by block to inputs that broadcast to `shape`.

    The function is given the block's shape, and 1-D inputs; an input that is one number stays one.
    """
    count = math.prod(shape)
    sizes = [torch.Size((min(BLOCK, count - start),)) for start in range(0, max(count, 1), BLOCK)]
    columns = [
        [x.reshape(1)] * len(sizes) if x.numel() == 1 else x.expand(shape).reshape(-1).split(BLOCK)
        for x in inputs
    ]
    blocks = [function(*block) for block in zip(sizes, *columns)]
    return tuple(torch.cat(column).reshape(shape) for column in zip(*blocks))
