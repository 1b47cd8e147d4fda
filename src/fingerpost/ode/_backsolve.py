r"""Gradient "backsolve": the continuous adjoint, solved backwards beside the state itself, in constant memory.

With cotangents a as rows, ẏ = f and ȧ = −aᵀ ∂f/∂y run from t_N back to t_0; at an observation a jumps,
a(t_i⁻) = a(t_i⁺) + ∂L/∂y_i, and y is set to the state that was returned there. The parameters' gradient
∫ aᵀ ∂f/∂θ dt is a quadrature with the method's own weights, taken along the accepted steps: it is no part of the
state, nor of the error that chooses the steps (Kidger, Chen and Lyons 2021, https://arxiv.org/abs/2009.09457).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError
from fingerpost.ode._checkpoint import Accumulator, Once
from fingerpost.ode._field import Field
from fingerpost.ode._march import March, Scheme, Stats
from fingerpost.ode._tolerance import Tolerance
from fingerpost.ode.methods.base import Step
from fingerpost.ode.methods.explicit import ExplicitRungeKutta, Terms, terms_of


@dataclass
class Adjoint:
    """What the backward solve needs.

    Attributes:
      scheme: How the forward solve stepped; the backward one steps likewise.
      field: f as the backward solve calls it.
      times: Observation times that were reached.
      stats: Where the evaluations are counted.
      params: Tensors that f holds and that get gradients.
      t: The times if they require grad, else None.
    """

    scheme: Scheme
    field: Field
    times: list[float]
    stats: Stats
    params: list[Tensor]
    t: Tensor | None = None


class BacksolvedSolve(torch.autograd.Function):
    """States at times, from y0, t and the parameters; `run` computes them without graph."""

    @staticmethod
    def forward(
        ctx: Any, run: Callable[[], tuple[Tensor, Adjoint]], y0: Tensor, t: Tensor | None, *params: Tensor
    ) -> Tensor:
        ys, ctx.adjoint = run()
        ctx.save_for_backward(ys, y0, *params)
        return ys

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        ys, *inputs = ctx.saved_tensors
        with torch.no_grad():
            found = solve_back(ctx.adjoint, ys.detach(), gradients[0])
        if torch.is_grad_enabled():
            found = [None if g is None else Once.apply(g, *inputs) for g in found]
        return None, *found


class AdjointField(Field):
    """(y, a) ↦ (f, −aᵀ ∂f/∂y) on states (2, *S); each result carries aᵀ ∂f/∂θ as its `quadrature`."""

    def __init__(self, field: Field, params: list[Tensor]) -> None:
        super().__init__(field.f, field.space)
        self.field, self.params = field, params

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """The derivative of (y, a)."""
        self.nfe += 1
        with torch.enable_grad():
            state = y[0].detach().requires_grad_()
            k = self.field(t, state.view_as(state))
        rise, *quadrature = (None,) * (1 + len(self.params))
        if k.requires_grad:
            inputs = [state, *self.params]
            rise, *quadrature = torch.autograd.grad(k, inputs, y[1], allow_unused=True)
        out = torch.empty_like(y)
        out[0].copy_(k.detach())
        if rise is None:
            out[1].zero_()
        else:
            torch.neg(rise, out=out[1])
        out.quadrature = quadrature  # type: ignore[attr-defined]
        return out


class PairTolerance(Tolerance):
    """The larger of the error ratios of y and of a; `of` is the forward solve's tolerance."""

    def __init__(self, of: Tolerance) -> None:
        self.rtol, self.atol, self.of = of.rtol, of.atol, of

    def norm(self, scaled: Tensor) -> float:
        """The larger norm of the two halves."""
        first, second = self.of.norm(scaled[0]), self.of.norm(scaled[1])
        return max(first, second) if first == first and second == second else inf


def solve_back(adjoint: Adjoint, ys: Tensor, gradient: Tensor) -> list[Tensor | None]:
    """Cotangents of y0, t and the parameters from those of the states, (T, *S)."""
    times, field = adjoint.times, AdjointField(adjoint.field, adjoint.params)
    reached = gradient[: len(times)]
    # a is linear in its jumps: scaled to size 1, the absolute tolerance means the same for it as for y
    size = float(torch.linalg.vector_norm(reached)) / sqrt(max(1, ys[0].numel())) or 1.0
    total, a = Accumulator(len(adjoint.params)), torch.zeros_like(ys[0])
    scheme = replace(adjoint.scheme, tolerance=PairTolerance(adjoint.scheme.tolerance))
    weights = terms_of(type(scheme.method))[1]  # type: ignore[arg-type]
    for i in range(len(times) - 1, 0, -1):
        a = a + reached[i] / size
        march = March(scheme, field, torch.stack([ys[i], a]), [times[i], times[i - 1]])
        for step in march:
            total.add(_quadrature(step, weights))
            a = step.y1[1]
        march.raise_on_failure()
        if march.next_step is not None:
            scheme = replace(scheme, first_step=abs(march.next_step))
    adjoint.stats.backward_nfe += field.nfe
    t = _time_gradient(adjoint, ys, reached, a * size)
    return [a * size + reached[0], t, *(None if g is None else g * size for g in total.sums)]


def _quadrature(step: Step, weights: Terms) -> list[Tensor | None]:
    """−h Σ_j b_j (aᵀ ∂f/∂θ)_j: the part of ∫ aᵀ ∂f/∂θ dt that lies in a step taken backwards."""
    sums: list[Tensor | None] | None = None
    for j, weight in weights:
        parts = step.stages[j].quadrature
        if sums is None:
            sums = [None if p is None else p * (-step.h * weight) for p in parts]
            continue
        for m, part in enumerate(parts):
            if part is not None:
                base = sums[m]
                sums[m] = (
                    part * (-step.h * weight) if base is None else base.add_(part, alpha=-step.h * weight)
                )
    return sums or []


def _time_gradient(adjoint: Adjoint, ys: Tensor, gradient: Tensor, start: Tensor) -> Tensor | None:
    """dL/dt_i = ⟨∂L/∂y_i, f(t_i, y_i)⟩ and dL/dt_0 = −⟨a(t_0), f(t_0, y_0)⟩."""
    if adjoint.t is None:
        return None
    field, out = adjoint.field, [0.0] * len(adjoint.t)
    for i, time in enumerate(adjoint.times):
        cotangent = gradient[i] if i else -start
        out[i] = float((cotangent * field(field.time(time), ys[i])).sum())
    adjoint.stats.backward_nfe += len(adjoint.times)
    return torch.tensor(out, dtype=adjoint.t.dtype, device=adjoint.t.device)


def check_backsolve(scheme: Scheme) -> None:
    """Raises where the backward solve cannot run."""
    if not isinstance(scheme.method, ExplicitRungeKutta):
        raise InvalidValueError(
            f"gradient='backsolve' needs an explicit Runge–Kutta method, not {scheme.method.name}: use 'checkpoint'"
        )
