"""Leapfrog, also called velocity Verlet: symplectic steps for a state (position, velocity)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.ode.methods.base import AbstractMethod, Step

if TYPE_CHECKING:
    from fingerpost.ode._field import Field


class Leapfrog(AbstractMethod):
    r"""Half a kick, a drift, half a kick, for ẋ = v, v̇ = a(t, x); one call of f a step.

        v½ = v + h/2 a(t, x),  x₁ = x + h v½,  v₁ = v½ + h/2 a(t + h, x₁)

    Order 2, symplectic where a is a force over a mass, time-reversible; the energy error stays bounded over
    long times (Verlet 1967, https://doi.org/10.1103/PhysRev.159.98; Hairer, Lubich and Wanner, Geometric
    Numerical Integration, I.1.4 and IX.8). The state is a pair of tensors of one shape, and f returns (v, a).
    That the acceleration ignores the velocity is not checked: with friction the order drops to 1.

    Dense output: the cubic through states and derivatives at both ends.
    """

    name: ClassVar[str] = "leapfrog"
    order: ClassVar[int] = 2
    dense_order: ClassVar[int] = 2
    carries_derivative: ClassVar[bool] = True

    def workspace(self, field: Field, y: Tensor) -> list[bool]:
        shapes, dtypes = field.space.shapes, field.space.dtypes
        if len(shapes) != 2:
            raise InvalidTypeError(
                f"{self.name} needs a state of two tensors, (position, velocity); this one has {len(shapes)}"
            )
        if shapes[0] != shapes[1]:
            raise ShapeError(
                f"{self.name} needs position and velocity of one shape; they have {shapes[0]} and {shapes[1]}"
            )
        if dtypes[0] != dtypes[1]:
            raise InvalidTypeError(
                f"{self.name} needs position and velocity of one dtype; they have {dtypes[0]} and {dtypes[1]}"
            )
        return []  # filled once the field's first half has been looked at

    def step(self, field: Field, t: float, y: Tensor, h: float, first: Tensor | None, workspace: Any) -> Step:
        start, end = field.times(t, h, (0.0, 1.0))
        k = field(start, y) if first is None else first
        if not workspace:
            self._check(k, y)
            workspace.append(True)
        x, v = y.chunk(2)
        half = torch.add(v, k.chunk(2)[1], alpha=h / 2)
        x1 = torch.add(x, half, alpha=h)
        kick = field(end, torch.cat([x1, half])).chunk(2)[1]
        v1 = torch.add(half, kick, alpha=h / 2)
        last = torch.cat([v1, kick])
        return Step(t, h, y, torch.cat([x1, v1]), first, last, stages=k)

    def interpolate(self, field: Field, step: Step, theta: Sequence[float]) -> Tensor:
        s = np.asarray(theta)
        rise = s * s * (3 - 2 * s)
        start, end = step.h * s * (1 - s) ** 2, step.h * s * s * (s - 1)
        weights = torch.as_tensor(np.stack([1 - rise, rise, start, end], 1)).to(step.y)
        return weights @ torch.stack([step.y, step.y1, step.stages, step.last])  # pyright: ignore[reportArgumentType, reportCallIssue]

    def _check(self, k: Tensor, y: Tensor) -> None:
        if not torch.equal(k.chunk(2)[0], y.chunk(2)[1]):
            raise InvalidValueError(
                f"{self.name} needs dx/dt = v, and f returned something else for it: "
                "return (velocity, acceleration), or take another method"
            )


class VelocityVerlet(Leapfrog):
    """The same method under its other name."""

    name: ClassVar[str] = "velocity_verlet"
