"""TD(λ) and Widrow–Hoff: the change of a linear predictor's weights from each observation."""

from __future__ import annotations

from typing import Any, overload

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td._checks import check_choice, check_number, check_unit, checked
from fingerpost.td._errors import accumulated, returns, td_errors
from fingerpost.td.gradients import Parameters, module_updates

TRACES = ("accumulating", "replacing", "dutch")


@overload
def td_updates(
    observations: Any, outcome: Any, weights: Tensor, lam: float, *,
    alpha: float = ..., gamma: float = ..., rewards: Any = ..., traces: str = ..., online: bool = ...,
) -> Tensor: ...  # fmt: skip
@overload
def td_updates(
    observations: Any, outcome: Any, weights: nn.Module, lam: float, *,
    alpha: float = ..., gamma: float = ..., rewards: Any = ..., traces: str = ..., online: bool = ...,
) -> Parameters: ...  # fmt: skip
def td_updates(
    observations: Any,
    outcome: Any,
    weights: Tensor | nn.Module,
    lam: float,
    *,
    alpha: float = 1.0,
    gamma: float = 1.0,
    rewards: Any = None,
    traces: str = "accumulating",
    online: bool = False,
) -> Tensor | Parameters:
    r"""What TD(λ) changes in the weights of P_t = w·x_t at each step of a sequence.

    Δw_t = α (c_{t+1} + γP_{t+1} − P_t) e_t with P_{m+1} = z and e_t = γλ e_{t−1} + x_t. With γ = 1 and c = 0 it is Sutton
    (1988), eq. 4, https://doi.org/10.1007/BF00115009. At λ = 1 and with w kept during the sequence the sum of the changes is
    Widrow–Hoff's. The last change needs z: no TD rule is independent of the outcome.

    Args:
      observations: x_1 … x_m, shape (m, d).
      outcome: z, a number.
      weights: w, shape (d,), before the sequence; or an nn.Module that maps observations (m, ...) to predictions (m,) or
        (m, 1), with ∇P_t in the place of x_t. Neither is changed.
      lam: λ in [0, 1].
      alpha: α, the step size.
      gamma: γ in [0, 1]; z counts as a prediction and is discounted, so that w·x_t learns γ^(m+1−t) z.
      rewards: c_2 … c_{m+1}, shape (m,), or None.
      traces: ``"accumulating"``; ``"replacing"`` (Singh & Sutton 1996, for features: where x_t is not 0 it replaces the
        trace); or ``"dutch"``, true online TD(λ) (van Seijen & Sutton 2014; van Seijen et al. 2016,
        https://jmlr.org/papers/v17/15-599.html), which needs online=True.
      online: Whether w changes within the sequence: both P_{t+1} and P_t are then those of the weights before step t.

    Returns:
      Δw_1 … Δw_m, shape (m, d); their sum is the change of the whole sequence. For a module a dictionary of them by the
      parameters' names, each (m, *shape).

    Raises:
      InvalidValueError: If λ or γ is outside [0, 1], or a value is NaN or infinite.
      ShapeError: If the sequence is empty or ragged, or shapes do not fit.

    >>> x, w = torch.eye(3, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    >>> td_updates(x, 1.0, w, lam=0.5, alpha=0.2)[-1].tolist()
    [0.025, 0.05, 0.1]
    """
    decay = check_unit(gamma, "gamma") * check_unit(lam, "lam")
    check_number(alpha, "alpha")
    _check_traces(traces, online, weights)
    if isinstance(weights, nn.Module):
        return module_updates(weights, observations, outcome, decay, alpha, gamma, rewards, online)
    x, z, c = checked(observations, outcome, rewards)
    w = check_weights(weights, x)
    if traces == "dutch":
        return _true_online(x, z, c, w, alpha, gamma, decay)
    if online:
        return _online(x, z, c, w, alpha, gamma, decay, traces)
    trace = eligibility(x, decay, traces)
    return alpha * td_errors(x @ w, z, c, gamma)[:, None] * trace


@overload
def widrow_hoff_updates(
    observations: Any, outcome: Any, weights: Tensor, *,
    alpha: float = ..., gamma: float = ..., rewards: Any = ..., online: bool = ...,
) -> Tensor: ...  # fmt: skip
@overload
def widrow_hoff_updates(
    observations: Any, outcome: Any, weights: nn.Module, *,
    alpha: float = ..., gamma: float = ..., rewards: Any = ..., online: bool = ...,
) -> Parameters: ...  # fmt: skip
def widrow_hoff_updates(
    observations: Any,
    outcome: Any,
    weights: Tensor | nn.Module,
    *,
    alpha: float = 1.0,
    gamma: float = 1.0,
    rewards: Any = None,
    online: bool = False,
) -> Tensor | Parameters:
    r"""What the supervised rule changes in the weights of P_t = w·x_t at each step of a sequence.

    Δw_t = α (z − P_t) x_t (Widrow & Hoff 1960; Sutton 1988, eq. 2). With γ or rewards, z is replaced by what is still to come,
    G_t = c_{t+1} + γ G_{t+1} with G_{m+1} = z.

    Args:
      observations: x_1 … x_m, shape (m, d).
      outcome: z, a number.
      weights: w, shape (d,), before the sequence; or an nn.Module that maps observations (m, ...) to predictions (m,) or
        (m, 1), with ∇P_t in the place of x_t. Neither is changed.
      alpha: α, the step size.
      gamma: γ in [0, 1].
      rewards: c_2 … c_{m+1}, shape (m,), or None.
      online: Whether w changes within the sequence.

    Returns:
      Δw_1 … Δw_m, shape (m, d); for a module a dictionary of them by name, each (m, *shape).

    Raises:
      InvalidValueError: If γ is outside [0, 1], or a value is NaN or infinite.
      ShapeError: If the sequence is empty or ragged, or shapes do not fit.

    >>> x, w = torch.eye(3, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    >>> bool(torch.equal(widrow_hoff_updates(x, 1.0, w).sum(0), td_updates(x, 1.0, w, lam=1.0).sum(0)))
    True
    """
    check_unit(gamma, "gamma")
    check_number(alpha, "alpha")
    if isinstance(weights, nn.Module):
        return module_updates(weights, observations, outcome, None, alpha, gamma, rewards, online)
    x, z, c = checked(observations, outcome, rewards)
    w = check_weights(weights, x)
    targets = returns(z, c, gamma, len(x))
    if not online:
        return alpha * (targets - x @ w)[:, None] * x
    changes = []
    for row, target in zip(x, targets):
        changes.append(alpha * (target - row @ w) * row)
        w = w + changes[-1]
    return torch.stack(changes)


def _check_traces(traces: str, online: bool, weights: Any) -> None:
    check_choice(traces, "traces", TRACES)
    if traces != "accumulating" and isinstance(weights, nn.Module):
        raise InvalidValueError(f"traces={traces!r} is defined for linear predictors alone; leave it out")
    if traces == "dutch" and not online:
        raise InvalidValueError("traces='dutch' is true online TD(λ), which needs online=True")


def check_weights(weights: Any, x: Tensor) -> Tensor:
    """Raises unless weights are a floating-point tensor (d,)."""
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        raise InvalidTypeError(f"weights is {type(weights).__name__}; expected a floating-point tensor (d,)")
    if weights.shape != x.shape[1:]:
        raise ShapeError(
            f"weights have shape {tuple(weights.shape)}; expected ({x.shape[1]},), one a feature"
        )
    return weights.to(x)


def eligibility(x: Tensor, decay: float, traces: str) -> Tensor:
    """e_1 … e_m, shape (m, d)."""
    if traces == "accumulating":
        return accumulated(x, decay)
    trace, rows = torch.zeros_like(x[0]), []
    for row in x:
        trace = _next_trace(trace, row, decay, traces)
        rows.append(trace)
    return torch.stack(rows)


def _next_trace(trace: Tensor, row: Tensor, decay: float, traces: str) -> Tensor:
    if traces == "replacing":
        return torch.where(row != 0, row, decay * trace)
    return decay * trace + row


def _online(
    x: Tensor, z: Tensor, c: Tensor | None, w: Tensor, alpha: float, gamma: float, decay: float, traces: str
) -> Tensor:
    trace, changes = torch.zeros_like(w), []
    for t, row in enumerate(x):
        trace = _next_trace(trace, row, decay, traces)
        following = x[t + 1] @ w if t + 1 < len(x) else z
        error = gamma * following - row @ w + (0.0 if c is None else c[t])
        changes.append(alpha * error * trace)
        w = w + changes[-1]
    return torch.stack(changes)


def _true_online(
    x: Tensor, z: Tensor, c: Tensor | None, w: Tensor, alpha: float, gamma: float, decay: float
) -> Tensor:
    """True online TD(λ): what the online λ-return algorithm gives, at the cost of one trace."""
    trace, changes, before = torch.zeros_like(w), [], w @ x[0]
    for t, row in enumerate(x):
        value = row @ w
        following = x[t + 1] @ w if t + 1 < len(x) else z
        trace = decay * trace + (1 - alpha * decay * (trace @ row)) * row
        error = gamma * following - value + (0.0 if c is None else c[t])
        changes.append(alpha * ((error + value - before) * trace - (value - before) * row))
        w, before = w + changes[-1], following
    return torch.stack(changes)
