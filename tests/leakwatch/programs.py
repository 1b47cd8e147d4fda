"""Random programs of in-place and other operations, for the guard against the truth of weak references."""

from __future__ import annotations

import contextlib
import gc
import random
import weakref

import torch

PLAIN = ("sin", "exp", "tanh", "sigmoid", "square", "neg", "relu", "clone", "abs", "cos", "detach")
PLAIN_IN_PLACE = ("sin_", "tanh_", "relu_", "neg_", "exp_", "sigmoid_", "square_", "zero_", "abs_")
PAIRS = ("add", "mul", "sub", "div", "maximum", "atan2")
PAIRS_IN_PLACE = ("add_", "mul_", "sub_", "div_", "copy_", "atan2_")
VIEWS = (
    lambda a: a[:2],
    lambda a: a[..., :2],
    lambda a: a.t(),
    lambda a: a.view(-1),
    lambda a: a.reshape(-1),
    lambda a: a[torch.tensor([0, 1])],
)
REDUCTIONS = (
    lambda a: a.norm(),
    lambda a: a.sum(),
    lambda a: a.mean(0),
    lambda a: a.logsumexp(-1, keepdim=True),
    lambda a: a.norm(dim=-1, keepdim=True),
    lambda a: a.softmax(-1),
)


def run_program(seed: int, steps: int = 12) -> list[weakref.ref[torch.Tensor]]:
    """Runs a program, drops all that it made, and returns weak references to it. What torch refuses is skipped."""
    draw = random.Random(seed)
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), requires_grad=True)
    pool = [weight * 1.5, weight @ torch.ones(4, 4)]
    for _ in range(steps):
        a, b, c = (draw.choice(pool) for _ in range(3))
        try:
            with torch.set_grad_enabled(draw.random() > 0.08):
                made = _step(draw, a, b, c)
        except (RuntimeError, IndexError):
            continue
        if all(made is not known for known in pool):
            pool.append(made)
    references = [weakref.ref(tensor) for tensor in pool]
    if draw.random() < 0.5:
        _backward(pool)
    return references


def _step(draw: random.Random, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    kind = draw.choices(range(9), (20, 18, 12, 6, 6, 12, 16, 6, 4))[0]
    if kind in (0, 5):
        return getattr(a, draw.choice(PLAIN_IN_PLACE if kind else PLAIN))()
    if kind == 1:
        return getattr(torch, draw.choice(PAIRS))(a, b)
    if kind in (2, 4):
        return draw.choice(REDUCTIONS if kind == 4 else VIEWS)(a)
    if kind == 3:
        return torch.zeros(4, 4)
    if kind == 6:
        return getattr(a, draw.choice(PAIRS_IN_PLACE))(b)
    if kind == 7:
        a[:1] = draw.choice([b[:1], b[1:2] ** 2, b.sum(), b[-1:] * 2])
        return a
    return a.addcmul_(b, c)


def _backward(pool: list[torch.Tensor]) -> None:
    with contextlib.suppress(RuntimeError):
        total = torch.zeros(()) + sum(tensor.sum() for tensor in pool if tensor.requires_grad)
        total.backward()


def still_alive(references: list[weakref.ref[torch.Tensor]]) -> bool:
    """Whether any of the tensors is alive: the truth about a leak."""
    # torch keeps the graph of a backward pass that failed until the next one; that is no leak.
    torch.ones(1, requires_grad=True).sum().backward()
    gc.collect()
    return any(reference() is not None for reference in references)
