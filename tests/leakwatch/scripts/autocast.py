"""bfloat16 by autocast, with a leak and with harmless lines."""

import torch

linear = torch.nn.Linear(8, 8)
for _ in range(2):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = linear(torch.ones(3, 8))
        x += 1
        y = linear(x.relu_())
        y *= y  # leaks
    assert y.dtype == torch.bfloat16
