"""Forms that change tensors in place, or keep them, and leak nothing: none of them may be reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fingerpost.leakwatch._bench import Bench

STEPS: dict[str, Callable[[Bench], Any]] = {}


def _form(name: str) -> Callable[[Callable[[Bench], Any]], Callable[[Bench], Any]]:
    def add(step: Callable[[Bench], Any]) -> Callable[[Bench], Any]:
        STEPS[name] = step
        return step

    return add


@_form("x = x / norm(x)")
def out_of_place(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x = x / torch.norm(x, dim=-1, keepdim=True)
    return x


@_form("x /= norm(x.detach())")
def detached_norm(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x /= torch.norm(x.detach(), dim=-1, keepdim=True)
    return x


@_form("x /= norm(x) under no_grad")
def without_gradients(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    with torch.no_grad():
        x /= torch.norm(x, dim=-1, keepdim=True)
    return x


@_form("x /= norm(x) with mutation allowed")
def mutation_allowed(bench: Bench) -> Tensor:
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        x = bench.linear(bench.data)
        x /= torch.norm(x, dim=-1, keepdim=True)
        x.square().sum().backward()
    return x


@_form("x /= norm(x.clone())")
def cloned_norm(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x /= torch.norm(x.clone(), dim=-1, keepdim=True)
    return x


@_form("exp_, sqrt_, sigmoid_, tanh_: results saved")
def results_saved(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x = x.exp_() + 1
    x = x.sqrt_() - 1
    x = x.sigmoid_() * 2
    return x.tanh_()


@_form("x.pow_(2), sin_ and cos_: copies saved")
def copies_saved(bench: Bench) -> Tensor:
    return bench.linear(bench.data).pow_(2).sin_().cos_()


@_form("relu, dropout and leaky_relu in place")
def activations(bench: Bench) -> Tensor:
    x = F.relu(bench.linear(bench.data), inplace=True)
    x = F.dropout(x + 1, 0.1, True, True)
    return F.leaky_relu_(x + 1)


@_form("modules in place after a linear layer")
def modules(bench: Bench) -> Tensor:
    width = bench.data.shape[1]
    net = bench.module(
        "net",
        lambda: nn.Sequential(
            nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width), nn.SiLU(inplace=True)
        ),
    )
    return net(bench.data)


@_form("x += bias")
def added_bias(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x += bench.bias
    x *= 2
    return x


@_form("x *= gate of other tensors")
def gated(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x *= torch.sigmoid(bench.data @ bench.weight)
    return x


@_form("mean kept, x -= mean")
def centred(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    mean = x.mean(0)
    x -= mean
    return x


@_form("norm kept, x changed, norm used elsewhere")
def norm_elsewhere(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    size = torch.norm(x, dim=-1, keepdim=True)
    x += 1
    return x.sum() + size.detach().sum()


@_form("norm of x in the loss, beside the changed x")
def norm_beside(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    size = torch.norm(x)
    x += 1
    return x.sum() + size


@_form("x[index] = x[index]**2")
def fancy_index(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    index = torch.tensor([0, 2], device=x.device)
    x[index] = x[index] ** 2
    return x


@_form("x[:, 0] = other column")
def written_column(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x[:, 0] = (bench.data @ bench.weight)[:, 1] ** 2
    x[:, 1] = 0
    return x


@_form("x[:, :2] *= weight")
def scaled_slice(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x[:, :2] *= bench.bias[:2]
    x[:, 2:4] += x[:, :2]
    return x


@_form("masked_fill_, clamp_, index_fill_")
def filled(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x.masked_fill_(x < 0, 0.0)
    x.clamp_(max=2.0)
    return x.index_fill_(1, torch.tensor([0], device=x.device), 1.0)


@_form("fresh buffer, one row at each step")
def sequence_buffer(bench: Bench) -> Tensor:
    state = bench.linear(bench.data)
    states = torch.zeros(4, *state.shape, dtype=state.dtype, device=state.device)
    for t in range(4):
        state = torch.tanh(state @ bench.weight)
        states[t] = state
    return states


@_form("buffer without gradient by index_put_")
def plain_buffer(bench: Bench) -> Tensor:
    memory = torch.zeros_like(bench.data)
    memory.index_put_((torch.tensor([0], device=memory.device),), bench.data[:1] ** 2)
    memory *= memory
    return bench.linear(memory)


@_form("total loss += loss of each part")
def running_loss(bench: Bench) -> Tensor:
    total = torch.zeros((), dtype=bench.data.dtype, device=bench.data.device)
    for part in bench.data.chunk(4):
        total += bench.linear(part).square().mean()
    return total


@_form("gradient accumulation and an optimiser's step")
def optimiser(bench: Bench) -> None:
    weight = bench.once("copy", lambda: nn.Parameter(bench.weight.detach().clone()))
    adam = bench.once("adam", lambda: torch.optim.Adam([weight], lr=1e-3))
    for part in bench.data.chunk(2):
        (part @ weight).square().mean().backward()
    nn.utils.clip_grad_norm_([weight], 1.0)
    adam.step()
    adam.zero_grad()


@_form("batch norm in training")
def batch_norm(bench: Bench) -> Tensor:
    layer = bench.module("norm", lambda: nn.BatchNorm1d(bench.data.shape[1]))
    return F.relu_(layer(bench.linear(bench.data)))


@_form("averaged weights by lerp_ under no_grad")
def averaged(bench: Bench) -> Tensor:
    mean = bench.once("mean", lambda: bench.weight.detach().clone())
    with torch.no_grad():
        mean.lerp_(bench.weight, 0.1)
    return bench.data @ mean + bench.linear(bench.data)


@_form("norm inside a checkpoint")
def checkpointed(bench: Bench) -> Tensor:
    def block(x: Tensor) -> Tensor:
        y = bench.linear(x)
        y /= torch.norm(y.clone(), dim=-1, keepdim=True)
        return y

    return checkpoint(block, bench.data, use_reentrant=False)  # type: ignore[return-value]


@_form("hooks that change gradients in place")
def hooks(bench: Bench) -> Tensor:
    x = bench.linear(bench.data)
    x.register_hook(lambda gradient: gradient.mul(2).clamp_(-1, 1))
    y = x.sin()
    y.sum().backward()
    return y


class _SavesOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.exp()
        ctx.scale = 2.0
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * ctx.saved_tensors[0]


class _KeepsInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * ctx.x.cos()


@_form("save_for_backward(output)")
def saved_output(bench: Bench) -> Tensor:
    y = _SavesOutput.apply(bench.linear(bench.data))
    y.sum().backward()  # type: ignore[union-attr]
    return y  # type: ignore[return-value]


@_form("ctx.x = input")
def kept_input(bench: Bench) -> Tensor:
    y = _KeepsInput.apply(bench.linear(bench.data))
    y.sum().backward()  # type: ignore[union-attr]
    return y  # type: ignore[return-value]


@_form("a graph kept for a second backward pass")
def kept_graph(bench: Bench) -> Tensor:
    x = bench.linear(bench.data).tanh_()
    x.sum().backward(retain_graph=True)
    return x
