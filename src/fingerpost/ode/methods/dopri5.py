"""The pair of Dormand and Prince, orders 5 and 4."""

from __future__ import annotations

from typing import ClassVar

from fingerpost.ode.methods.explicit import ExplicitRungeKutta, Row, hermite

_B: Row = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0)

# θ²(1 − θ)² Σ_j d_j k_j on top of the cubic (Hairer, Nørsett and Wanner, Solving ODEs I, II.6, after Shampine)
_D: Row = (
    -12715105075 / 11282082432,
    0.0,
    87487479700 / 32700410799,
    -10690763975 / 1880347072,
    701980252875 / 199316789632,
    -1453857185 / 822651844,
    69997945 / 29380423,
)


class Dopri5(ExplicitRungeKutta):
    """Dormand and Prince's 5(4) pair (1980, https://doi.org/10.1016/0771-050X(80)90013-3), FSAL.

    Dense output of order 4 by Shampine (1986, https://doi.org/10.1090/S0025-5718-1986-0815836-3).
    """

    name: ClassVar[str] = "dopri5"
    order: ClassVar[int] = 5
    error_order: ClassVar[int] = 5
    dense_order: ClassVar[int] = 4
    carries_derivative: ClassVar[bool] = True
    c: ClassVar[Row] = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
    a: ClassVar[tuple[Row, ...]] = (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        _B[:6],
    )
    b: ClassVar[Row] = _B
    e: ClassVar[tuple[Row, ...]] = (
        (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    )
    dense: ClassVar[tuple[Row, ...]] = hermite(_B, _D)
