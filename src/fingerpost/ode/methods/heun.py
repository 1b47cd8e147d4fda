"""Heun's method."""

from __future__ import annotations

from typing import ClassVar

from fingerpost.ode.methods.explicit import ExplicitRungeKutta, Row


class Heun(ExplicitRungeKutta):
    """The trapezoidal rule with Euler's step for its end (Heun 1900); order 2, with Euler's method as its estimate.

    Fixed steps unless a controller is asked for.
    """

    name: ClassVar[str] = "heun"
    order: ClassVar[int] = 2
    error_order: ClassVar[int] = 2
    dense_order: ClassVar[int] = 2
    fixed_by_default: ClassVar[bool] = True
    c: ClassVar[Row] = (0.0, 1.0)
    a: ClassVar[tuple[Row, ...]] = ((1.0,),)
    b: ClassVar[Row] = (1 / 2, 1 / 2)
    e: ClassVar[tuple[Row, ...]] = ((-1 / 2, 1 / 2),)
    dense: ClassVar[tuple[Row, ...]] = ((1.0, -1 / 2), (0.0, 1 / 2))
