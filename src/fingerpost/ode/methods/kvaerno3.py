"""Kværnø's pair of orders 3 and 2."""

from __future__ import annotations

from typing import ClassVar

from fingerpost.ode.methods.explicit import hermite
from fingerpost.ode.methods.implicit import Row, SinglyDiagonalRungeKutta

_G = 0.435866521508459  # the root of γ³ − 3γ² + 3γ/2 − 1/6 that makes the method L-stable
_LAST: Row = ((6 * _G - 1) / (12 * _G), -1 / ((24 * _G - 12) * _G), (-6 * _G**2 + 6 * _G - 1) / (6 * _G - 3))


class Kvaerno3(SinglyDiagonalRungeKutta):
    """Kværnø's ESDIRK 3(2) with four stages, stiffly accurate and L-stable (2004,
    https://doi.org/10.1023/B:BITN.0000046811.70614.38).

    Dense output of order 3: the cubic through the states and derivatives at both ends.
    """

    name: ClassVar[str] = "kvaerno3"
    order: ClassVar[int] = 3
    error_order: ClassVar[int] = 3
    dense_order: ClassVar[int] = 3
    gamma: ClassVar[float] = _G
    a: ClassVar[tuple[Row, ...]] = (
        (_G,),
        ((-4 * _G**2 + 6 * _G - 1) / (4 * _G), (-2 * _G + 1) / (4 * _G)),
        _LAST,
    )
    dense: ClassVar[tuple[Row, ...]] = hermite((*_LAST, _G))
