"""First-order linear recurrences over the last axis, in blocks: about 3√T vector operations where a plain loop takes T."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_BLOCK = 64
"""Steps of a block at most. Shorter ones transpose badly, longer ones leave the cache."""
_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_SMALL = 2**15
"""Elements below which the calls cost more than what they do."""


def recurrence(a: Tensor, c: Tensor, end: Tensor, stop: Tensor | None = None) -> Tensor:
    """y_t = a_t + c_t y_{t+1} with y_T = end, over the last axis; differentiable any number of times.

    Args:
      a: Shape (..., T).
      c: The shape of a, or 0-dimensional.
      end: What broadcasts to (...).
      stop: Where c_t counts as 0, the shape of a, boolean; None for nowhere.

    Returns:
      y_0 … y_{T−1}, shape (..., T).
    """
    end = end.expand(a.shape[:-1])
    tracked = torch.is_grad_enabled() and (a.requires_grad or c.requires_grad or end.requires_grad)
    if tracked or _transformed():
        return _Recurrence.apply(a, c, end, stop)
    return _Recurrence.forward(a, c, end, stop)  # binding the arguments of an autograd.Function takes 0.2 ms


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, c: Tensor, end: Tensor, stop: Tensor | None) -> Tensor:
        length = a.shape[-1]
        c = c if c.ndim == 0 else c.reshape(-1, length)
        stop = None if stop is None else stop.reshape(-1, length)
        return _scan(a.reshape(-1, length), c, end.reshape(-1), stop).reshape(a.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        c, end, stop, y = ctx.saved_tensors
        # the adjoint runs the other way: s_t = g_t + c_{t−1} s_{t−1}
        before = c if c.ndim == 0 else c.roll(1, -1).flip(-1)
        stopped = None if stop is None else stop.roll(1, -1).flip(-1)
        s = recurrence(grad.flip(-1), before, grad.new_zeros(()), stopped).flip(-1)
        of_c = of_end = None
        if ctx.needs_input_grad[1]:
            of_c = s * torch.cat([y[..., 1:], end[..., None]], -1)
            of_c = of_c if stop is None else of_c.masked_fill(stop, 0)
            of_c = of_c.sum() if c.ndim == 0 else of_c
        if ctx.needs_input_grad[2]:
            last = s[..., -1] * (c if c.ndim == 0 else c[..., -1])
            of_end = last if stop is None else last.masked_fill(stop[..., -1], 0)
        return s, of_c, of_end, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Members of a batch are rows like any others."""
        a, c, end, stop = (x if dim is None else x.movedim(dim, 0) for x, dim in zip(inputs, in_dims))
        shape = a.shape if in_dims[0] is not None else (info.batch_size, *a.shape)
        if in_dims[1] is not None and c.ndim == 1:  # a number for each member
            c = c.reshape(-1, *(1 for _ in shape[1:]))
        c = c if c.ndim == 0 else c.expand(shape)
        stop = None if stop is None else stop.expand(shape)
        return _Recurrence.apply(a.expand(shape), c, end.expand(shape[:-1]), stop), 0


def _scan(a: Tensor, c: Tensor, end: Tensor, stop: Tensor | None) -> Tensor:
    """The recurrence for (N, T), without a graph: each block from 0, then what comes in from the block after it."""
    rows, length = a.shape
    block = _block(rows, length)
    short = -length % block
    if short:  # steps before the first, which nothing depends on
        a = torch.nn.functional.pad(a, (short, 0))
        c = c if c.ndim == 0 else torch.nn.functional.pad(c, (short, 0))
        stop = None if stop is None else torch.nn.functional.pad(stop, (short, 0))
    blocks = (length + short) // block
    y = _by_time(a, block, rows * blocks)
    if c.ndim == 0 and stop is None:
        share = c ** torch.arange(block, 0, -1, dtype=c.dtype, device=c.device)[:, None]
        _march_constant(y, c)
        whole = share[0, 0]
    else:
        share = c if c.ndim == 0 else _by_time(c, block, rows * blocks)
        if stop is not None:
            share = torch.where(_by_time(stop, block, rows * blocks), share.new_zeros(()), share)
        _march(y, share)
        whole = share[0].view(rows, blocks)
    if blocks > 1:
        entries = _scan(y[0].view(rows, blocks), whole, end, None)
        end = torch.cat([entries[:, 1:], end[:, None]], 1)
    y.addcmul_(share, end.reshape(1, -1))
    return y.t().reshape(rows, -1)[:, short:]


def _block(rows: int, length: int) -> int:
    """A block length near what divides T, about √T where a step is too short to pay for its call."""
    most = _BLOCK if rows * length > _SMALL else min(_BLOCK, max(8, math.isqrt(length)))
    if length <= most:
        return max(1, length)
    return min(range(most, most // 2 - 1, -1), key=lambda block: -length % block)


def _by_time(x: Tensor, block: int, columns: int) -> Tensor:
    """A copy of (N, T) as (block, N · blocks), so that a step of all blocks lies together."""
    turned = x.reshape(columns, block).t()
    return turned.clone(memory_format=torch.contiguous_format)


def _march(y: Tensor, share: Tensor) -> None:
    """Solves each block from 0, in place, and makes of c what the entry of a block is worth at each step."""
    ys, shares = y.unbind(0), share.unbind(0)
    for t in range(len(ys) - 2, -1, -1):
        ys[t].addcmul_(shares[t], ys[t + 1])
        shares[t].mul_(shares[t + 1])


def _march_constant(y: Tensor, c: Tensor) -> None:
    ys = y.unbind(0)
    for t in range(len(ys) - 2, -1, -1):
        ys[t].addcmul_(ys[t + 1], c)
