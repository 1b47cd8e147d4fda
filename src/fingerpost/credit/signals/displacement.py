"""The displacement credit of equilibrium propagation: the source's, with the source's bug one sign away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fingerpost.credit._phases import free_phase, nudged_phase
from fingerpost.credit.signals.base import AbstractCredit, Credits
from fingerpost.credit.solvers import AbstractSolver
from fingerpost.errors import InvalidValueError

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


@dataclass(frozen=True)
class DisplacementCredit(AbstractCredit):
    r"""a_l = −(h_l^nudged − h_l^free)/β.

    At equilibrium, as β → 0, it tends to (Σ_{k≤l} J_{l←k} J_{l←k}ᵀ) g_l, J_{l←k} = ∂h_l/∂h_k and g_l the
    gradient: a positive definite matrix times the gradient, with its sign, but the gradient itself only at
    block 1. After few steps of gradient descent it is a vanishing fraction of that in the lower blocks.

    Args:
      beta: β > 0, or ``"auto"``.
      solver: As in `nudged_phase`; the source's is ``"gd"``.
      steps: As in `nudged_phase`.
      step_size: As in `nudged_phase`.
      tolerance: As in `nudged_phase`.
      sign: +1, or −1 for the source's bug: (h^nudged − h^free)/β, which points down the loss.
    """

    beta: float | str = 0.5
    solver: str | AbstractSolver = "gd"
    steps: int = 20
    step_size: float | None = None
    tolerance: float = 0.0
    sign: int = 1

    def __post_init__(self) -> None:
        if self.sign not in (1, -1):
            raise InvalidValueError(f"sign is {self.sign}; expected +1, or -1 for the source's bug")

    def __call__(self, chain: ResidualChain, x: Tensor, y: Tensor) -> Credits:
        """Relaxes once, nudged towards lower loss."""
        free = free_phase(chain, x)
        nudged = nudged_phase(
            chain, free, y, solver=self.solver, beta=self.beta, steps=self.steps,
            step_size=self.step_size, tolerance=self.tolerance,
        )  # fmt: skip
        factor = -self.sign / nudged.beta
        layers = [(h - f) * factor for h, f in zip(nudged.states[1:], free.states[1:])]
        return Credits(layers, nudged.block_residuals, nudged.steps)
