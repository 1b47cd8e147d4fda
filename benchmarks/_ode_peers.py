"""What benchmarks/ode.py times: fingerpost and its peers, each behind the same two calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from _ode_cases import Case
from fingerpost.ode import solve

Solver = Callable[[Case, float, float], Tensor]


@dataclass
class Subject:
    """One way to solve a case: `solve(case, rtol, atol)` returns the states at all times, with graph if asked.

    A subject that gives the end alone returns (1, B, d).
    """

    name: str
    solve: Solver
    forward: bool = True
    gradient: bool = True
    observes: bool = True

    def run_forward(self, case: Case, rtol: float, atol: float) -> Tensor:
        with torch.no_grad():
            return self.solve(case, rtol, atol)

    def run_gradient(self, case: Case, rtol: float, atol: float) -> Sequence[Tensor]:
        return torch.autograd.grad(case.loss(self.solve(case, rtol, atol)), case.params)


def ours(gradient: str, method: str = "dopri5") -> Solver:
    def run(case: Case, rtol: float, atol: float) -> Tensor:
        return solve(
            case.field,
            case.y0,
            case.grid(),
            method=method,
            rtol=rtol,
            atol=atol,
            gradient=gradient,
            dense=False,
        ).ys

    return run


def torchdiffeq_backprop(case: Case, rtol: float, atol: float) -> Tensor:
    from torchdiffeq import odeint

    return odeint(case.field, case.y0, case.grid(), rtol=rtol, atol=atol, method="dopri5")


def torchdiffeq_adjoint(case: Case, rtol: float, atol: float) -> Tensor:
    from torchdiffeq import odeint_adjoint

    return odeint_adjoint(case.field, case.y0, case.grid(), rtol=rtol, atol=atol, method="dopri5")


def torchdiffeq_seminorm(case: Case, rtol: float, atol: float) -> Tensor:
    from torchdiffeq import odeint_adjoint

    options = {"norm": "seminorm"}
    return odeint_adjoint(
        case.field, case.y0, case.grid(), rtol=rtol, atol=atol, method="dopri5", adjoint_options=options
    )


def zuko(case: Case, rtol: float, atol: float) -> Tensor:
    from zuko.utils import odeint

    times = (case.times[0], case.times[-1])
    return odeint(case.field, case.y0, *times, phi=case.params, atol=atol, rtol=rtol)[None]


def torchode(case: Case, rtol: float, atol: float) -> Tensor:
    import torchode as to

    term = to.ODETerm(case.field, with_stats=False)
    control = to.IntegralController(atol=atol, rtol=rtol, term=term)
    ys = to.solve_ivp(term, case.y0, case.grid(), method="dopri5", controller=control).ys
    return ys.transpose(0, 1)


OURS = {
    "tape": Subject("fingerpost, tape", ours("tape")),
    "checkpoint": Subject("fingerpost, checkpoint", ours("checkpoint")),
    "backsolve": Subject("fingerpost, backsolve", ours("backsolve"), forward=False),
}

PEERS = {
    "torchdiffeq adjoint": (
        "torchdiffeq",
        Subject("torchdiffeq odeint_adjoint", torchdiffeq_adjoint, forward=False),
    ),
    "torchdiffeq": ("torchdiffeq", Subject("torchdiffeq odeint", torchdiffeq_backprop)),
    "torchdiffeq seminorm": (
        "torchdiffeq",
        Subject("torchdiffeq odeint_adjoint, seminorm", torchdiffeq_seminorm, forward=False),
    ),
    "zuko": ("zuko", Subject("zuko odeint", zuko, observes=False)),
    "torchode": ("torchode", Subject("torchode, steps of each sample", torchode)),
}


def missing(module: str) -> str | None:
    """Why a peer cannot be measured; None if it can."""
    try:
        importlib.import_module(module)
    except Exception as error:
        return f"{module} is not measured: {type(error).__name__}: {error}"
    return None
