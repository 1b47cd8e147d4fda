"""Step size control: how the estimated error of one step chooses the length of the next."""

from __future__ import annotations

from dataclasses import dataclass

from fingerpost.errors import InvalidTypeError, InvalidValueError, did_you_mean
from fingerpost.ode.methods.base import AbstractMethod


@dataclass(frozen=True)
class PIDController:
    r"""h_{n+1} = h_n clip(e_n^(−(i+p+d)/k) e_{n−1}^((p+2d)/k) e_{n−2}^(−d/k)), e = ε / safety^k, ε the error ratio.

    ε ≤ 1 accepts the step; k is the method's `error_order`. Integral control (i alone) is the classical
    rule; the proportional term damps the oscillation of the steps where stability limits them (Gustafsson
    1991, https://doi.org/10.1145/210232.210242; Söderlind 2003, https://doi.org/10.1145/641876.641877).
    Whatever the three gains, steady steps have the error safety^k. Earlier errors count as at least half of
    that, so that a tiny first step does not slow down the growth. After a rejected step the next one may not
    grow, and a rejected step is shortened by integral control.

    Args:
      integral: i, at least 0.
      proportional: p, at least 0.
      derivative: d, at least 0.
      safety: Factor on every step, in (0, 1].
      min_factor: Least factor from one step to the next, in (0, 1).
      max_factor: Largest factor, above 1.

    Raises:
      InvalidValueError: If a value is out of its range.

    >>> PIDController().factor(0.9**5, [], order=5)
    1.0
    """

    integral: float = 0.6
    proportional: float = 0.4
    derivative: float = 0.0
    safety: float = 0.9
    min_factor: float = 0.2
    max_factor: float = 10.0

    def __post_init__(self) -> None:
        for name in ("integral", "proportional", "derivative"):
            if not getattr(self, name) >= 0:
                raise InvalidValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.integral + self.proportional + self.derivative > 0:
            raise InvalidValueError(
                "integral, proportional and derivative are all 0: steps would never change"
            )
        if not 0 < self.safety <= 1:
            raise InvalidValueError(f"safety must be in (0, 1], got {self.safety}")
        if not 0 < self.min_factor < 1 < self.max_factor:
            raise InvalidValueError(
                f"factors must satisfy 0 < min_factor < 1 < max_factor, got {self.min_factor} and {self.max_factor}"
            )

    def factor(self, ratio: float, earlier: list[float], order: int) -> float:
        """What to multiply h by after an accepted step.

        Args:
          ratio: Its error over the tolerance, ε_n.
          earlier: ε of the accepted steps before, the latest first.
          order: k.
        """
        p, i, d = self.proportional, self.integral, self.derivative
        target = self.safety**order
        now, past = max(ratio, 1e-10) / target, [max(r / target, 0.5) for r in earlier]
        if not past:
            factor = now ** (-1 / order)
        else:
            factor = now ** (-(i + p + d) / order) * past[0] ** ((p + 2 * d) / order)
            factor *= past[1] ** (-d / order) if len(past) > 1 else 1.0
        return min(self.max_factor, max(self.min_factor, factor))

    def rejected(self, ratio: float, order: int) -> float:
        """What to multiply h by after a rejected step; a non-finite ratio gives `min_factor`."""
        if not ratio < float("inf"):
            return self.min_factor
        return min(1.0, max(self.min_factor, self.safety * ratio ** (-1 / order)))


@dataclass(frozen=True)
class ConstantStepSize:
    """Steps of one length, the last one shortened to land on the final time; no error estimate is used.

    Args:
      h: Step length, above 0; the direction is that of t. None takes the times t themselves as the grid.

    Raises:
      InvalidValueError: If h is not above 0.

    >>> ConstantStepSize(0.1)
    ConstantStepSize(h=0.1)
    """

    h: float | None = None

    def __post_init__(self) -> None:
        if self.h is not None and not 0 < self.h < float("inf"):
            raise InvalidValueError(f"step_size must be above 0 and finite, got {self.h}")


CONTROLLERS: dict[str, PIDController] = {
    "I": PIDController(integral=1.0, proportional=0.0),
    "PI": PIDController(),
    "PID": PIDController(integral=0.5, proportional=0.3, derivative=0.05),
}

Controller = PIDController | ConstantStepSize


def as_controller(
    controller: str | Controller | None, method: AbstractMethod, step_size: float | None
) -> Controller:
    """The controller that `solve`'s arguments ask for."""
    if step_size is not None:
        if controller is not None:
            raise InvalidValueError(
                "controller and step_size were both given: step_size means ConstantStepSize"
            )
        return ConstantStepSize(step_size)
    if controller is None:
        fixed = method.fixed_by_default or not method.adaptive
        return ConstantStepSize() if fixed else CONTROLLERS["PI"]
    if isinstance(controller, str):
        if controller not in CONTROLLERS:
            hint = did_you_mean(controller, CONTROLLERS)
            raise InvalidValueError(
                f"controller {controller!r} is unknown, expected 'I', 'PI' or 'PID'{hint}"
            )
        controller = CONTROLLERS[controller]
    if not isinstance(controller, (PIDController, ConstantStepSize)):
        raise InvalidTypeError(
            f"controller must be 'I', 'PI', 'PID', a PIDController or a ConstantStepSize, got {type(controller).__name__}"
        )
    if isinstance(controller, PIDController) and not method.adaptive:
        raise InvalidValueError(
            f"{method.name} has no error estimate for an adaptive controller: give step_size, or use method='dopri5'"
        )
    return controller
