"""Leaks in the children that it starts, and not itself."""

import multiprocessing
import sys

import torch


def child(queue: "multiprocessing.Queue") -> None:
    x = torch.ones(3, 3) @ torch.ones(3, 3, requires_grad=True)
    x *= x
    queue.put(float(x.detach().sum()))


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    children = [context.Process(target=child, args=(queue,)) for _ in range(2)]
    for process in children:
        process.start()
    print([queue.get() for _ in children])
    for process in children:
        process.join()
        assert process.exitcode == 0
