"""A compiled region that changes its tensors in place, and a leak outside it."""

import sys

import torch

linear = torch.nn.Linear(4, 4)


@torch.compile(backend=sys.argv[1])
def inside(data: torch.Tensor) -> torch.Tensor:
    x = linear(data)
    x += 1
    x *= torch.sigmoid(x)
    return x


for _ in range(2):
    y = inside(torch.ones(3, 4))
    y /= y.norm()  # leaks
    inside(torch.ones(3, 4)).sum().backward()
print(linear.weight.grad is not None)
