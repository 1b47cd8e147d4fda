"""The loops over steps: adaptive ones, and fixed grids."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as default

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, NumericalError
from fingerpost.ode._field import Field, transformed
from fingerpost.ode._tolerance import Tolerance
from fingerpost.ode.controllers import ConstantStepSize, Controller, PIDController
from fingerpost.ode.methods.base import AbstractMethod, Step


@dataclass
class Stats:
    """What a solve cost.

    Attributes:
      nfe: Evaluations of f in the forward pass.
      accepted: Steps taken.
      rejected: Steps attempted in vain.
      backward_nfe: Evaluations of f in backward passes so far, each with a vector-Jacobian product.
    """

    nfe: int = 0
    accepted: int = 0
    rejected: int = 0
    backward_nfe: int = 0


@dataclass
class Scheme:
    """How to step: what `solve`'s options come to.

    Attributes:
      method: The one-step method.
      controller: Of the step size.
      tolerance: Of the error; unused on fixed grids.
      first_step: Length of the first step, or None.
      max_steps: Most steps to attempt.
    """

    method: AbstractMethod
    controller: Controller
    tolerance: Tolerance
    first_step: float | None = None
    max_steps: int = 100_000


@dataclass
class March:
    """One run from y at times[0] to times[-1], an iterator over accepted steps.

    A step's stages are valid until the next one is asked for. After the last step `status` says how it went.

    Attributes:
      scheme: How to step.
      field: f.
      y: The initial state, packed.
      times: Start, observation times and end, host floats; a fixed grid without step size steps through them.
      stats: Counts.
      status: "success", or why the march stopped early: "max_steps", "step_underflow" or "non_finite".
      message: The failure in words.
      first: f at the start where known.
    """

    scheme: Scheme
    field: Field
    y: Tensor
    times: list[float]
    stats: Stats = default(default_factory=Stats)
    status: str = "success"
    message: str = ""
    first: Tensor | None = None
    next_step: float | None = None
    """The step length that the controller would take next."""
    ends: list[float] = default(default_factory=list)
    """The start and the ends of the accepted steps; the last is the last of `times`, where t + h may be rounded."""

    def __iter__(self) -> Iterator[Step]:
        self.ends.append(self.times[0])
        fixed = isinstance(self.scheme.controller, ConstantStepSize)
        try:
            yield from self._fixed() if fixed else self._adaptive()
        finally:
            self.stats.nfe = self.field.nfe

    def _fixed(self) -> Iterator[Step]:
        scheme, method = self.scheme, self.scheme.method
        workspace, y, first = method.workspace(self.field, self.y), self.y, self.first
        peaks: list[Tensor] = []
        grid = fixed_grid(self.times, scheme.controller.h, scheme.max_steps)  # type: ignore[union-attr]
        for t, t1 in itertools.pairwise(grid):
            step = method.step(self.field, t, y, t1 - t, first, workspace)
            if not step.converged:
                return self._stop("unsolved", t, t1 - t)
            y, first = step.y1, step.last
            # read once at the end: a check at each step would make the device wait
            peaks.append(torch.linalg.vector_norm(y.detach(), ord=math.inf))
            self.stats.accepted += 1
            self.ends.append(t1)
            yield step
        if grid[-1] != self.times[-1]:
            self._stop("max_steps", grid[-1], grid[-1] - grid[-2] if len(grid) > 1 else 0.0)
        self._check(peaks, grid)

    def _check(self, peaks: list[Tensor], grid: list[float]) -> None:
        if transformed():
            return  # a transform cannot look at values
        finite = torch.isfinite(torch.stack(peaks)) if peaks else torch.ones(1)
        if not bool(finite.all()):
            i = int(finite.to(torch.uint8).argmin())
            del self.ends[i + 1 :]
            self._stop("non_finite", grid[i], grid[i + 1] - grid[i])

    def _adaptive(self) -> Iterator[Step]:
        scheme, method, end = self.scheme, self.scheme.method, self.times[-1]
        controller: PIDController = scheme.controller  # type: ignore[assignment]
        ratio = math.inf
        t, y, sign = self.times[0], self.y, math.copysign(1.0, self.times[-1] - self.times[0])
        workspace, order = method.workspace(self.field, y), method.error_order
        first = self.first
        if first is None and (method.carries_derivative or scheme.first_step is None):
            first = self.field(self.field.time(t), y)
        h = sign * (scheme.first_step or self._initial_step(t, y, first, abs(end - t)))
        earlier: list[float] = []
        attempts, grow, reach = 0, True, 0.0
        while t != end:
            smallest = 16 * math.ulp(max(abs(t), abs(end)))
            if attempts >= scheme.max_steps:
                return self._stop("max_steps", t, h)
            if not abs(h) >= smallest:
                underflow = ratio < math.inf if attempts else bool(scheme.first_step)
                return self._stop("step_underflow" if underflow else "non_finite", t, h)
            attempts += 1
            landing = abs(end - t) <= max(abs(h) * (1 + 1e-9) + smallest, reach)
            h_used = end - t if landing else h
            step = method.step(self.field, t, y, h_used, first, workspace)
            ratio = self._ratio(step)
            if not ratio <= 1:
                self.stats.rejected += 1
                first = step.first
                h, grow, reach = h_used * controller.rejected(ratio, order), False, 0.0
                continue
            factor = controller.factor(ratio, earlier, order)
            h, grow = h_used * (factor if grow else min(1.0, factor)), True
            self.next_step = h
            # a last step somewhat longer than the controller's spares a short one after it
            reach = abs(h_used) * (0.9 / max(ratio, 1e-3)) ** (1 / order)
            earlier = [ratio, *earlier[:1]]
            t, y, first = end if landing else t + h_used, step.y1, step.last
            self.stats.accepted += 1
            self.ends.append(t)
            yield step

    def _ratio(self, step: Step) -> float:
        """ε of a step; infinite if it is not finite or the method could not solve it."""
        if not step.converged:
            return math.inf
        with torch.no_grad():
            method, tolerance = self.scheme.method, self.scheme.tolerance
            y, y1, error = step.y.detach(), step.y1.detach(), method.error(step)
            if error is None:
                raise InvalidValueError(f"{method.name} gave no error estimate for an adaptive controller")
            if error.shape == y.shape:
                ratio = tolerance.ratio(error, y, y1)
            else:
                ratio = method.combined_error([tolerance.ratio(e, y, y1) for e in error], step.h)
        return ratio if ratio == ratio else math.inf

    @torch.no_grad()
    def _initial_step(self, t: float, y: Tensor, first: Tensor | None, span: float) -> float:
        """Hairer, Nørsett and Wanner, Solving ODEs I, II.4: one evaluation more."""
        assert first is not None
        y, first, tolerance, order = (
            y.detach(),
            first.detach(),
            self.scheme.tolerance,
            self.scheme.method.error_order,
        )
        scale = tolerance.scale(y.abs())
        d0, d1 = tolerance.norm(y / scale), tolerance.norm(first / scale)
        if not math.isfinite(d1):
            return 0.0
        h0 = min(1e-6 if d0 < 1e-5 or d1 < 1e-5 else 0.01 * d0 / d1, span)
        sign = math.copysign(1.0, self.times[-1] - self.times[0])
        second = self.field(self.field.time(t + sign * h0), torch.add(y, first, alpha=sign * h0))
        d2 = tolerance.norm((second - first) / scale) / h0
        if not math.isfinite(d2):
            return h0
        largest = max(d1, d2)
        h1 = max(1e-6, h0 * 1e-3) if largest <= 1e-15 else (0.01 / largest) ** (1 / order)
        return min(100 * h0, h1, span)

    def _stop(self, status: str, t: float, h: float) -> None:
        self.status = status
        name = getattr(self.scheme.method, "name", type(self.scheme.method).__name__)
        where = f"at t = {t:.9g}, step {len(self.ends)}, h = {h:.3g}"
        self.message = {
            "max_steps": f"{name} used up max_steps={self.scheme.max_steps} {where}, before the end {self.times[-1]:.9g}: "
            "raise max_steps, loosen rtol and atol, or use a stiff method such as 'kvaerno5'",
            "step_underflow": f"{name} needs a step below the resolution of time {where}: the field may be stiff "
            "(method='kvaerno5'), discontinuous or singular there, or the tolerance below the precision of the state",
            "unsolved": f"{name} could not solve its stages {where}: use shorter steps, or leave step_size out",
            "non_finite": f"the field or the state became non-finite {where}: the solution may blow up there, "
            "or the field may be undefined",
        }[status]

    def raise_on_failure(self) -> None:
        """Raises NumericalError if the march stopped early."""
        if self.status != "success":
            raise NumericalError(f"{self.message}; on_failure='partial' keeps what was reached")


def fixed_grid(times: list[float], h: float | None, max_steps: int) -> list[float]:
    """The grid of a fixed-step solve, cut off after `max_steps` steps."""
    if h is None:
        return times[: max_steps + 1]
    start, end = times[0], times[-1]
    count = max(1, math.ceil(abs(end - start) / h * (1 - 1e-12) - 1e-9))
    signed = math.copysign(h, end - start)
    grid = [start + i * signed for i in range(min(count, max_steps + 1))]
    return grid[: max_steps + 1] if len(grid) > max_steps else [*grid, end]
