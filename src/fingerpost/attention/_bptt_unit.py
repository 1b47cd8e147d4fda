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
    states = scan_packed(gates.flatten(0, 1), slices, initial, recurrent, inner_bias)
    return states.unflatten(0, (steps, rows))


def scan_packed(
    gates: Tensor, slices: Slices, initial: Tensor, recurrent: Tensor, inner_bias: Tensor | None
) -> Tensor:
    """States (N, n) of a gated unit over sentences that are packed without padding.

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
    ) -> Tensor:
        shape = len(gates), initial.shape[1]
        tape = UnitTape.begin(gates.new_empty(shape), gates.new_empty(shape), recurrent, inner_bias)
        last = initial[:0]
        for rows in slices:
            state = tape.before[rows]
            old = min(len(last), len(state))
            state[:old] = last[:old]
            state[old:] = initial[old : len(state)]
            tape.step(rows, gates[rows])
            last = tape.after[rows]
        ctx.save_for_backward(recurrent, inner_bias, tape.before, tape.after, tape.opened, tape.inner)
        ctx.slices, ctx.shape = slices, initial.shape
        return tape.after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        back = UnitBackward(UnitTape(*ctx.saved_tensors))
        by_initial = grad_states.new_zeros(ctx.shape)
        after = by_initial[:0]
        for rows in reversed(ctx.slices):
            grad = grad_states[rows]
            new = min(len(after), len(grad))
            by_initial[new : len(after)] = after[new:]
            grad = (
                torch.cat([grad[:new] + after[:new], grad[new:]]) if new < len(grad) else grad + after[:new]
            )
            after = back.step(rows, grad)
        by_initial[: len(after)] = after
        return back.grad_gates, by_initial, back.recurrent(), back.inner_bias(), None
