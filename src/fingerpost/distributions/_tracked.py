"""Sums and products inside a `jvp` rule that an outer forward-mode transform still sees.

torch runs the `jvp` rule of an autograd.Function with forward gradients switched off, so that a second forward derivative
(`jacfwd` of `jacfwd`) takes whatever plain operations the rule does for constants, and comes out wrong without a word.
Functions applied inside the rule are dispatched anew and do carry it; these two are all that a rule needs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fingerpost.distributions._function import signed


def times(a: Tensor, b: Tensor) -> Tensor:
    """Returns a · b.

    Example:
      >>> import torch
      >>> x = torch.tensor(3.0)
      >>> torch.func.jacfwd(torch.func.jacfwd(lambda x: times(x, times(x, x))))(x)
      tensor(18.)
    """
    return _Times.apply(a, b)  # pyright: ignore[reportReturnType]


def plus(a: Tensor, b: Tensor) -> Tensor:
    """Returns a + b, for tensors of one shape."""
    return _Plus.apply(a, b)  # pyright: ignore[reportReturnType]


def negative(a: Tensor) -> Tensor:
    """Returns −a."""
    return times(a, -torch.ones_like(a))


@signed
class _Times(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:  # pyright: ignore
        return a * b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        a, b = ctx.saved_tensors
        return (grad * b).sum_to_size(a.shape), (grad * a).sum_to_size(b.shape)

    @staticmethod
    def jvp(ctx: Any, by_a: Tensor | None, by_b: Tensor | None) -> Tensor:
        a, b = ctx.saved_tensors
        if by_a is None:
            return times(a, by_b)  # pyright: ignore[reportArgumentType]
        return times(by_a, b) if by_b is None else plus(times(by_a, b), times(a, by_b))


@signed
class _Plus(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:  # pyright: ignore
        return a + b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        return grad, grad

    @staticmethod
    def jvp(ctx: Any, by_a: Tensor | None, by_b: Tensor | None) -> Tensor | None:
        if by_a is None or by_b is None:
            return by_b if by_a is None else by_a
        return plus(by_a, by_b)
