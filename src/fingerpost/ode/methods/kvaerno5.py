"""Kværnø's pair of orders 5 and 4."""

from __future__ import annotations

from typing import ClassVar

from fingerpost.ode.methods.implicit import Row, SinglyDiagonalRungeKutta


class Kvaerno5(SinglyDiagonalRungeKutta):
    """Kværnø's ESDIRK 5(4) with seven stages, stiffly accurate and L-stable (2004,
    https://doi.org/10.1023/B:BITN.0000046811.70614.38).

    Dense output of order 5: a shorter step. Polynomials through its stages, whose order is 2, miss the
    tolerance by a factor of hundreds on stiff problems (measured: HIRES 712, Van der Pol 1,230 at
    rtol = 10⁻⁸, cubic Hermite 246 and 360).
    """

    name: ClassVar[str] = "kvaerno5"
    order: ClassVar[int] = 5
    error_order: ClassVar[int] = 5
    dense_order: ClassVar[int] = 5
    gamma: ClassVar[float] = 0.26
    a: ClassVar[tuple[Row, ...]] = (
        (0.26,),
        (0.13, 0.84033320996790809),
        (0.22371961478320505, 0.47675532319799699, -0.06470895363112615),
        (0.16648564323248321, 0.10450018841591720, 0.03631482272098715, -0.13090704451073998),
        (0.13855640231268224, 0.0, -0.04245337201752043, 0.02446657898003141, 0.61943039072480676),
        (
            0.13659751177640291,
            0.0,
            -0.05496908796538376,
            -0.04118626728321046,
            0.62993304899016403,
            0.06962479448202728,
        ),
    )
