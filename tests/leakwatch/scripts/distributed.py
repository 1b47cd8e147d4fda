"""DistributedDataParallel on gloo, in this process or in two."""

import os
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def train(rank: int, world: int, path: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    torch.manual_seed(0)
    net = DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)))
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        x = net(torch.ones(3, 4) * (rank + 1))
        x += 1
        x.square().sum().backward()
        optimiser.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    world, path = int(sys.argv[1]), sys.argv[2]
    if world == 1:
        train(0, 1, path)
    else:
        torch.multiprocessing.spawn(train, (world, path), nprocs=world)
    print("trained", os.path.exists(path))
