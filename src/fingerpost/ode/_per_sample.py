"""Steps of each sample's own length: `solve(…, per_sample=True)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError
from fingerpost.ode import _solve
from fingerpost.ode._checkpoint import Accumulator, Once
from fingerpost.ode._field import Field
from fingerpost.ode._march import Stats
from fingerpost.ode._parameters import Watch, WatchedField, declared, inspect
from fingerpost.ode._solution import Solution
from fingerpost.ode._space import StateSpace, Tree
from fingerpost.ode.controllers import ConstantStepSize, PIDController, as_controller
from fingerpost.ode.methods.explicit import ExplicitRungeKutta


class _RowField(Field):
    """A field whose times are one per sample."""

    def time(self, t: float) -> Tensor:
        """T once per sample."""
        return torch.full((self.space.shapes[0][0],), t, dtype=self.space.dtype, device=self.space.device)


@dataclass
class _Attempt:
    """One attempted step of all samples; those that were rejected or are done have h = 0 here.

    Attributes:
      t: Starts, (B,), float64.
      h: Lengths of what was accepted, (B,), float64.
      y: States at the starts, (B, N), or nothing where they are not kept.
      reads: Rows (m, b) of observation m of sample b that lie in it.
      theta: Where in the step, (P,).
    """

    t: Tensor
    h: Tensor
    y: Tensor
    reads: Tensor
    theta: Tensor


@dataclass
class _Rows:
    """The loop over steps in which every sample has its own time, length and acceptance."""

    field: Field
    method: ExplicitRungeKutta
    controller: PIDController
    rtol: float
    atol: float
    norm: str
    times: Tensor
    max_steps: int
    first_step: float | None
    stats: Stats = default(default_factory=Stats)
    attempts: list[_Attempt] = default(default_factory=list)
    keep: bool = False
    """Whether the states before each step are kept, for gradient "checkpoint"."""
    status: str = "success"
    message: str = ""

    def run(self, y: Tensor) -> Tensor:
        """States at the times, (T, B, N); NaN where a sample did not come so far."""
        method, end = self.method, self.times[-1]
        ys = y.new_full((len(self.times), *y.shape), math.nan)
        ys[0] = y
        t, sign = self.times[0].clone(), torch.sign(end - self.times[0])
        k = self.field(t.to(y.dtype), y)
        h = self._initial(t, y, k, sign)
        history: list[Tensor] = []
        grow = torch.full_like(t, math.inf)
        for _ in range(self.max_steps):
            active = (t != end) & h.isfinite() & (h.abs() >= 16 * self._ulp(t))
            if not bool(active.any()):
                break
            landing = active & ((end - t).abs() <= h.abs() * (1 + 1e-9))
            used = torch.where(landing, end - t, h) * active
            y1, ks = step(self.field, method, t, used, y, k)
            ratio = self._ratio(method, used, y, y1, ks)
            good = active & (ratio <= 1)
            now = torch.where(landing, end, t + used)
            self._observe(ys, t, used, now, good, y, y1, ks)
            factor = torch.where(
                good, torch.minimum(self._factor(ratio, history), grow), self._rejected(ratio)
            )
            self.stats.accepted += int(good.sum())
            self.stats.rejected += int((active & ~good).sum())
            h = torch.where(active, used * factor, h)
            grow = torch.where(active & ~good, torch.ones_like(grow), torch.full_like(grow, math.inf))
            history = self._remembered(history, ratio, good)
            keep = good[:, None]
            if method.carries_derivative:
                k = torch.where(keep, ks[-1], k)
            y, t = torch.where(keep, y1, y), torch.where(good, now, t)
            if not method.carries_derivative:
                k = self.field(t.to(y.dtype), y)
        self._judge(t, h, end)
        self.stats.nfe = self.field.nfe
        return ys

    def _observe(
        self,
        ys: Tensor,
        t: Tensor,
        h: Tensor,
        now: Tensor,
        good: Tensor,
        y: Tensor,
        y1: Tensor,
        ks: list[Tensor],
    ) -> None:
        """Reads the observations that lie in the accepted steps, and keeps what a replay needs."""
        sign = torch.sign(h)
        inside = good & ((self.times - t) * sign > 0) & ((now - self.times) * sign >= 0)
        reads = inside.nonzero()
        theta = ((self.times - t) / torch.where(good, h, torch.ones_like(h)))[inside]
        theta = torch.where(
            self.times[inside] == now.expand_as(self.times)[inside], torch.ones_like(theta), theta
        )
        if len(reads):
            ys[reads[:, 0], reads[:, 1]] = read(self.method, h, y, y1, ks, reads, theta)
        if bool(good.any()):
            self.attempts.append(
                _Attempt(
                    t, torch.where(good, h, torch.zeros_like(h)), y if self.keep else y[:0], reads, theta
                )
            )

    def _ratio(
        self, method: ExplicitRungeKutta, h: Tensor, y: Tensor, y1: Tensor, ks: list[Tensor]
    ) -> Tensor:
        error = _summed(method.e[0], ks) * h.to(y.dtype)[:, None]
        ratio = self._norm(error / (self.atol + self.rtol * torch.maximum(y.abs(), y1.abs())))
        return torch.where(ratio.isfinite(), ratio, torch.full_like(ratio, math.inf))

    def _norm(self, scaled: Tensor) -> Tensor:
        size = scaled.abs().amax(1) if self.norm == "max" else scaled.square().mean(1).sqrt()
        return size.to(torch.float64)

    def _factor(self, ratio: Tensor, history: list[Tensor]) -> Tensor:
        """`PIDController.factor` for all samples at once."""
        c, order = self.controller, self.method.error_order
        p, i, d = c.proportional, c.integral, c.derivative
        target = c.safety**order
        now = ratio.clamp(min=1e-10) / target
        alone = now ** (-1 / order)
        if history:
            past = [(r / target).clamp(min=0.5) for r in history]
            both = now ** (-(i + p + d) / order) * past[0] ** ((p + 2 * d) / order)
            if len(past) > 1:
                both = both * torch.where(past[1].isfinite(), past[1], torch.ones_like(both)) ** (-d / order)
            alone = torch.where(past[0].isfinite(), both, alone)
        return alone.clamp(c.min_factor, c.max_factor)

    def _rejected(self, ratio: Tensor) -> Tensor:
        c = self.controller
        factor = (c.safety * ratio ** (-1 / self.method.error_order)).clamp(c.min_factor, 1.0)
        return torch.where(ratio.isfinite(), factor, torch.full_like(factor, c.min_factor))

    @staticmethod
    def _remembered(history: list[Tensor], ratio: Tensor, good: Tensor) -> list[Tensor]:
        """The error ratios of each sample's last two accepted steps, NaN where there were none."""
        none = torch.full_like(ratio, math.nan)
        one, two = (*history, none, none)[:2]
        return [torch.where(good, ratio, one), torch.where(good, one, two)]

    def _initial(self, t: Tensor, y: Tensor, k: Tensor, sign: Tensor) -> Tensor:
        """Hairer, Nørsett and Wanner, Solving ODEs I, II.4, for each sample."""
        if self.first_step is not None:
            return sign * self.first_step
        span, order = (self.times[-1] - t).abs(), self.method.error_order
        scale = self.atol + self.rtol * y.abs()
        d0, d1 = self._norm(y / scale), self._norm(k / scale)
        h0 = torch.where((d0 < 1e-5) | (d1 < 1e-5), torch.full_like(d0, 1e-6), 0.01 * d0 / d1).minimum(span)
        h0 = torch.where(h0.isfinite(), h0, torch.full_like(h0, 1e-6))
        moved = y + (sign * h0).to(y.dtype)[:, None] * k
        d2 = self._norm((self.field((t + sign * h0).to(y.dtype), moved) - k) / scale) / h0
        largest = torch.maximum(d1, d2)
        h1 = torch.where(largest <= 1e-15, (h0 * 1e-3).clamp(min=1e-6), (0.01 / largest) ** (1 / order))
        h1 = torch.where(h1.isfinite(), h1, h0)
        return sign * torch.minimum(100 * h0, h1).minimum(span)

    def _ulp(self, t: Tensor) -> Tensor:
        return torch.finfo(torch.float64).eps * torch.maximum(t.abs(), self.times[-1].abs())

    def _judge(self, t: Tensor, h: Tensor, end: Tensor) -> None:
        behind = (t != end).nonzero().flatten().tolist()
        if not behind:
            return
        b = behind[0]
        stuck = not bool(h[b].abs() >= 16 * self._ulp(t)[b])
        self.status = "step_underflow" if stuck else "max_steps"
        why = "needs a step below the resolution of time" if stuck else f"used up max_steps={self.max_steps}"
        self.message = (
            f"{self.method.name}: sample {b} of {len(t)} {why} at t = {float(t[b]):.9g} (h = {float(h[b]):.3g}), "
            f"and so did {len(behind) - 1} more: its field may be stiff, non-finite or singular there"
        )


def step(
    field: Field, method: ExplicitRungeKutta, t: Tensor, h: Tensor, y: Tensor, first: Tensor | None = None
) -> tuple[Tensor, list[Tensor]]:
    """One step of every sample with its own length, and its stages."""
    small = h.to(y.dtype)[:, None]
    ks = [field(t.to(y.dtype), y) if first is None else first]
    y1 = y
    for c, row in zip(method.c[1:], method.a):
        y1 = y + small * _summed(row, ks)
        ks.append(field((t + c * h).to(y.dtype), y1))
    return (y1 if method.carries_derivative else y + small * _summed(method.b, ks)), ks


def read(
    method: ExplicitRungeKutta,
    h: Tensor,
    y: Tensor,
    y1: Tensor,
    ks: list[Tensor],
    reads: Tensor,
    theta: Tensor,
) -> Tensor:
    """States at fractions theta of the steps of samples reads[:, 1], shape (P, N)."""
    rows = reads[:, 1]
    weights = torch.from_numpy(method.dense_weights(theta.tolist())).to(y)
    total = sum(w[:, None] * k[rows] for w, k in zip(weights.unbind(1), ks))
    inner = y[rows] + h.to(y.dtype)[rows, None] * total
    return torch.where((theta == 1.0)[:, None], y1[rows], inner)


def _summed(row: Sequence[float], ks: Sequence[Tensor]) -> Tensor:
    """The sum Σ_j w_j k_j."""
    terms = [w * k for w, k in zip(row, ks) if w != 0.0]
    return torch.stack(terms).sum(0) if len(terms) > 2 else sum(terms[1:], terms[0])


def solve_per_sample(
    f: Callable[[Tensor, Tensor], Tensor],
    y0: Tree,
    t: Tensor | Sequence[float],
    *,
    events: Any = None,
    **options: Any,
) -> Solution:
    """`solve` with steps of each sample's own: what ``solve(…, per_sample=True)`` calls.

    Each row of the state of shape (B, …) has its own time, step length and acceptance, so that what comes out
    for a sample does not depend on the others in the batch but for rounding in batched products. f is called
    with all rows and t of shape (B,), also for rows that are done.

    Args:
      f: The field, f(t, y) with t (B,) and y (B, …); it acts on each row alone.
      y0: One real tensor, (B, …).
      t: Times (T,), or (T, B) where they differ by sample, each column strictly monotonic.
      events: Must be None.
      options: As for `solve`: explicit methods with one error estimate (bosh3, dopri5, tsit5, …), numbers as
        tolerances, norm "rms" or "max", gradient "tape" or "checkpoint".

    Returns:
      The solution; `stats.accepted` and `stats.rejected` sum over the samples, `steps` are those of all.

    Raises:
      InvalidValueError: If an option does not go with steps by sample.
      NumericalError: If a sample fails; with on_failure="partial" its later states are NaN.
    """
    problem = _checked(f, y0, t, events, options)
    ys = problem.solve(f, y0, options)
    rows = problem.rows
    if rows.status != "success" and options["on_failure"] == "raise":
        raise NumericalError(f"{rows.message}; on_failure='partial' keeps what was reached")
    ends = {time for a in rows.attempts for time in (a.t + a.h)[a.h != 0].tolist()} | set(
        rows.times[0].tolist()
    )
    original = t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
    ys = ys.view(len(ys), *y0.shape)
    return Solution(ys, original, rows.stats, sorted(ends), rows.status, rows.message)


@dataclass
class _Problem:
    """A checked call, and its three ways to gradients."""

    rows: _Rows
    gradient: str

    def solve(self, f: Any, y0: Tensor, options: dict[str, Any]) -> Tensor:
        rows, flat = self.rows, y0.reshape(len(y0), -1)
        if not torch.is_grad_enabled():
            return rows.run(flat.detach())
        if self.gradient == "tape":
            with torch.no_grad():
                ys = rows.run(flat.detach())
            return _replayed(rows, flat, ys)
        known = declared(f, options["params"])
        first, leaves = inspect(rows.field, float(rows.times[0, 0]), flat.detach(), known)
        del first
        params = [*known, *leaves]
        if not (params or y0.requires_grad):
            with torch.no_grad():
                return rows.run(flat.detach())
        return _ReplayedRows.apply(rows, WatchedField(rows.field, Watch(params)), flat, *params)  # pyright: ignore[reportReturnType]


def _replayed(rows: _Rows, y: Tensor, ys: Tensor) -> Tensor:
    """The accepted steps once more with their graph; `ys` gives the values that no step reaches."""
    places, found, y0 = [], [], y
    for attempt in rows.attempts:
        y1, ks = step(rows.field, rows.method, attempt.t, attempt.h, y)
        if len(attempt.reads):
            places.append(attempt.reads)
            found.append(read(rows.method, attempt.h, y, y1, ks, attempt.reads, attempt.theta))
        y = y1
    rows.stats.nfe = rows.field.nfe
    later = torch.full_like(ys[1:], math.nan)
    if found:
        at = torch.cat(places)
        later = later.index_put((at[:, 0] - 1, at[:, 1]), torch.cat(found))
    return torch.cat([y0[None], later])


class _ReplayedRows(torch.autograd.Function):
    """Gradient "checkpoint": the states before each step are kept, and the backward pass replays the steps."""

    @staticmethod
    def forward(ctx: Any, rows: _Rows, field: Field, y0: Tensor, *params: Tensor) -> Tensor:
        ctx.rows, ctx.field, rows.keep = rows, field, True
        ys = rows.run(y0.detach())
        ctx.save_for_backward(y0, *params)
        return ys

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        inputs = ctx.saved_tensors
        with torch.no_grad():
            found = _reverse(ctx.rows, ctx.field, gradients[0], inputs[1:])
        if torch.is_grad_enabled():
            found = [None if g is None else Once.apply(g, *inputs) for g in found]
        return None, None, *found


def _reverse(rows: _Rows, field: Field, gradient: Tensor, params: Sequence[Tensor]) -> list[Tensor | None]:
    """Cotangents of y0 and the parameters."""
    state, grads, before = torch.zeros_like(gradient[0]), Accumulator(len(params)), field.nfe
    for attempt in reversed(rows.attempts):
        with torch.enable_grad():
            leaf = attempt.y.detach().requires_grad_()
            y = leaf.view_as(leaf)
            y1, ks = step(field, rows.method, attempt.t, attempt.h, y)
            outputs, cotangents = [y1], [state]
            if len(attempt.reads):
                outputs.append(read(rows.method, attempt.h, y, y1, ks, attempt.reads, attempt.theta))
                cotangents.append(gradient[attempt.reads[:, 0], attempt.reads[:, 1]])
        found = torch.autograd.grad(outputs, [leaf, *params], cotangents, allow_unused=True)
        grads.add(found[1:])
        state = torch.zeros_like(state) if found[0] is None else found[0]
    rows.stats.backward_nfe += field.nfe - before
    return [state + gradient[0], *grads.sums]


def _checked(f: Any, y0: Any, t: Any, events: Any, options: dict[str, Any]) -> _Problem:
    if events is not None:
        raise InvalidValueError("events do not go with per_sample=True: solve the samples one by one")
    if options["gradient"] not in ("tape", "checkpoint"):
        raise InvalidValueError(
            f"gradient={options['gradient']!r} does not go with per_sample=True: use 'checkpoint'"
        )
    if not isinstance(y0, Tensor) or not y0.dtype.is_floating_point:
        kind = y0.dtype if isinstance(y0, Tensor) else type(y0).__name__
        raise InvalidTypeError(f"per_sample=True needs one real tensor (B, ...) as y0, got {kind}")
    if y0.ndim < 2:
        raise ShapeError(
            f"per_sample=True needs a state of shape (B, ...), got {tuple(y0.shape)}: y0[:, None] adds an axis"
        )
    method = _solve.as_method(options["method"])
    if not isinstance(method, ExplicitRungeKutta) or len(method.e) != 1 or not method.dense:
        raise InvalidValueError(
            f"method {method.name!r} does not go with per_sample=True: use bosh3, dopri5 or tsit5"
        )
    controller = as_controller(options["controller"], method, options["step_size"])
    if isinstance(controller, ConstantStepSize):
        raise InvalidValueError(
            "per_sample=True chooses each sample's steps by its error: leave step_size out"
        )
    for name in ("rtol", "atol"):
        if not isinstance(options[name], (int, float)) or not 0 < options[name] < math.inf:
            raise InvalidValueError(
                f"{name} must be a number above 0 with per_sample=True, got {options[name]!r}"
            )
    if options["norm"] not in ("rms", "max"):
        raise InvalidValueError(
            f"norm {options['norm']!r} does not go with per_sample=True: use 'rms' or 'max'"
        )
    flat = y0.reshape(len(y0), -1)
    field = _RowField(_flattened(f, y0.shape), StateSpace(flat))
    rows = _Rows(
        field, method, controller, float(options["rtol"]), float(options["atol"]), options["norm"],
        _columns(t, y0), options["max_steps"], options["first_step"],
    )  # fmt: skip
    return _Problem(rows, options["gradient"])


def _flattened(
    f: Callable[[Tensor, Tensor], Tensor], shape: torch.Size
) -> Callable[[Tensor, Tensor], Tensor]:
    def flat(t: Tensor, y: Tensor) -> Tensor:
        out = f(t, y.view(shape))
        if not isinstance(out, Tensor):
            raise InvalidTypeError(
                f"f returned {type(out).__name__}, expected a tensor of shape {tuple(shape)}"
            )
        if out.shape != shape:
            raise ShapeError(
                f"what f returned has shape {tuple(out.shape)}, expected the state's, {tuple(shape)}"
            )
        return out.reshape(len(out), -1)

    return flat


def _columns(t: Any, y0: Tensor) -> Tensor:
    """The times as (T, B) in float64."""
    times = torch.as_tensor(t, dtype=torch.float64, device=y0.device)
    if times.requires_grad:
        raise InvalidValueError("times get no gradients with per_sample=True: pass t.detach()")
    if times.ndim == 1:
        times = times[:, None].expand(-1, len(y0))
    if times.ndim != 2 or len(times) < 2 or times.shape[1] != len(y0):
        raise ShapeError(
            f"t has shape {tuple(times.shape)}; expected (T,) or (T, B) with T ≥ 2 and B = {len(y0)}"
        )
    if not bool(times.isfinite().all()):
        raise InvalidValueError("t must be finite")
    steps = times.diff(dim=0) * torch.sign(times[-1] - times[0])
    if not bool((steps > 0).all()):
        m, b = (int(i) for i in (steps <= 0).nonzero()[0])
        raise InvalidValueError(
            f"t must be strictly increasing or strictly decreasing for each sample, but for sample {b} "
            f"t[{m}] = {float(times[m, b])} and t[{m + 1}] = {float(times[m + 1, b])}"
        )
    return times.contiguous()
