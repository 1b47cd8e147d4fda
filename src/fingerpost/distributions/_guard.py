"""A tensor that can be differentiated so many times, and then says so instead of being wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fingerpost.distributions._function import signed


def limited(x: Tensor, orders: int, what: str) -> Tensor:
    """Returns x, whose derivatives beyond `orders` raise, under autograd and every transform of torch.func.

    Args:
      x: A tensor whose first `orders` derivatives are right, and whose next one is not.
      orders: How many derivatives may be taken.
      what: The end of the message: what to do.

    Example:
      >>> import torch
      >>> x = torch.tensor(2.0, requires_grad=True)
      >>> (slope,) = torch.autograd.grad(limited(x**2, 1, "stop here"), x, create_graph=True)
      >>> torch.autograd.grad(slope, x)
      Traceback (most recent call last):
      NotImplementedError: this sample carries no derivative of this order; stop here
    """
    return _Limited.apply(x, orders, what)  # pyright: ignore[reportReturnType]


def refused(x: Tensor, origin: Tensor, what: str) -> Tensor:
    """Returns x, whose every derivative raises, as does every derivative with respect to what `origin` depends on."""
    return _Carried.apply(x, origin, 0, what)  # pyright: ignore[reportReturnType]


def is_mapped(x: Tensor) -> bool:
    """Whether x is under torch.vmap, where its values cannot be looked at."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False


@signed
class _Limited(torch.autograd.Function):
    """The identity; its covector remembers, through x, what the point depends on."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, orders: int, what: str) -> Tensor:  # pyright: ignore
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.orders, ctx.what = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        (x,) = ctx.saved_tensors
        return _Carried.apply(grad, x, ctx.orders - 1, ctx.what), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Any:
        (x,) = ctx.saved_tensors
        return _Carried.apply(tangent, x, ctx.orders - 1, ctx.what)


@signed
class _Carried(torch.autograd.Function):
    """The identity in its first argument, of which `left` more derivatives with respect to anything may be taken."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Tensor, x: Tensor, left: int, what: str) -> Tensor:  # pyright: ignore
        return grad.view_as(grad)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, x, ctx.left, ctx.what = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        x = _left(ctx)
        # The zero tells the next derivative, by way of x, that there is none.
        zero = _Carried.apply(torch.zeros_like(x), x, ctx.left - 1, ctx.what)
        return _Carried.apply(grad, x, ctx.left - 1, ctx.what), zero, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, moved: Tensor | None, *_: Any) -> Any:
        x = _left(ctx)
        if tangent is None:
            return None
        return _Carried.apply(tangent, x, ctx.left - 1, ctx.what)


def _left(ctx: Any) -> Tensor:
    if ctx.left < 1:
        raise NotImplementedError(f"this sample carries no derivative of this order; {ctx.what}")
    return ctx.saved_tensors[0]
