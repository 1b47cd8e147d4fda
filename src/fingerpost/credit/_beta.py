"""The nudge strength at which what it truncates and what rounding loses are in balance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fingerpost.credit._energy import NudgedProblem
from fingerpost.credit.solvers.error import ErrorCoordinates
from fingerpost.errors import InvalidValueError

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain
    from fingerpost.credit._phases import FreePhase


@torch.no_grad()
def automatic_beta(chain: ResidualChain, free: FreePhase, y: Tensor, order: int = 1) -> float:
    r"""β* = (ρ / (p c))^{1/(p+1)}, the minimum of c β^p + ρ/β.

    c β^p is the truncation error of −e/β (p = 1 one-sided, 2 centred, higher with Richardson), measured
    at equilibrium with a small probe β. ρ/β is the rounding error: e_l = h_l − F_l(h_{l−1}) loses ε‖h_l‖ to
    cancellation, ε the machine epsilon of h, while its size is β‖g_l‖. Both are taken over all blocks,
    relative to ‖g‖.

    Args:
      chain: The chain.
      free: Its free phase.
      y: Targets.
      order: p, 1 or a positive even number. For p > 2, c is extrapolated as (c_2)^{p/2}.

    Returns:
      β* in (0, 1]: 1 where nothing is truncated.

    Raises:
      InvalidValueError: If the order is neither 1 nor even and positive.
    """
    if order != 1 and (order < 1 or order % 2):
        raise InvalidValueError(f"order is {order}; expected 1 or a positive even number")
    gradient = _equilibrium_credit(chain, free, y, 1.0, steps=1)
    size, states = float(gradient.norm()), _flat(free.states[1:])
    if size == 0:
        return 1.0
    epsilon = torch.finfo(states.dtype).eps
    rounding = epsilon * float(states.norm()) / size
    probe = min(0.1, epsilon ** (1 / 4) * float(free.states[-1].norm()) / size)
    truncation = _truncation(chain, free, y, gradient, probe, order)
    floor = epsilon / probe**order
    return float(min(1.0, (max(rounding, epsilon) / (order * max(truncation, floor))) ** (1 / (order + 1))))


def _truncation(
    chain: ResidualChain, free: FreePhase, y: Tensor, gradient: Tensor, probe: float, order: int
) -> float:
    """The constant c of c β^p, relative to ‖g‖."""
    plus = _equilibrium_credit(chain, free, y, probe)
    if order == 1:
        return float((plus - gradient).norm() / gradient.norm()) / probe
    minus = _equilibrium_credit(chain, free, y, -probe)
    second = float(((plus + minus) / 2 - gradient).norm() / gradient.norm()) / probe**2
    return second ** (order / 2)


def _equilibrium_credit(
    chain: ResidualChain, free: FreePhase, y: Tensor, beta: float, steps: int = 4
) -> Tensor:
    """−e/β of all blocks, read off the error coordinates, which do not cancel."""
    problem = NudgedProblem(chain, free.states, y, beta)
    return _flat(ErrorCoordinates().errors(problem, steps)) / -beta


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])
