"""Euler's method."""

from __future__ import annotations

from typing import ClassVar

from fingerpost.ode.methods.explicit import ExplicitRungeKutta, Row


class Euler(ExplicitRungeKutta):
    """y₁ = y + h f(t, y); order 1, its dense output the straight line."""

    name: ClassVar[str] = "euler"
    order: ClassVar[int] = 1
    dense_order: ClassVar[int] = 1
    c: ClassVar[Row] = (0.0,)
    a: ClassVar[tuple[Row, ...]] = ()
    b: ClassVar[Row] = (1.0,)
    dense: ClassVar[tuple[Row, ...]] = ((1.0,),)
