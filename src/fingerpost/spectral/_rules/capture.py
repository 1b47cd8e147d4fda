"""One forward pass with the layers' inputs kept, and the cotangents of their outputs by backward passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from fingerpost.errors import InvalidTypeError, ShapeError
from fingerpost.spectral._rules.inputs import Inputs, call


@dataclass
class Use:
    """One call of a layer."""

    layer: str
    inputs: Tensor
    edge: GradientEdge


@dataclass
class Capture:
    """A forward pass.

    Attributes:
      output: Shape (n, o), with its graph.
      uses: The calls of the watched layers, in their order.
    """

    output: Tensor
    uses: list[Use] = field(default_factory=list)

    def cotangents(self) -> list[Tensor | None]:
        """∂f_o/∂(layer's output), shape (o, …) for each use; None where the output does not depend on it.

        Row i of an output is that of sample i alone if no layer mixes samples.
        """
        edges = [use.edge for use in self.uses]
        outputs = self.output.shape[1]
        if not edges or not self.output.requires_grad:
            return [None] * len(edges)
        each = []
        for o in range(outputs):
            seed = torch.zeros_like(self.output)
            seed[:, o] = 1
            each.append(backward(self.output, edges, seed, keep=o < outputs - 1))
        return [None if part[0] is None else torch.stack(part) for part in zip(*each)]


def capture(model: nn.Module, inputs: Inputs, layers: Mapping[str, nn.Module], n: int) -> Capture:
    """Calls the model on n samples and watches the layers, whose hooks are gone afterwards."""
    uses: list[Use] = []
    handles = []

    def watch(name: str, layer: nn.Module) -> None:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(output, Tensor) and output.requires_grad and isinstance(given, Tensor):
                # an edge, not the tensor: the next layer may overwrite it in place
                uses.append(Use(name, given.detach(), get_gradient_edge(output)))

        handles.append(layer.register_forward_hook(hook, with_kwargs=True, prepend=True))

    try:
        for name, layer in layers.items():
            watch(name, layer)
        with torch.enable_grad():
            output = as_matrix(call(model, inputs), n)
    finally:
        for handle in handles:
            handle.remove()
    return Capture(output, uses)


def as_matrix(output: Any, n: int) -> Tensor:
    """The network's output as (n, o), checked."""
    if not isinstance(output, Tensor):
        raise InvalidTypeError(
            f"the model returned {type(output).__name__}; a tangent kernel needs one tensor of shape (n,) or (n, outputs): "
            "wrap the model in one that returns it"
        )
    if output.dim() not in (1, 2) or output.shape[0] != n:
        raise ShapeError(
            f"the model returned shape {tuple(output.shape)} for {n} samples; expected ({n},) or ({n}, outputs): "
            "flatten the dimensions after the first"
        )
    return output[:, None] if output.dim() == 1 else output


@contextmanager
def state_kept(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Puts buffers and random states back as they were; inside, only `capture` records gradients."""
    kept = [
        (owner, name, buffer, buffer.detach().clone(), buffer._version)
        for owner in model.modules()
        for name, buffer in owner._buffers.items()
        if buffer is not None
    ]
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.inference_mode(False), torch.no_grad():
            yield
    finally:
        for owner, name, buffer, before, version in kept:
            owner._buffers[name] = buffer
            if buffer._version != version:
                with torch.no_grad():
                    buffer.copy_(before)


def backward(
    output: Tensor, by: Sequence[GradientEdge | nn.Parameter], seed: Tensor, keep: bool
) -> tuple[Tensor | None, ...]:
    """seedᵀ ∂output/∂each; None where the output does not depend on it."""
    inputs: Any = by
    return torch.autograd.grad(output, inputs, seed, retain_graph=keep, allow_unused=True)
