"""Implicit Runge–Kutta methods for stiff systems: an explicit first stage, one γ on the diagonal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.ode._jacobian import ShiftedSystem, jacobian
from fingerpost.ode.methods.base import AbstractMethod, Step

if TYPE_CHECKING:
    from fingerpost.ode._field import Field

Row = tuple[float, ...]


class SinglyDiagonalRungeKutta(AbstractMethod):
    r"""k_i = f(t + c_i h, y + h Σ_{j<i} a_ij k_j + h γ k_i), i = 2 … s, with k₁ = f(t, y).

    A subclass is data. Its last row is b (stiffly accurate, so y₁ is the last stage and k_s opens the next
    step) and the row before it b̂ (so the error estimate of a stiff component is damped too).

    Each stage is solved by simplified Newton iterations with the Jacobian at the step's start, factorised
    once: (1 − hγJ) Δk = f(…) − k. The gradient comes from the implicit function theorem at the solved stage:
    a cotangent of k_i passes through (1 − hγJ_i)⁻ᵀ, J_i the Jacobian there, and then through f
    (Hairer and Wanner, Solving ODEs II, IV.8; the transposed stage equations). It can be taken once: a second
    derivative raises.

    Args:
      batched: Whether f acts on each row of a state of shape (B, …) alone, as a field on a batch of samples
        does. Then only the B diagonal blocks of the Jacobian are formed and factorised. If that is wrong, the
        Newton iterations fail and the gradients are not right.
      newton_tolerance: Where the iterations stop: the estimated error of a stage relative to the size of the
        state, component by component. None means 2·10⁻¹² in float64 and 10⁻⁶ in float32, so that replayed
        steps come out the same and their gradients are those of the equations.
      max_iterations: Newton iterations per stage, after which a shorter step is tried.

    Raises:
      InvalidValueError: If the tolerance or the number of iterations is not positive.
    """

    gamma: ClassVar[float]
    a: ClassVar[tuple[Row, ...]]
    """Rows i = 2 … s of the strictly lower triangle; γ on the diagonal is not in them."""
    dense: ClassVar[tuple[Row, ...]] = ()
    """Rows j = 1 … s: b_j(θ) = Σ_p dense[j][p] θ^(p+1). Without them the dense output is a shorter step."""
    carries_derivative: ClassVar[bool] = True

    def __init__(
        self, *, batched: bool = False, newton_tolerance: float | None = None, max_iterations: int = 12
    ) -> None:
        if newton_tolerance is not None and not newton_tolerance > 0:
            raise InvalidValueError(f"newton_tolerance is {newton_tolerance}; expected a positive number")
        if max_iterations < 1:
            raise InvalidValueError(f"max_iterations is {max_iterations}; expected at least 1")
        self.batched, self.newton_tolerance, self.max_iterations = batched, newton_tolerance, max_iterations

    def workspace(self, field: Field, y: Tensor) -> _Linearisation:
        if self.batched and (not field.space.plain or y.ndim < 2):
            raise ShapeError(
                "batched=True needs one real tensor of shape (B, ...) as the state; "
                f"this one is {field.space.structure} with {tuple(y.shape)}: leave batched out"
            )
        return _Linearisation(self.batched)

    def step(self, field: Field, t: float, y: Tensor, h: float, first: Tensor | None, workspace: Any) -> Step:
        times = field.times(t, h, self.nodes())
        graph = torch.is_grad_enabled()
        ks: list[Tensor] = [field(times[0], y) if first is None else first]
        z, solved, shift = y, True, h * self.gamma
        with torch.no_grad():
            system = workspace.at(field, t, times[0], y, shift)
        for i, row in enumerate(self.a, 1):
            base = _combined(y, h, row, ks)
            with torch.no_grad():
                k, solved = self._solve_stage(field, times[i], base, shift, ks[-1], system)
            if not solved:
                break
            if graph:
                value = field(times[i], base + shift * k)
                k = _Implicit.apply(
                    value, k, self._transposed(field, times[i], (base + shift * k).detach(), shift)
                )
            z = base + shift * k
            ks.append(k)
        if not solved:
            return Step(t, h, y, torch.full_like(y, torch.nan), ks[0], converged=False)
        with torch.no_grad():
            error = _combined(torch.zeros_like(y), h, self.error_weights(), ks)
        return Step(t, h, y, z, ks[0], ks[-1], error, (ks, workspace))

    def interpolate(self, field: Field, step: Step, theta: Sequence[float]) -> Tensor:
        if not self.dense:
            return torch.stack([self._shorter(field, step, s) for s in theta])
        powers = np.asarray(theta)[:, None] ** np.arange(1, 1 + len(self.dense[0]))
        weights = torch.as_tensor(powers @ np.asarray(self.dense).T * step.h).to(step.y)
        ks = torch.stack([k.reshape(-1) for k in step.stages[0]])
        return torch.addmm(step.y.reshape(1, -1), weights, ks).view(len(theta), *step.y.shape)

    def _shorter(self, field: Field, step: Step, theta: float) -> Tensor:
        """The method's own step of length θh, in as many parts as its stages need to be solved."""
        workspace = step.stages[1]
        for parts in (1, 4, 16):
            y, first, part = step.y, step.first, theta * step.h / parts
            for i in range(parts):
                found = self.step(field, step.t + i * part, y, part, first, workspace)
                y, first = found.y1, found.last
                if not found.converged:
                    break
            else:
                return y
        return torch.full_like(step.y, torch.nan)

    @classmethod
    def nodes(cls) -> Row:
        """c₁ … c_s, the row sums."""
        return (0.0, *(sum(row) + cls.gamma for row in cls.a))

    @classmethod
    def error_weights(cls) -> Row:
        """The weights b − b̂: the last two rows."""
        last, before = (*cls.a[-1], cls.gamma), (*cls.a[-2], cls.gamma, 0.0)
        return tuple(b - e for b, e in zip(last, before))

    def _solve_stage(
        self, field: Field, t: Tensor, base: Tensor, shift: float, k: Tensor, system: ShiftedSystem
    ) -> tuple[Tensor, bool]:
        """The k with k = f(t, base + shift k), and whether the iterations reached it."""
        epsilon = torch.finfo(base.dtype).eps
        tolerance = max(
            self.newton_tolerance or (2e-12 if base.dtype == torch.float64 else 1e-6), 16 * epsilon
        )
        before = float("inf")
        for _ in range(self.max_iterations):
            z = base + shift * k
            update = system.solve(field(t, z) - k)
            k = k + update
            # base and shift k cancel in stiff components: below their rounding nothing converges
            rounding = 16 * epsilon / tolerance * (base.abs() + z.abs())
            scale = z.abs() + 1e-4 * z.abs().max() + rounding + torch.finfo(z.dtype).tiny
            size = float((shift * update / scale).abs().max())  # the one synchronisation of an iteration
            rate = size / before
            if size == 0 or (rate < 1 and size * max(rate, 1e-3) / (1 - rate) <= tolerance):
                return k, True
            if not size < float("inf") or (rate >= 1 and before < float("inf")):
                return k, size <= tolerance
            before = size
        return k, False

    def _transposed(self, field: Field, t: Tensor, z: Tensor, shift: float) -> Callable[[Tensor], Tensor]:
        """The map g ↦ (1 − shift ∂f/∂y(t, z))⁻ᵀ g, formed when a backward pass asks for it."""
        t = t.detach()
        return lambda g: ShiftedSystem(jacobian(lambda y: field(t, y), z, self.batched), shift).solve(g, True)


class _Linearisation:
    """The Jacobian at a step's start and the factorised system, kept while steps from there are rejected."""

    def __init__(self, batched: bool) -> None:
        self._batched = batched
        self._from: tuple[float, Tensor] | None = None
        self._jacobian: Tensor | None = None

    def at(self, field: Field, t: float, time: Tensor, y: Tensor, shift: float) -> ShiftedSystem:
        if self._jacobian is None or self._from is None or self._from[0] != t or self._from[1] is not y:
            self._jacobian = jacobian(lambda z: field(time, z), y, self._batched)
            self._from = (t, y)
        return ShiftedSystem(self._jacobian, shift)


class _Implicit(torch.autograd.Function):
    """The solved stage k from f(t, base + hγk) at it: a cotangent passes through (1 − hγJ)⁻ᵀ."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, k: Tensor, solve: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.solve = solve
        ctx.save_for_backward(value)
        return k.view_as(k)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        with torch.no_grad():
            found = ctx.solve(gradients[0])
        # torch's once_differentiable lets a second derivative through, as zero, where the cotangent is a constant
        return (_Once.apply(found, *ctx.saved_tensors) if torch.is_grad_enabled() else found), None, None


class _Once(torch.autograd.Function):
    """A gradient that refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, value: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise InvalidValueError(
            "the gradient through an implicit method cannot be differentiated again: "
            "use an explicit method such as 'dopri5' with gradient='tape' for second derivatives"
        )


def _combined(y: Tensor, h: float, weights: Row, ks: list[Tensor]) -> Tensor:
    """The sum y + h Σ_j w_j k_j."""
    return torch.add(y, torch.stack(ks[: len(weights)], -1) @ _weights(weights, y.dtype, y.device), alpha=h)


@lru_cache(maxsize=128)
def _weights(row: Row, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(row, dtype=dtype, device=device)
