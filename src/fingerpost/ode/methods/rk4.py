"""The classical Runge–Kutta method."""

from __future__ import annotations

from typing import ClassVar

from fingerpost.ode.methods.explicit import ExplicitRungeKutta, Row


class RK4(ExplicitRungeKutta):
    """Kutta's method of order 4 (1901), with its own dense output of order 3.

    The dense output needs no further stage (Hairer, Nørsett and Wanner, Solving ODEs I, II.6).
    """

    name: ClassVar[str] = "rk4"
    order: ClassVar[int] = 4
    dense_order: ClassVar[int] = 3
    c: ClassVar[Row] = (0.0, 1 / 2, 1 / 2, 1.0)
    a: ClassVar[tuple[Row, ...]] = ((1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0))
    b: ClassVar[Row] = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    dense: ClassVar[tuple[Row, ...]] = (
        (1.0, -3 / 2, 2 / 3),
        (0.0, 1.0, -2 / 3),
        (0.0, 1.0, -2 / 3),
        (0.0, -1 / 2, 2 / 3),
    )
