"""Backpropagation through time for the gated unit, written by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def scan(gates: Tensor, initial: Tensor, recurrent: Tensor, inner_bias: Tensor | None) -> Tensor:
    """States (T, B, n) of a gated unit, from gates (T, B, 3n) and the initial state (B, n)."""
    return _Scan.apply(gates, initial, recurrent, inner_bias)


@dataclass(frozen=True, eq=False)
class UnitTape:
    """What a gated unit went through: states (T + 1, B, n); z, r and candidate (T, B, 3n); U s + b (T, B, n).

    The last is there for units that reset after the product. One class moves forward by `step`; `UnitBackward`
    goes back over it.
    """

    recurrent: Tensor
    inner_bias: Tensor | None
    states: Tensor
    opened: Tensor
    inner: Tensor | None

    @classmethod
    def begin(cls, initial: Tensor, steps: int, recurrent: Tensor, inner_bias: Tensor | None) -> UnitTape:
        """A tape with room for `steps` steps from `initial`."""
        rows, n = initial.shape
        states = initial.new_empty(steps + 1, rows, n)
        states[0] = initial
        inner = None if inner_bias is None else initial.new_empty(steps, rows, n)
        return cls(recurrent, inner_bias, states, initial.new_empty(steps, rows, 3 * n), inner)

    def step(self, i: int, gates: Tensor) -> None:
        """Writes state i + 1, from state i and gates (B, 3n)."""
        state, opened, n = self.states[i], self.opened[i], self.states.shape[-1]
        z, r, candidate = opened.split(n, 1)
        both = opened[:, : 2 * n]
        torch.addmm(gates[:, : 2 * n], state, self.recurrent[: 2 * n].t(), out=both)
        both.sigmoid_()
        if self.inner is None or self.inner_bias is None:
            torch.addmm(gates[:, 2 * n :], r * state, self.recurrent[2 * n :].t(), out=candidate)
        else:
            inner = torch.addmm(self.inner_bias, state, self.recurrent[2 * n :].t(), out=self.inner[i])
            torch.addcmul(gates[:, 2 * n :], r, inner, out=candidate)
        candidate.tanh_()
        torch.lerp(state, candidate, z, out=self.states[i + 1])


class UnitBackward:
    """Goes back over a `UnitTape`: the slopes of all steps first, at once; then `step` by step; then the weights.

    With g = ∂L/∂s', ∂L/∂(gates) is g z(1 − z)(s̃ − s), … for z; through the reset for r; g z (1 − s̃²) for the candidate.
    """

    def __init__(self, tape: UnitTape) -> None:
        self.tape, self.n = tape, tape.states.shape[-1]
        before = tape.states[:-1]
        z, r, candidate = tape.opened.split(self.n, 2)
        one_less = 1 - tape.opened[..., : 2 * self.n]
        self.keep, reset_less = one_less.split(self.n, 2)
        self.by_z = (candidate - before).mul_(z).mul_(self.keep)
        self.by_candidate = torch.addcmul(z, z * candidate, candidate, value=-1)
        self.by_r = reset_less.mul_(r).mul_(before if tape.inner is None else tape.inner)
        self.grad_gates = torch.empty_like(tape.opened)
        self.grad_inner = None if tape.inner is None else torch.empty_like(tape.inner)

    def step(self, i: int, grad: Tensor) -> Tensor:
        """∂L/∂(state i) through step i, from ∂L/∂(state i + 1); writes ∂L/∂(gates of step i)."""
        n, weights = self.n, self.tape.recurrent
        at = self.grad_gates[i]
        dz, dr, da = at.split(n, 1)
        torch.mul(grad, self.by_z[i], out=dz)
        torch.mul(grad, self.by_candidate[i], out=da)
        back, r = grad * self.keep[i], self.tape.opened[i, :, n : 2 * n]
        if self.grad_inner is None:
            reset = torch.mm(da, weights[2 * n :])
            torch.mul(reset, self.by_r[i], out=dr)
            back.addcmul_(reset, r)
        else:
            torch.mul(da, self.by_r[i], out=dr)
            back.addmm_(torch.mul(da, r, out=self.grad_inner[i]), weights[2 * n :])
        return back.addmm_(at[:, : 2 * n], weights[: 2 * n])

    def recurrent(self) -> Tensor:
        """∂L/∂U of all steps: one product for the gates, one for the candidate."""
        n, before = self.n, self.tape.states[:-1].flatten(0, 1)
        grads = self.grad_gates.flatten(0, 1)
        out = torch.empty_like(self.tape.recurrent)
        torch.mm(grads[:, : 2 * n].t(), before, out=out[: 2 * n])
        if self.grad_inner is None:
            r = self.tape.opened[..., n : 2 * n].flatten(0, 1)
            torch.mm(grads[:, 2 * n :].t(), r * before, out=out[2 * n :])
        else:
            torch.mm(self.grad_inner.flatten(0, 1).t(), before, out=out[2 * n :])
        return out

    def inner_bias(self) -> Tensor | None:
        """∂L/∂b of all steps."""
        return None if self.grad_inner is None else self.grad_inner.sum((0, 1))


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, initial: Tensor, recurrent: Tensor, inner_bias: Tensor | None
    ) -> Tensor:
        tape = UnitTape.begin(initial, len(gates), recurrent, inner_bias)
        for i, at_step in enumerate(gates):
            tape.step(i, at_step)
        ctx.save_for_backward(recurrent, inner_bias, tape.states, tape.opened, tape.inner)
        return tape.states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:
        back = UnitBackward(UnitTape(*ctx.saved_tensors))
        grad = torch.zeros_like(grad_states[0])
        for i in reversed(range(len(grad_states))):
            grad = back.step(i, grad + grad_states[i])
        return back.grad_gates, grad, back.recurrent(), back.inner_bias()
