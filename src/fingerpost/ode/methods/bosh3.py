"""The pair of Bogacki and Shampine, orders 3 and 2."""

from __future__ import annotations

from typing import ClassVar

from fingerpost.ode.methods.explicit import ExplicitRungeKutta, Row, hermite


class Bosh3(ExplicitRungeKutta):
    """Bogacki and Shampine's 3(2) pair (1989, https://doi.org/10.1016/0893-9659(89)90079-7), FSAL.

    For loose tolerances. Dense output of order 3 by the cubic through both ends.
    """

    name: ClassVar[str] = "bosh3"
    order: ClassVar[int] = 3
    error_order: ClassVar[int] = 3
    dense_order: ClassVar[int] = 3
    carries_derivative: ClassVar[bool] = True
    c: ClassVar[Row] = (0.0, 1 / 2, 3 / 4, 1.0)
    a: ClassVar[tuple[Row, ...]] = ((1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9))
    b: ClassVar[Row] = (2 / 9, 1 / 3, 4 / 9, 0.0)
    e: ClassVar[tuple[Row, ...]] = ((2 / 9 - 7 / 24, 1 / 3 - 1 / 4, 4 / 9 - 1 / 3, -1 / 8),)
    dense: ClassVar[tuple[Row, ...]] = hermite((2 / 9, 1 / 3, 4 / 9, 0.0))
