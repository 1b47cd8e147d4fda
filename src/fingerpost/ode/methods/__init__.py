"""The methods: one file each, the shared mathematics in `base`, `explicit` and `implicit`."""

from __future__ import annotations

from fingerpost.ode.methods.base import AbstractMethod, Step
from fingerpost.ode.methods.bosh3 import Bosh3
from fingerpost.ode.methods.dop853 import Dop853
from fingerpost.ode.methods.dopri5 import Dopri5
from fingerpost.ode.methods.euler import Euler
from fingerpost.ode.methods.explicit import ExplicitRungeKutta
from fingerpost.ode.methods.heun import Heun
from fingerpost.ode.methods.implicit import SinglyDiagonalRungeKutta
from fingerpost.ode.methods.kvaerno3 import Kvaerno3
from fingerpost.ode.methods.kvaerno5 import Kvaerno5
from fingerpost.ode.methods.leapfrog import Leapfrog, VelocityVerlet
from fingerpost.ode.methods.midpoint import Midpoint
from fingerpost.ode.methods.rk4 import RK4
from fingerpost.ode.methods.tsit5 import Tsit5

METHODS: dict[str, type[AbstractMethod]] = {
    method.name: method
    for method in (
        Euler,
        Heun,
        Midpoint,
        RK4,
        Bosh3,
        Dopri5,
        Tsit5,
        Dop853,
        Kvaerno3,
        Kvaerno5,
        Leapfrog,
        VelocityVerlet,
    )
}

__all__ = [
    "METHODS",
    "RK4",
    "AbstractMethod",
    "Bosh3",
    "Dop853",
    "Dopri5",
    "Euler",
    "ExplicitRungeKutta",
    "Heun",
    "Kvaerno3",
    "Kvaerno5",
    "Leapfrog",
    "Midpoint",
    "SinglyDiagonalRungeKutta",
    "Step",
    "Tsit5",
    "VelocityVerlet",
]
