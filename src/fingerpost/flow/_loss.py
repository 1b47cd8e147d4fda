"""The conditional flow-matching loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.flow._checks import check_points, check_same_batch
from fingerpost.flow.couplings import AbstractCoupling
from fingerpost.flow.paths import AbstractPath, CondOT
from fingerpost.flow.times import AbstractTime, Uniform

REDUCTIONS = ("mean", "sum", "none")
_STRAIGHT = CondOT()
_UNIFORM = Uniform()


def cfm_loss(
    model: Callable[..., Tensor],
    x1: Tensor,
    *,
    x0: Tensor | None = None,
    path: AbstractPath = _STRAIGHT,
    coupling: AbstractCoupling | None = None,
    time: Tensor | AbstractTime | None = None,
    weight: Callable[[Tensor], Tensor] | None = None,
    condition: Any = None,
    generator: torch.Generator | None = None,
    reduction: str = "mean",
) -> Tensor:
    r"""The conditional flow-matching loss: regression of a velocity field on ψ̇_t(x₀ | x₁).

    L_CFM = E_{t, x₁, x₀} ‖v_t(ψ_t(x₀)) − ψ̇_t(x₀)‖² (Lipman et al. 2022, https://arxiv.org/abs/2210.02747, eq. 9 and
    14). The norm sums over all axes but the first, without a factor ½; `reduction` acts on the rows. Its gradient is
    that of L_FM, and the two losses differ by a constant of θ: the expected variance of ψ̇ given (t, x).

    Args:
      model: (t, x) → velocity or (t, x, condition) → velocity; t has shape (B,), x and velocity x1's shape.
      x1: Data, shape (B, ...).
      x0: Noise of the same shape; standard normal unless given.
      path: The conditional path.
      coupling: Reorders x0 before the pairs are joined; None leaves them independent.
      time: Times (B,), or how to draw them on the path's time range; uniform unless given.
      weight: t → weight of each row, shape (B,), at least 0.
      condition: Given to the coupling and, unless None, as third argument to the model; its first axis is B.
      generator: Source of all randomness; torch's global one unless given.
      reduction: "mean" over rows, "sum", or "none" for shape (B,).

    Returns:
      The loss, 0-dimensional, or (B,) without reduction.

    Raises:
      ShapeError: If batches are unequal or empty, or the model returns another shape than x's.
      InvalidValueError: If rows are not finite (the message names them), a time is outside the path's range, or a word is
        unknown.

    >>> x1 = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    >>> loss = cfm_loss(lambda t, x: -x, x1, generator=torch.Generator().manual_seed(1))
    >>> loss.shape
    torch.Size([])
    """
    if reduction not in REDUCTIONS:
        raise InvalidValueError(f"reduction is {reduction!r}; expected one of {REDUCTIONS}")
    check_points(x1, "x1")
    if x0 is None:
        x0 = torch.randn(x1.shape, dtype=x1.dtype, device=x1.device, generator=generator)
    else:
        check_same_batch(x0, x1)
        check_points(x0, "x0")
    if coupling is not None:
        x0, x1 = coupling(x0, x1, generator=generator, condition=condition)
    t = _times(time, path, x1, generator)
    x, target = path.pair(x0, x1, t.view(-1, *(1 for _ in x1.shape[1:])), generator)
    velocity = model(t, x) if condition is None else model(t, x, condition)
    if velocity.shape != x.shape:
        raise ShapeError(
            f"the model returned shape {tuple(velocity.shape)} for x of shape {tuple(x.shape)}; expected the same"
        )
    return _reduce(velocity, target, None if weight is None else weight(t), reduction)


def _times(
    time: Tensor | AbstractTime | None, path: AbstractPath, x1: Tensor, generator: torch.Generator | None
) -> Tensor:
    if isinstance(time, Tensor):
        if time.shape not in ((), (len(x1),)):
            raise ShapeError(
                f"time has shape {tuple(time.shape)}; expected () or ({len(x1)},), a time for each row"
            )
        path.check_times(time)
        return time.to(x1).expand(len(x1))
    return (time or _UNIFORM).draw(
        len(x1), path.time_range, dtype=x1.dtype, device=x1.device, generator=generator
    )


def _reduce(velocity: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    if weight is None and reduction != "none":
        total = torch.nn.functional.mse_loss(velocity, target, reduction="sum")
        return total / len(target) if reduction == "mean" else total
    rows = (velocity - target).square().flatten(1).sum(1)
    if weight is not None:
        if weight.shape != rows.shape:
            raise ShapeError(
                f"weight returned shape {tuple(weight.shape)}; expected ({len(rows)},), one for each row"
            )
        rows = weight * rows
    return rows if reduction == "none" else rows.mean() if reduction == "mean" else rows.sum()
