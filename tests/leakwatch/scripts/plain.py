"""Leaks at one line, takes arguments, and prints how it was run."""

import argparse
import sys

import torch


def step(linear: torch.nn.Linear, data: torch.Tensor) -> torch.Tensor:
    x = linear(data)
    x /= x.norm(dim=-1, keepdim=True)  # leaks
    return x


parser = argparse.ArgumentParser()
parser.add_argument("--passes", type=int, default=2)
parser.add_argument("--status", type=int, default=0)
flags = parser.parse_args()

linear = torch.nn.Linear(4, 4)
for _ in range(flags.passes):
    step(linear, torch.ones(3, 4))
print(__name__, sys.argv[1:], sys.path[0].endswith("scripts"))
sys.exit(flags.status)
