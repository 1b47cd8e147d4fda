"""What a method is to the solver: one step, its error and its dense output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from fingerpost.ode._field import Field


@dataclass(slots=True)
class Step:
    """One attempted step from (t, y) to (t + h, y1).

    Attributes:
      t: Time at its start.
      h: Its signed length.
      y: State at its start, the packed tensor of any shape S.
      y1: State at its end, shape S.
      first: f(t, y) if the method carries it over from step to step, else None.
      last: f(t + h, y1) if the method computed it, and then `first` of the next step.
      error: Estimate of the local error, shape S, or (R, *S) where the method combines R estimates; without
        graph. None if the method has no estimate.
      stages: Whatever the method's `interpolate` needs. Without graph it may live in the workspace, which
        the next step overwrites.
      converged: False where an implicit method did not solve its stages: the solver then tries a shorter step.
    """

    t: float
    h: float
    y: Tensor
    y1: Tensor
    first: Tensor | None = None
    last: Tensor | None = None
    error: Tensor | None = None
    stages: Any = None
    converged: bool = True


class AbstractMethod(ABC):
    """One-step method: plug in a new one by `step` and `interpolate`.

    With grad mode on, `step` must build a graph through y, first and all that the field holds, with t and h
    constants: the gradients "tape" and "checkpoint" differentiate through it. With grad mode off it may use
    `workspace` as it likes. Random numbers and attributes of the method itself are out of bounds: a step is
    replayed in the backward pass and must come out the same.
    """

    name: ClassVar[str]
    order: ClassVar[int]
    """The order p of y1: local error O(h^(p+1))."""
    error_order: ClassVar[int] = 0
    """The exponent k of the step controller, |h| ∝ error^(-1/k): one more than the order of the lower
    solution of the pair; 0 if there is no estimate and the steps are fixed."""
    dense_order: ClassVar[int]
    """The order of the dense output."""
    fixed_by_default: ClassVar[bool] = False
    """Whether `solve` takes fixed steps although there is an estimate, unless a controller is given."""
    carries_derivative: ClassVar[bool] = False
    """Whether `first` of a step is `last` of the step before (FSAL)."""

    @property
    def adaptive(self) -> bool:
        """Whether steps can be chosen by an estimate of the error."""
        return self.error_order > 0

    def workspace(self, field: Field, y: Tensor) -> Any:
        """Buffers for the steps of one solve from states like y; None if the method needs none."""
        return None

    @abstractmethod
    def step(self, field: Field, t: float, y: Tensor, h: float, first: Tensor | None, workspace: Any) -> Step:
        """Attempts one step.

        Args:
          field: f as ``field(time, y)``, with ``field.times(t, h, nodes)`` for the stage times.
          t: Time at the start, a host float.
          y: State at the start, shape S.
          h: Signed step length.
          first: f(t, y) where known, else None.
          workspace: What `workspace` returned.
        """

    @abstractmethod
    def interpolate(self, field: Field, step: Step, theta: Sequence[float]) -> Tensor:
        """The dense output at t + θh.

        Args:
          field: May be called for the stages that only the dense output needs.
          step: A step that this method made.
          theta: M fractions of the step in [0, 1].

        Returns:
          States, shape (M, *S).
        """

    def error(self, step: Step) -> Tensor | None:
        """The estimate of a step's error, for methods that compute it only when asked."""
        return step.error

    def combined_error(self, norms: Sequence[float], h: float) -> float:
        """One error ratio from those of R estimates; the only one unless a method says otherwise."""
        return norms[0]
