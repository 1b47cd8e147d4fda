"""Backpropagation through time for the gated unit, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Slices = Sequence[slice]
"""Where the rows of each step lie, in the order of the steps: those still there, in one order throughout, longest first."""


def scan(gates: Tensor, initial: Tensor, recurrent: Tensor, inner_bias: Tensor | None) -> Tensor:
    """States (T, B, n) of a gated unit, from gates (T, B, 3n) and the initial state (B, n)."""
    steps, rows = gates.shape[:2]
    slices = [slice(i * rows, (i + 1) * rows) for i in range(steps)]
    _, states = scan_packed(gates.flatten(0, 1), slices, initial, recurrent, inner_bias)
    return states.unflatten(0, (steps, rows))


def scan_packed(
    gates: Tensor, slices: Slices, initial: Tensor, recurrent: Tensor, inner_bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """States (N, n) of a gated unit before and after each word, of sentences that are packed without padding.

    Args:
      gates: What the words give to the gates, (N, 3n).
      slices: The rows of each step, in the order in which they are read. A step has the first so many sentences; those that
        were not in the step before start from `initial`.
      initial: States before the first step, (B, n).
      recurrent: U, (3n, n).
      inner_bias: b, (n,), if the unit resets after the product.
    """
    return _Scan.apply(gates, initial, recurrent, inner_bias, slices)


@dataclass(frozen=True, eq=False)
class UnitTape:
    """What a gated unit went through: states before and after each step (N, n), and z, r and candidate (N, 3n).

    And U s + b (N, n) for units that reset after the product. `step` goes forward; `UnitBackward` goes back over it.
    """

    recurrent: Tensor
    inner_bias: Tensor | None
    before: Tensor
    after: Tensor
    opened: Tensor
    inner: Tensor | None

    @classmethod
    def begin(cls, before: Tensor, after: Tensor, recurrent: Tensor, inner_bias: Tensor | None) -> UnitTape:
        """A tape with room for as many rows as `before` has."""
        rows, n = before.shape
        inner = None if inner_bias is None else before.new_empty(rows, n)
        return cls(recurrent, inner_bias, before, after, before.new_empty(rows, 3 * n), inner)

    def enter(self, rows: slice, last: Tensor, initial: Tensor) -> None:
        """Writes the states before a step: those after the last one, and the initial state of sentences that were not there."""
        state = self.before[rows]
        old = min(len(last), len(state))
        state[:old] = last[:old]
        state[old:] = initial[old : len(state)]

    def step(self, rows: slice, gates: Tensor) -> None:
        """Writes the states after a step, from those before it and its gates (b, 3n)."""
        state, opened, n = self.before[rows], self.opened[rows], self.before.shape[1]
        z, r, candidate = opened.split(n, 1)
        both = opened[:, : 2 * n]
        torch.addmm(gates[:, : 2 * n], state, self.recurrent[: 2 * n].t(), out=both)
        both.sigmoid_()
        if self.inner is None or self.inner_bias is None:
            torch.addmm(gates[:, 2 * n :], r * state, self.recurrent[2 * n :].t(), out=candidate)
        else:
            inner = torch.addmm(self.inner_bias, state, self.recurrent[2 * n :].t(), out=self.inner[rows])
            torch.addcmul(gates[:, 2 * n :], r, inner, out=candidate)
        candidate.tanh_()
        torch.lerp(state, candidate, z, out=self.after[rows])


class UnitBackward:
    """Goes back over a `UnitTape`: the slopes of all steps first, at once; then `step` by step; then the weights.

    With g = ∂L/∂s', ∂L/∂(gates) is g z(1 − z)(s̃ − s), … for z; through the reset for r; g z (1 − s̃²) for the candidate.
    """

    def __init__(self, tape: UnitTape) -> None:
        self.tape, self.n = tape, tape.before.shape[1]
        z, r, candidate = tape.opened.split(self.n, 1)
        one_less = 1 - tape.opened[:, : 2 * self.n]
        self.keep, reset_less = one_less.split(self.n, 1)
        self.by_z = (candidate - tape.before).mul_(z).mul_(self.keep)
        self.by_candidate = torch.addcmul(z, z * candidate, candidate, value=-1)
        self.by_r = reset_less.mul_(r).mul_(tape.before if tape.inner is None else tape.inner)
        self.grad_gates = torch.empty_like(tape.opened)
        self.grad_inner = None if tape.inner is None else torch.empty_like(tape.inner)

    @staticmethod
    def leave(rows: slice, later: Tensor, by_initial: Tensor, by_after: Tensor | None) -> Tensor:
        """∂L/∂(states after a step) (b, n): what the step after it owes, `later`, and what is asked of them directly.

        Sentences that only the later step has began there: theirs is written to `by_initial`.
        """
        size = rows.stop - rows.start
        old = min(len(later), size)
        by_initial[old : len(later)] = later[old:]
        grad = later.new_zeros(size, later.shape[1]) if by_after is None else by_after[rows].clone()
        grad[:old] += later[:old]
        return grad

    def step(self, rows: slice, grad: Tensor) -> Tensor:
        """∂L/∂(states before a step) from ∂L/∂(states after it); writes ∂L/∂(its gates)."""
        n, weights = self.n, self.tape.recurrent
        at = self.grad_gates[rows]
        dz, dr, da = at.split(n, 1)
        torch.mul(grad, self.by_z[rows], out=dz)
        torch.mul(grad, self.by_candidate[rows], out=da)
        back, r = grad * self.keep[rows], self.tape.opened[rows, n : 2 * n]
        if self.grad_inner is None:
            reset = torch.mm(da, weights[2 * n :])
            torch.mul(reset, self.by_r[rows], out=dr)
            back.addcmul_(reset, r)
        else:
            torch.mul(da, self.by_r[rows], out=dr)
            back.addmm_(torch.mul(da, r, out=self.grad_inner[rows]), weights[2 * n :])
        return back.addmm_(at[:, : 2 * n], weights[: 2 * n])

    def recurrent(self) -> Tensor:
        """∂L/∂U of all steps: one product for the gates, one for the candidate."""
        n, before, grads = self.n, self.tape.before, self.grad_gates
        out = torch.empty_like(self.tape.recurrent)
        torch.mm(grads[:, : 2 * n].t(), before, out=out[: 2 * n])
        if self.grad_inner is None:
            torch.mm(grads[:, 2 * n :].t(), self.tape.opened[:, n : 2 * n] * before, out=out[2 * n :])
        else:
            torch.mm(self.grad_inner.t(), before, out=out[2 * n :])
        return out

    def inner_bias(self) -> Tensor | None:
        """∂L/∂b of all steps."""
        return None if self.grad_inner is None else self.grad_inner.sum(0)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, initial: Tensor, recurrent: Tensor, inner_bias: Tensor | None, slices: Slices
    ) -> tuple[Tensor, Tensor]:
        shape = len(gates), initial.shape[1]
        tape = UnitTape.begin(gates.new_empty(shape), gates.new_empty(shape), recurrent, inner_bias)
        last = initial[:0]
        for rows in slices:
            tape.enter(rows, last, initial)
            tape.step(rows, gates[rows])
            last = tape.after[rows]
        ctx.save_for_backward(recurrent, inner_bias, tape.before, tape.after, tape.opened, tape.inner)
        ctx.set_materialize_grads(False)
        ctx.slices, ctx.shape = slices, initial.shape
        return tape.before, tape.after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_before: Tensor | None, by_after: Tensor | None) -> tuple[Tensor | None, ...]:
        back = UnitBackward(UnitTape(*ctx.saved_tensors))
        by_initial = back.grad_gates.new_zeros(ctx.shape)
        later = by_initial[:0]
        for rows in reversed(ctx.slices):
            later = back.step(rows, back.leave(rows, later, by_initial, by_after))
            if by_before is not None:
                later += by_before[rows]
        by_initial[: len(later)] = later
        return back.grad_gates, by_initial, back.recurrent(), back.inner_bias(), None
