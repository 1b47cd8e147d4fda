"""The explicit midpoint rule."""

from __future__ import annotations

from typing import ClassVar

from fingerpost.ode.methods.explicit import ExplicitRungeKutta, Row


class Midpoint(ExplicitRungeKutta):
    """y₁ = y + h f(t + h/2, y + (h/2) f(t, y)) (Runge 1895); order 2, its dense output too."""

    name: ClassVar[str] = "midpoint"
    order: ClassVar[int] = 2
    dense_order: ClassVar[int] = 2
    c: ClassVar[Row] = (0.0, 1 / 2)
    a: ClassVar[tuple[Row, ...]] = ((1 / 2,),)
    b: ClassVar[Row] = (0.0, 1.0)
    dense: ClassVar[tuple[Row, ...]] = ((1.0, -1.0), (0.0, 1.0))
