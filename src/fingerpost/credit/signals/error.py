"""The error credit of equilibrium propagation, which tends to the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from fingerpost.credit._phases import FreePhase, NudgedPhase, free_phase, nudged_phase
from fingerpost.credit.signals.base import AbstractCredit, Credits
from fingerpost.credit.solvers import AbstractSolver
from fingerpost.errors import InvalidValueError

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


@dataclass(frozen=True)
class ErrorCredit(AbstractCredit):
    r"""a_l = −e_l/β with e_l = h_l − F_l(h_{l−1}) at the nudged states.

    At equilibrium it is the gradient up to O(β) one-sided and O(β²) centred, a_l = −(e_l(+β) − e_l(−β))/(2β);
    each Richardson level, from nudges β, β/2, β/4, …, removes the next term: one-sided β^{1+k}, centred
    β^{2+2k}.

    Args:
      beta: β > 0, or ``"auto"`` (see `automatic_beta`).
      centered: Nudge both ways.
      richardson: Levels k of extrapolation, 0 for none.
      solver: As in `nudged_phase`.
      steps: As in `nudged_phase`.
      step_size: As in `nudged_phase`.
      tolerance: As in `nudged_phase`.
    """

    beta: float | str = 0.5
    centered: bool = True
    richardson: int = 0
    solver: str | AbstractSolver = "error"
    steps: int = 5
    step_size: float | None = None
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.richardson < 0:
            raise InvalidValueError(f"richardson is {self.richardson}; expected at least 0")

    @property
    def order(self) -> int:
        """The power of β with which the credit, at equilibrium, tends to the gradient."""
        return (self.richardson + 1) * (2 if self.centered else 1)

    def __call__(self, chain: ResidualChain, x: Tensor, y: Tensor) -> Credits:
        """Relaxes once per nudge: 1, or 2 if centred, times 1 + richardson."""
        free = free_phase(chain, x)
        beta = self._beta(chain, free, y)
        phases: list[NudgedPhase] = []
        row = [self._difference(chain, free, y, beta / 2**k, phases) for k in range(self.richardson + 1)]
        return Credits(
            layers=self._extrapolate(row),
            residuals=[max(column) for column in zip(*(phase.block_residuals for phase in phases))],
            steps=sum(phase.steps for phase in phases),
        )

    def _beta(self, chain: ResidualChain, free: FreePhase, y: Tensor) -> float | str:
        if self.beta != "auto":
            return self.beta
        from fingerpost.credit._beta import automatic_beta

        return automatic_beta(chain, free, y, order=self.order if self.centered else 1)

    def _difference(
        self, chain: ResidualChain, free: FreePhase, y: Tensor, beta: float, phases: list[NudgedPhase]
    ) -> list[Tensor]:
        ends = []
        for sign in (1, -1) if self.centered else (1,):
            ends.append(
                nudged_phase(
                    chain, free, y, solver=self.solver, beta=beta, steps=self.steps,
                    step_size=self.step_size, tolerance=self.tolerance, sign=sign,
                )
            )  # fmt: skip
        phases += ends
        if not self.centered:
            return [e / -beta for e in ends[0].errors]
        return [(minus - plus) / (2 * beta) for plus, minus in zip(ends[0].errors, ends[1].errors)]

    def _extrapolate(self, row: list[list[Tensor]]) -> list[Tensor]:
        """Romberg's table: entries for β, β/2, β/4, … → one with the leading terms removed."""
        stride = 2 if self.centered else 1
        for level in range(1, len(row)):
            factor = 2.0 ** (stride * level)
            row = [
                [(factor * f - c) / (factor - 1) for c, f in zip(coarse, fine)]
                for coarse, fine in pairwise(row)
            ]
        return row[0]
