"""The two phases of equilibrium propagation on a chain: free, and nudged by β towards lower loss."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from fingerpost.credit._energy import EnergyGradient, NudgedProblem
from fingerpost.credit.solvers import SOLVERS, AbstractSolver, Relaxation, Status
from fingerpost.credit.solvers.base import judge
from fingerpost.errors import InvalidValueError, NumericalError

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


class FreePhase(NamedTuple):
    """The free phase: h_0 … h_L (detached, each (B, …)) and the logits (B, C)."""

    states: list[Tensor]
    logits: Tensor


class NudgedPhase(NamedTuple):
    """The nudged phase.

    Args:
      states: h_0 … h_L; h_0 is the clamped input.
      errors: e_1 … e_L, e_l = h_l − F_l(h_{l−1}).
      residual: ‖∂E/∂h‖ at `states`, relative to its value where the relaxation began.
      block_residuals: For each block, ‖e_l − p_l‖ / (‖e_l‖ + ‖p_l‖), p_l = J_{l+1}ᵀ e_{l+1} (p_L = −β
        ∂loss/∂h_L): 0 at equilibrium, 1 where the block has not begun to relax, whatever the scale of its
        credit.
      steps: Steps taken.
      status: How the relaxation ended.
      beta: The signed β that was used.
    """

    states: list[Tensor]
    errors: list[Tensor]
    residual: float
    block_residuals: list[float]
    steps: int
    status: Status
    beta: float


@torch.no_grad()
def free_phase(chain: ResidualChain, x: Tensor) -> FreePhase:
    """The forward pass: the minimum of the energy at β = 0, where every error is zero.

    Args:
      chain: The chain.
      x: Inputs, (B, …).

    Raises:
      ShapeError: If a block does not fit its input; the message names the block.
      NumericalError: If a state is not finite; the message names the block.
    """
    logits, states = chain(x, return_hidden=True)
    for number, h in enumerate(states):
        if not bool(torch.isfinite(h).all()):
            where = f"block {number}" if number else "the stem"
            raise NumericalError(
                f"free phase: the output of {where} is not finite; check the inputs and weights"
            )
    return FreePhase(states, logits)


def nudged_phase(
    chain: ResidualChain,
    x_or_free: Tensor | FreePhase,
    y: Tensor,
    *,
    solver: str | AbstractSolver = "gd",
    beta: float | str = 0.5,
    steps: int = 20,
    step_size: float | None = None,
    tolerance: float = 0.0,
    sign: int = 1,
    throw: bool = True,
) -> NudgedPhase:
    r"""Relaxes E(h) = Σ_l ½‖h_l − F_l(h_{l−1})‖² ± β Σ_n loss_n from the free states, h_0 clamped.

    At equilibrium e_L = ∓β ∂loss/∂h_L and e_l = J_{l+1}(h_l)ᵀ e_{l+1} (Scellier and Bengio 2017,
    https://arxiv.org/abs/1602.05179; Whittington and Bogacz 2017).

    Args:
      chain: The chain.
      x_or_free: Inputs (B, …), or a free phase already computed.
      y: Targets.
      solver: ``"gd"`` (the source's), ``"momentum"``, ``"gauss_seidel"``, ``"anderson"``, ``"error"`` (a
        reference solver: its first step is backpropagation), or a solver object.
      beta: β > 0, or ``"auto"``: see `automatic_beta`.
      steps: Steps at most.
      step_size: The solver's own default if None; only for a solver given by name.
      tolerance: Stop when the residual is at most this; 0 takes every step.
      sign: +1 nudges towards lower loss, −1 towards higher.
      throw: Raise when the relaxation diverges or becomes non-finite; otherwise `status` says so.

    Returns:
      The nudged states, with their errors and residuals.

    Raises:
      InvalidValueError: If an argument is out of range.
      NumericalError: If the relaxation fails and `throw` is true; the message names block, step and residual.

    Example:
      >>> import torch
      >>> from fingerpost.credit import nudged_phase, residual_mlp
      >>> draw = torch.Generator().manual_seed(0)
      >>> chain = residual_mlp(8, 8, 3, 2, generator=draw)
      >>> x, y = torch.randn(4, 8, generator=draw), torch.tensor([0, 1, 2, 0])
      >>> nudged = nudged_phase(chain, x, y, solver="error", steps=3)
      >>> nudged.status.value, nudged.residual < 1e-2
      ('steps exhausted', True)
    """
    chosen = _solver(solver, step_size)
    _check(beta, steps, tolerance, sign)
    free = x_or_free if isinstance(x_or_free, FreePhase) else free_phase(chain, x_or_free)
    problem = NudgedProblem(chain, free.states, y, sign * _strength(chain, free, y, beta))
    with torch.no_grad():
        relaxation = chosen.relax(problem, steps, tolerance)
        gradient = problem.gradient(relaxation.states) if relaxation.gradient is None else relaxation.gradient
    result = _judge(problem, relaxation, gradient)
    if throw and result.status.failed:
        raise NumericalError(_failure(result, chosen))
    return result


def _solver(solver: str | AbstractSolver, step_size: float | None) -> AbstractSolver:
    if isinstance(solver, AbstractSolver):
        if step_size is not None:
            raise InvalidValueError("step_size is given beside a solver object; set it on the solver instead")
        return solver
    if solver not in SOLVERS:
        raise InvalidValueError(f"solver is {solver!r}; expected one of {list(SOLVERS)} or a solver object")
    return SOLVERS[solver]() if step_size is None else replace(SOLVERS[solver](), step_size=step_size)


def _check(beta: float | str, steps: int, tolerance: float, sign: int) -> None:
    if isinstance(beta, str):
        if beta != "auto":
            raise InvalidValueError(f"beta is {beta!r}; expected a positive number or 'auto'")
    elif not (math.isfinite(beta) and beta > 0):
        raise InvalidValueError(
            f"beta is {beta}; expected a finite number > 0 (its sign is the argument `sign`)"
        )
    if steps < 1:
        raise InvalidValueError(f"steps is {steps}; expected at least 1")
    if not tolerance >= 0:
        raise InvalidValueError(f"tolerance is {tolerance}; expected at least 0")
    if sign not in (1, -1):
        raise InvalidValueError(f"sign is {sign}; expected +1 or -1")


def _strength(chain: ResidualChain, free: FreePhase, y: Tensor, beta: float | str) -> float:
    if not isinstance(beta, str):
        return float(beta)
    from fingerpost.credit._beta import automatic_beta

    return automatic_beta(chain, free, y)


def _judge(problem: NudgedProblem, relaxation: Relaxation, gradient: EnergyGradient) -> NudgedPhase:
    norms = gradient.norms()
    residual = math.hypot(*(whole for whole, _, _ in norms))
    if relaxation.scale > 0:
        residual /= relaxation.scale
    return NudgedPhase(
        states=relaxation.states,
        errors=gradient.errors,
        residual=residual,
        block_residuals=[whole / (e + p) if e + p != 0 else 0.0 for whole, e, p in norms],
        steps=relaxation.steps,
        status=judge(residual, relaxation.tolerance) or Status.EXHAUSTED,
        beta=problem.beta,
    )


def _failure(result: NudgedPhase, solver: AbstractSolver) -> str:
    broken = [n for n, value in enumerate(result.block_residuals, 1) if not math.isfinite(value)]
    norms = [float(e.norm()) for e in result.errors]
    block = broken[-1] if broken else norms.index(max(norms)) + 1
    return (
        f"nudged phase {result.status.value} at step {result.steps}: block {block} has error norm "
        f"{norms[block - 1]:.3g}, and the relative norm of the energy gradient is {result.residual:.3g}; "
        f"use a smaller beta (now {abs(result.beta):g}) or step_size ({solver})"
    )
