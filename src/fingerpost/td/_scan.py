"""First-order linear recurrences over the last axis, in blocks: about 3√T vector operations where a plain loop takes T."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_LONG = 64
"""Steps of a block at most. Shorter ones transpose badly, longer ones leave the cache."""
_SHORT = 32
"""The same for products, which cost a block's length for each element."""
_SMALL = 2**15
"""Elements below which the calls cost more than what they do."""
_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


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
    if _products_suit(a, c):
        padded, _, stops, short = _padded(a, c, stop, _block(length, _SHORT))
        y = _by_products(padded, c, end, stops, _block(length, _SHORT))
        if y is not None:
            return y[:, short:]
    # about √T where a step is too short to pay for its call
    most = _LONG if rows * length > _SMALL else min(_LONG, max(16, math.isqrt(length)))
    a, c, stop, short = _padded(a, c, stop, _block(length, most))
    return _by_steps(a, c, end, stop, _block(length, most))[:, short:]


def _by_steps(a: Tensor, c: Tensor, end: Tensor, stop: Tensor | None, block: int) -> Tensor:
    """A step of all blocks at a time."""
    rows, columns = len(a), a.numel() // block
    y = _by_time(a, block, columns)
    share = c.repeat(block, columns) if c.ndim == 0 else _by_time(c, block, columns)
    if stop is not None:
        share = torch.where(_by_time(stop, block, columns), share.new_zeros(()), share)
    _march(y, share)
    y.addcmul_(share, _entries(y[0].view(rows, -1), share[0].view(rows, -1), end))
    return y.t().reshape(rows, -1)


def _by_products(a: Tensor, c: Tensor, end: Tensor, stop: Tensor | None, block: int) -> Tensor | None:
    """A row of a times the powers of one number c, for each block; those with a stop are taken out and marched through.

    None where most blocks have a stop.
    """
    x = a.reshape(-1, block)
    stop = None if stop is None else stop.reshape(-1, block)
    hit = torch.zeros(0, dtype=torch.int64) if stop is None else _marked(stop)
    if 2 * len(hit) > len(x):
        return None
    steps = torch.arange(block)
    later = steps[:, None] - steps
    y = x @ torch.where(later >= 0, c ** later.clamp(min=0), c.new_zeros(()))
    powers = c ** (block - steps)
    if stop is None or not len(hit):
        entries = _entries(y[:, 0].view(len(a), -1), powers[0], end)
        return y.addcmul_(entries[:, None], powers).view(a.shape)
    turned = x[hit].t().contiguous()
    share = torch.where(stop[hit], c.new_zeros(()), c).t().contiguous()
    _march(turned, share)
    heads = y[:, 0].index_copy(0, hit, turned[0])
    whole = powers[0].repeat(len(x)).index_copy_(0, hit, share[0])
    entries = _entries(heads.view(len(a), -1), whole.view(len(a), -1), end)
    y.addcmul_(entries[:, None], powers)
    return y.index_copy_(0, hit, turned.addcmul_(share, entries[hit]).t().contiguous()).view(a.shape)


def _marked(stop: Tensor) -> Tensor:
    """Places of rows with a stop; eight of them are read as one number where they can be."""
    words = torch.int64 if stop.shape[1] % 8 == 0 and stop.is_contiguous() else torch.uint8
    return stop.view(words).amax(1).nonzero()[:, 0]


def _products_suit(a: Tensor, c: Tensor) -> bool:
    """Whether products are faster, and as exact: on the CPU, in float64, or in float32 that nobody has loosened."""
    if c.ndim or a.device.type != "cpu":
        return False
    whole = a.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    return whole or a.dtype == torch.float64


def _entries(heads: Tensor, whole: Tensor, end: Tensor) -> Tensor:
    """What comes into each block from the one after it, (N · blocks,), given its first y from 0 and its whole product."""
    if heads.shape[1] == 1:
        return end
    return torch.cat([_scan(heads, whole, end, None)[:, 1:], end[:, None]], 1).flatten()


def _block(length: int, most: int) -> int:
    """A block length that divides T if one of most/2 to most does, or that leaves few steps over."""
    if length <= most:
        return length
    return min(range(most, most // 2 - 1, -1), key=lambda block: -length % block)


def _padded(
    a: Tensor, c: Tensor, stop: Tensor | None, block: int
) -> tuple[Tensor, Tensor, Tensor | None, int]:
    """Whole blocks, and how many steps were put before the first; nothing depends on those."""
    short = -a.shape[1] % block
    if not short:
        return a, c, stop, 0

    def longer(x: Tensor) -> Tensor:
        return x if x.ndim == 0 else torch.nn.functional.pad(x, (short, 0))

    return longer(a), longer(c), None if stop is None else longer(stop), short


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
