"""A scripted function that changes its tensor in place."""

import torch


@torch.jit.script
def normalised(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y /= y.norm()
    return y


for _ in range(3):
    normalised(torch.ones(3, requires_grad=True)).sum()
