"""A plain residual block, and the residual network made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fingerpost.credit._chain import ResidualChain
from fingerpost.errors import InvalidValueError, ShapeError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


class ResidualBlock(nn.Module):
    """F(h) = h + scale · φ(W h + b), which the fused relaxation recognises.

    Args:
      width: The width d of input and output.
      activation: φ, ``"tanh"`` or ``"relu"``.
      scale: The factor before φ.
      generator: Draws W ~ N(0, 1/d), b = 0; torch's default generator if None.

    Raises:
      InvalidValueError: If the activation is unknown.
    """

    def __init__(
        self,
        width: int,
        activation: str = "tanh",
        scale: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise InvalidValueError(f"activation is {activation!r}; expected one of {sorted(ACTIVATIONS)}")
        self.width, self.activation, self.scale = width, activation, float(scale)
        self.weight = nn.Parameter(gaussian((width, width), width, generator))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor) -> Tensor:
        """Maps h (B, d) to h + scale · φ(W h + b), (B, d).

        Raises:
          ShapeError: If the width of h is not d, so that the skip connection cannot be added.
        """
        if h.shape[-1] != self.width:
            raise ShapeError(
                f"ResidualBlock of width {self.width} got an input of shape {tuple(h.shape)}; its skip "
                f"connection needs (B, {self.width})"
            )
        branch = ACTIVATIONS[self.activation](nn.functional.linear(h, self.weight, self.bias))
        return torch.add(h, branch, alpha=self.scale)

    def extra_repr(self) -> str:
        """What print shows between the parentheses."""
        return f"{self.width}, activation={self.activation!r}, scale={self.scale:g}"


def gaussian(shape: tuple[int, ...], fan_in: int, generator: torch.Generator | None) -> Tensor:
    """Draws N(0, 1/fan_in) entries from `generator`, on the CPU."""
    return torch.randn(shape, generator=generator) / fan_in**0.5


def residual_mlp(
    in_features: int,
    width: int,
    classes: int,
    num_blocks: int,
    *,
    activation: str = "tanh",
    scale: float | None = None,
    loss: Any = "cross_entropy",
    generator: torch.Generator | None = None,
) -> ResidualChain:
    """A residual network: a linear stem, `num_blocks` blocks h + scale · φ(W h + b), a linear readout.

    Args:
      in_features: Width of x.
      width: Width d of every state.
      classes: Number C of logits.
      num_blocks: Number L of blocks.
      activation: φ, ``"tanh"`` or ``"relu"``.
      scale: The factor before φ; 1/√L if None, which keeps h of order one at any depth.
      loss: As in `ResidualChain`.
      generator: Draws every weight, N(0, 1/fan_in); torch's default generator if None.

    Returns:
      A `ResidualChain`; its stem is the identity when ``in_features == width``.

    Example:
      >>> import torch
      >>> from fingerpost.credit import residual_mlp
      >>> chain = residual_mlp(64, 32, 10, 6, generator=torch.Generator().manual_seed(0))
      >>> chain(torch.zeros(5, 64)).shape
      torch.Size([5, 10])
    """
    if num_blocks < 1:
        raise InvalidValueError(f"num_blocks is {num_blocks}; expected at least 1")
    factor = num_blocks**-0.5 if scale is None else scale
    stem = None if in_features == width else _linear(in_features, width, generator)
    blocks = [ResidualBlock(width, activation, factor, generator=generator) for _ in range(num_blocks)]
    return ResidualChain(blocks, _linear(width, classes, generator), loss=loss, stem=stem)


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.copy_(gaussian((outputs, inputs), inputs, generator))
        layer.bias.zero_()
    return layer
