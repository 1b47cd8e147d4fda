"""What every credit shares: one interface, one result, one convention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from fingerpost.credit._chain import ResidualChain


class Credits(NamedTuple):
    """Layer credits.

    Convention: row n of a_l stands for ∂loss_n/∂h_l, so that a_l stands for the gradient of the SUM of the
    per-sample losses; it points towards higher loss.

    Args:
      layers: a_1 … a_L, a_l shaped like h_l.
      residuals: For each block, how far the relaxation was from equilibrium (see `NudgedPhase`; the largest
        where there were several relaxations); zeros for credits that relax nothing.
      steps: Relaxation steps taken in all.
    """

    layers: list[Tensor]
    residuals: list[float]
    steps: int

    @classmethod
    def exact(cls, layers: list[Tensor]) -> Credits:
        """Credits that were computed without a relaxation."""
        return cls(layers, [0.0] * len(layers), 0)


@dataclass(frozen=True)
class AbstractCredit(ABC):
    """A learning signal through depth: one credit per block and sample.

    A new one implements `__call__`; its layers are detached.
    """

    @abstractmethod
    def __call__(self, chain: ResidualChain, x: Tensor, y: Tensor) -> Credits:
        """Computes the credits of `chain` at inputs x (B, …) and targets y."""
