"""Trains without a leak, and ends in one of several ways."""

import sys

import torch

linear = torch.nn.Linear(4, 4)
optimiser = torch.optim.Adam(linear.parameters())
for _ in range(3):
    optimiser.zero_grad()
    x = linear(torch.ones(3, 4))
    x += 1
    x.relu_().sum().backward()
    optimiser.step()

ending = sys.argv[1] if len(sys.argv) > 1 else ""
if ending == "raise":
    raise ValueError("the script's own error")
if ending == "message":
    sys.exit("the script's own message")
if ending:
    sys.exit(int(ending))
