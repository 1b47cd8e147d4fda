"""torchdiffeq's three functions on this room's solvers: change the import, and a script runs.

``from torchdiffeq import odeint_adjoint as odeint`` becomes
``from fingerpost.ode.compat import odeint_adjoint as odeint``. Arguments, return shapes and tuples are theirs
(torchdiffeq 0.2.5); what cannot be honoured is refused or warned of, never dropped in silence. Differences:

- ``dopri8`` runs ``dop853``, of the same order 8; all our own method names work too.
- Fixed-step methods read times inside a step from their own dense output, not along a straight line.
- `odeint_adjoint` controls the error of (y, a) alone, as ``adjoint_options={"norm": "seminorm"}`` does there,
  with the tolerances of the forward solve.
- Event times and states get their gradients from `odeint` itself, without `odeint_event`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, did_you_mean
from fingerpost.ode._solve import as_method, solve
from fingerpost.ode._space import Tree, leaves_of, tree_map
from fingerpost.ode.controllers import PIDController
from fingerpost.ode.events import Event
from fingerpost.ode.methods import METHODS, AbstractMethod
from fingerpost.ode.methods.explicit import ExplicitRungeKutta, Row

Func = Callable[[Tensor, Tree], Tree]


class ThreeEighths(ExplicitRungeKutta):
    """Kutta's 3/8 rule, order 4: what torchdiffeq calls rk4. Dense output of order 3, the only one of its stages."""

    name: ClassVar[str] = "rk4_3_8"
    order: ClassVar[int] = 4
    dense_order: ClassVar[int] = 3
    c: ClassVar[Row] = (0.0, 1 / 3, 2 / 3, 1.0)
    a: ClassVar[tuple[Row, ...]] = ((1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0))
    b: ClassVar[Row] = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
    dense: ClassVar[tuple[Row, ...]] = (
        (1.0, -15 / 8, 1.0),
        (0.0, 15 / 8, -3 / 2),
        (0.0, 3 / 8, 0.0),
        (0.0, -3 / 8, 1 / 2),
    )


class Heun3(ExplicitRungeKutta):
    """Heun's method of order 3, with dense output of order 2."""

    name: ClassVar[str] = "heun3"
    order: ClassVar[int] = 3
    dense_order: ClassVar[int] = 2
    c: ClassVar[Row] = (0.0, 1 / 3, 2 / 3)
    a: ClassVar[tuple[Row, ...]] = ((1 / 3,), (0.0, 2 / 3))
    b: ClassVar[Row] = (1 / 4, 0.0, 3 / 4)
    dense: ClassVar[tuple[Row, ...]] = ((1.0, -3 / 4), (0.0, 0.0), (0.0, 3 / 4))


_NAMES: dict[str, Any] = {
    "dopri8": "dop853",
    "heun2": "heun",
    "adaptive_heun": "heun",
    "heun3": Heun3,
    "rk4": ThreeEighths,
}
_NEAREST = {
    "fehlberg2": "adaptive_heun",
    "explicit_adams": "dopri5",
    "implicit_adams": "dopri5, or kvaerno5 for stiff problems",
    "fixed_adams": "dopri5, or kvaerno5 for stiff problems",
    "scipy_solver": "dopri5, dopri8, or kvaerno5 for stiff problems",
}
_ADAPTIVE = {"first_step", "max_num_steps", "safety", "ifactor", "dfactor", "norm", "dtype"}
_FIXED = {"step_size", "grid_constructor", "interp", "perturb"}
_BOTH = {"max_num_steps", "norm", "dtype"}
_TIMES = {"step_t", "jump_t"}
_NEUTRAL: dict[str, Any] = {"min_step": 0.0, "max_step": float("inf"), "perturb": False}


def odeint(
    func: Func,
    y0: Tree,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | AbstractMethod | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[[Tensor, Tree], Tensor] | None = None,
) -> Any:
    """Solves dy/dt = func(t, y), y(t[0]) = y0; backpropagates through the steps.

    Args:
      func: The field, of a scalar time and the state.
      y0: A tensor or a tuple of tensors.
      t: Times, shape (T,), monotonic. With `event_fn` two times, of which the second gives the direction alone.
      rtol: Relative tolerance: a number, a tensor, or a tuple of them for a tuple state.
      atol: Absolute tolerance likewise.
      method: Name of a method of torchdiffeq's or of ours; ``"dopri5"`` when None.
      options: torchdiffeq's: step_size, grid_constructor, first_step, max_num_steps, safety, ifactor, dfactor,
        norm, step_t, jump_t, dtype.
      event_fn: The solve ends where one of its elements crosses zero.

    Returns:
      States, (T, …) or a tuple of such; with `event_fn` the event's time and the states at both ends, (2, …).

    Raises:
      InvalidValueError: If a method or an option cannot be honoured.
      NumericalError: If the solver fails, or no event is found.

    >>> odeint(lambda t, y: -y, torch.ones(1), torch.tensor([0.0, 1.0]))[-1]
    tensor([0.3679])
    """
    return _solved(func, y0, t, rtol, atol, method, options, event_fn, gradient="tape", params=None)


def odeint_adjoint(
    func: Func,
    y0: Tree,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | AbstractMethod | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[[Tensor, Tree], Tensor] | None = None,
    adjoint_rtol: Any = None,
    adjoint_atol: Any = None,
    adjoint_method: str | AbstractMethod | None = None,
    adjoint_options: dict[str, Any] | None = None,
    adjoint_params: Sequence[Tensor] | None = None,
) -> Any:
    """As `odeint`, with gradients by the adjoint equations, in memory that does not grow with the steps.

    Implicit methods take ``gradient="checkpoint"`` instead, exact for the steps taken.

    Args:
      func: As for `odeint`; an nn.Module unless `adjoint_params` is given.
      y0, t, rtol, atol, method, options, event_fn: As for `odeint`.
      adjoint_rtol: The backward solve takes the forward's; another value is warned of.
      adjoint_atol: Likewise.
      adjoint_method: Likewise.
      adjoint_options: Likewise; ``{"norm": "seminorm"}`` is what is done in any case.
      adjoint_params: Tensors that get gradients besides y0 and t.

    Returns:
      As `odeint`.

    Raises:
      InvalidTypeError: If func is no nn.Module and `adjoint_params` is None.
    """
    if adjoint_params is None and not isinstance(func, nn.Module):
        raise InvalidTypeError(
            f"func is {type(func).__name__}; expected an nn.Module, whose parameters get gradients: "
            "or name them in adjoint_params, () if there are none"
        )
    for name, value, forward in (
        ("adjoint_rtol", adjoint_rtol, rtol),
        ("adjoint_atol", adjoint_atol, atol),
        ("adjoint_method", adjoint_method, method),
    ):
        if value is not None and not _same(value, forward):
            _warn(f"{name} is not used: the backward solve takes the forward solve's")
    for name, value in (adjoint_options or {}).items():
        if (name, value) != ("norm", "seminorm") and (options or {}).get(name) is not value:
            _warn(f"adjoint_options[{name!r}] is not used: the backward solve steps like the forward one")
    chosen, _ = _method(method)
    gradient = "backsolve" if isinstance(chosen, ExplicitRungeKutta) else "checkpoint"
    params = None if adjoint_params is None else list(adjoint_params)
    return _solved(func, y0, t, rtol, atol, method, options, event_fn, gradient=gradient, params=params)


def odeint_event(
    func: Func,
    y0: Tree,
    t0: Tensor,
    *,
    event_fn: Callable[[Tensor, Tree], Tensor],
    reverse_time: bool = False,
    odeint_interface: Callable[..., Any] = odeint,
    **kwargs: Any,
) -> Any:
    """Solves from t0 until an event, with the gradients of its time and state.

    Args:
      func: As for `odeint`.
      y0: As for `odeint`.
      t0: Start, one number.
      event_fn: The solve ends where one of its elements crosses zero.
      reverse_time: Whether to solve towards smaller times.
      odeint_interface: `odeint` or `odeint_adjoint`.
      kwargs: Passed on to it.

    Returns:
      The event's time, 0-dimensional, and the states at t0 and at the event, (2, …).

    >>> time, states = odeint_event(
    ...     lambda t, y: -torch.ones_like(y), torch.ones(1), torch.tensor(0.0), event_fn=lambda t, y: y
    ... )
    >>> print(f"{time:.4f}")
    1.0000
    """
    start = t0.reshape(())
    t = torch.stack([start, start.detach() + (-1.0 if reverse_time else 1.0)])
    return odeint_interface(func, y0, t, event_fn=event_fn, **kwargs)


def _solved(
    func: Func,
    y0: Tree,
    t: Tensor,
    rtol: Any,
    atol: Any,
    method: Any,
    options: Any,
    event_fn: Any,
    **gradients: Any,
) -> Any:
    if any(hasattr(func, f"callback_{name}") for name in ("step", "accept_step", "reject_step")):
        _warn("callbacks of func are not called")
    chosen, adaptive = _method(method)
    given = dict(options or {})
    cuts = _cuts(given)
    keywords = {"method": chosen, "rtol": _tolerance(rtol), "atol": _tolerance(atol), **gradients}
    keywords.update(_keywords(given, y0, adaptive))
    constructor = given.get("grid_constructor") if not adaptive else None
    times = torch.as_tensor(t)
    if event_fn is not None:
        if len(times) != 2:
            raise InvalidValueError(f"t holds {len(times)} times; with event_fn it must hold two")
        return _until_event(func, y0, times, event_fn, keywords)
    if constructor is not None:
        return _on_grid(func, y0, times, constructor, keywords)
    return _in_pieces(func, y0, times, cuts, keywords) if cuts else solve(func, y0, times, **keywords).ys


def _method(method: Any) -> tuple[AbstractMethod, bool]:
    """The method of a name of theirs or ours, and whether it chooses its steps."""
    name = "dopri5" if method is None else method
    if isinstance(name, str) and name in _NEAREST:
        raise InvalidValueError(f"method {name!r} is not offered; the nearest is {_NEAREST[name]}")
    if isinstance(name, str) and name not in METHODS and name not in _NAMES:
        known = sorted({*_NAMES, *METHODS})
        raise InvalidValueError(
            f"method {name!r} is unknown; expected one of {', '.join(known)}{did_you_mean(name, known)}"
        )
    chosen = as_method(_NAMES.get(name, name) if isinstance(name, str) else name)
    return chosen, chosen.adaptive and (name == "adaptive_heun" or not chosen.fixed_by_default)


def _keywords(given: dict[str, Any], y0: Tree, adaptive: bool) -> dict[str, Any]:
    """`solve`'s keywords for torchdiffeq's options; warns of those that mean nothing here, refuses what would."""
    known = _ADAPTIVE | _TIMES | _BOTH if adaptive else _FIXED | _BOTH
    for name, value in given.items():
        if name in _NEUTRAL and value != _NEUTRAL[name]:
            raise InvalidValueError(f"option {name}={value!r} is not offered: leave it out")
        if name not in known and name not in _NEUTRAL:
            _warn(
                f"option {name!r} is not known to {'adaptive' if adaptive else 'fixed-step'} methods and is not used"
            )
    if given.get("interp") is not None:
        _warn(
            f"option interp={given['interp']!r} is not used: times inside steps come from the method's own dense output"
        )
    if given.get("dtype") not in (None, torch.float64):
        _warn(f"option dtype={given['dtype']} is not used: times are kept in float64")
    norm = given.get("norm") or ("rms" if isinstance(y0, Tensor) else "per_leaf")
    out: dict[str, Any] = {"norm": norm, "max_steps": int(given.get("max_num_steps", 2**31 - 1))}
    if not adaptive:
        out["step_size"] = None if given.get("step_size") is None else float(given["step_size"])
        return out
    out["first_step"] = None if given.get("first_step") is None else float(given["first_step"])
    out["controller"] = "PI"
    if {"safety", "ifactor", "dfactor"} & set(given):
        safety, grow, shrink = (
            float(given.get(k, v)) for k, v in (("safety", 0.9), ("ifactor", 10.0), ("dfactor", 0.2))
        )
        out["controller"] = PIDController(1.0, 0.0, 0.0, safety=safety, max_factor=grow, min_factor=shrink)
    return out


def _tolerance(value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value)
    return tree_map(float, value) if isinstance(value, (tuple, list)) else value


def _cuts(given: dict[str, Any]) -> list[float]:
    """Times at which steps must end."""
    found = {float(x) for name in _TIMES for x in torch.as_tensor(given.get(name, [])).reshape(-1).tolist()}
    return sorted(found)


def _in_pieces(func: Func, y0: Tree, t: Tensor, cuts: list[float], keywords: dict[str, Any]) -> Tree:
    """Solves from cut to cut; f is asked for times strictly inside of each piece, on one side of every jump."""
    times = t.detach().to(torch.float64).tolist()
    sign = 1.0 if times[-1] > times[0] else -1.0
    inner = sorted(
        (cut for cut in cuts if 0 < (cut - times[0]) * sign < abs(times[-1] - times[0])),
        key=lambda x: x * sign,
    )
    exact = t.to(torch.float64)
    y, edge, m, rows = y0, exact[0], 1, [tree_map(lambda leaf: leaf[None], y0)]
    for cut in [*inner, times[-1]]:
        stop = m
        while stop < len(times) and (times[stop] - cut) * sign < 0:
            stop += 1
        asked = stop < len(times) and times[stop] == cut
        last = exact[stop] if asked else exact.new_tensor(cut)
        ys = solve(
            _between(func, float(edge.detach()), cut),
            y,
            torch.stack([edge, *exact[m:stop], last]),
            **keywords,
        ).ys
        count = stop - m + asked
        rows.append(tree_map(lambda leaf, count=count: leaf[1 : 1 + count], ys))
        y, edge, m = tree_map(lambda leaf: leaf[-1], ys), last.detach(), stop + asked
    parts = iter([torch.cat(leaves) for leaves in zip(*(leaves_of(row) for row in rows))])
    return tree_map(lambda _: next(parts), y0)


def _between(func: Func, a: float, b: float) -> Func:
    """The field, asked at times strictly between a and b."""

    def inside(t: Tensor, y: Tree) -> Tree:
        start, end = t.new_tensor(a), t.new_tensor(b)
        one, other = torch.nextafter(start, end), torch.nextafter(end, start)
        return func(t.clamp(torch.minimum(one, other), torch.maximum(one, other)), y)

    return inside


def _on_grid(func: Func, y0: Tree, t: Tensor, constructor: Any, keywords: dict[str, Any]) -> Tree:
    """Fixed steps on the grid of grid_constructor(func, y0, t)."""
    if keywords.get("step_size") is not None:
        raise InvalidValueError(
            "options step_size and grid_constructor were both given; expected one of them"
        )
    grid = torch.as_tensor(constructor(func, y0, t))
    if float(grid[0]) != float(t[0]) or float(grid[-1]) != float(t[-1]):
        raise InvalidValueError(
            f"grid_constructor returned a grid from {float(grid[0])} to {float(grid[-1])}; "
            f"expected one from {float(t[0])} to {float(t[-1])}, as t"
        )
    if keywords["gradient"] == "backsolve":  # which keeps no steps to read other times from
        keywords = {**keywords, "gradient": "checkpoint"}
    solution = solve(func, y0, grid, dense=True, **keywords)
    return solution.at(t.detach())


def _until_event(
    func: Func, y0: Tree, t: Tensor, event_fn: Any, keywords: dict[str, Any]
) -> tuple[Tensor, Tree]:
    """Solves over horizons ten times longer each, until an event is found or the steps are used up."""
    keywords = {**keywords, "max_steps": min(keywords["max_steps"], 100_000)}
    start = t[0].to(torch.float64)
    with torch.no_grad():
        now = torch.as_tensor(event_fn(t[0], y0))
        events = [Event(lambda t, y, i=i: event_fn(t, y).reshape(-1)[i]) for i in range(now.numel())]
        length, found = float(t[1] - t[0]), None
        for _ in range(9):
            span = torch.stack([start, start + length])
            found = solve(func, y0, span, events=events, **keywords).event.terminal
            if found is not None:
                break
            length *= 10
    if found is None:
        first = float(start.detach())
        raise NumericalError(f"no event between t = {first:.6g} and {first + length / 10:.6g}")
    if torch.is_grad_enabled():
        beyond = found.time + 0.1 * (found.time - start.detach())
        found = solve(func, y0, torch.stack([start, beyond]), events=events, **keywords).event
    pairs = zip(leaves_of(y0), leaves_of(found.state))
    parts = iter([torch.stack([first, last]) for first, last in pairs])
    return found.time.to(t.dtype), tree_map(lambda _: next(parts), y0)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and not isinstance(a, Tensor) and a == b)


def _warn(message: str) -> None:
    warnings.warn(f"fingerpost.ode.compat: {message}", stacklevel=4)
