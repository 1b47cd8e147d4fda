"""TD(λ) and Widrow–Hoff for any nn.Module: changes of its parameters step by step, or summed by one backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vmap

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td._checks import check_unit, checked
from fingerpost.td._errors import accumulated, later_errors, returns, td_errors

Parameters = dict[str, Tensor]


def td_gradients(
    model: nn.Module, observations: Any, outcome: Any, lam: float, *, gamma: float = 1.0, rewards: Any = None
) -> Parameters:
    r"""TD(λ) of a whole sequence as a gradient: what an optimizer's `p.grad` takes the place of.

    g = −Σ_t (c_{t+1} + γP_{t+1} − P_t) e_t with e_t = γλ e_{t−1} + ∇P_t (Sutton 1988, eq. 4,
    https://doi.org/10.1007/BF00115009), with parameters kept during the sequence. Its terms are grouped by ∇P_k, which costs
    one forward and one backward pass, whatever the length. At λ = 1 it is the gradient of ½ Σ_t (z − P_t)²; for λ < 1 it is
    the gradient of no function in general.

    Args:
      model: Maps observations (m, ...) to predictions (m,) or (m, 1).
      observations: x_1 … x_m, shape (m, ...).
      outcome: z, a number.
      lam: λ in [0, 1].
      gamma: γ in [0, 1].
      rewards: c_2 … c_{m+1}, shape (m,), or None.

    Returns:
      By name, for each parameter that requires a gradient, a tensor of its shape: w ← w − α g is one step.

    Raises:
      InvalidValueError: If λ or γ is outside [0, 1], or a value is NaN or infinite.
      ShapeError: If the sequence is empty or ragged, or the model gives another shape than (m,).

    >>> model = torch.nn.Linear(3, 1, bias=False)
    >>> g = td_gradients(model, torch.eye(3), 1.0, lam=0.9)
    >>> {name: tuple(value.shape) for name, value in g.items()}
    {'weight': (1, 3)}
    """
    decay = check_unit(gamma, "gamma") * check_unit(lam, "lam")
    x, z, c = _checked(model, observations, outcome, rewards)
    predictions = _predictions(model(x), len(x))
    errors = later_errors(td_errors(predictions.detach(), z, c, gamma), decay)
    return _backward(model, predictions, -errors)


def widrow_hoff_gradients(
    model: nn.Module, observations: Any, outcome: Any, *, gamma: float = 1.0, rewards: Any = None
) -> Parameters:
    r"""The gradient of ½ Σ_t (G_t − P_t)², where G_t is what is still to come: z, with γ = 1 and no rewards.

    Args:
      model: Maps observations (m, ...) to predictions (m,) or (m, 1).
      observations: x_1 … x_m, shape (m, ...).
      outcome: z, a number.
      gamma: γ in [0, 1].
      rewards: c_2 … c_{m+1}, shape (m,), or None.

    Returns:
      By name, for each parameter that requires a gradient, a tensor of its shape.

    Raises:
      InvalidValueError: If γ is outside [0, 1], or a value is NaN or infinite.
      ShapeError: If the sequence is empty or ragged, or the model gives another shape than (m,).

    >>> model = torch.nn.Linear(3, 1)
    >>> g, h = widrow_hoff_gradients(model, torch.eye(3), 1.0), td_gradients(model, torch.eye(3), 1.0, lam=1.0)
    >>> all(torch.allclose(g[name], h[name]) for name in g)
    True
    """
    check_unit(gamma, "gamma")
    x, z, c = _checked(model, observations, outcome, rewards)
    predictions = _predictions(model(x), len(x))
    return _backward(model, predictions, predictions.detach() - returns(z, c, gamma, len(x)))


def module_updates(
    model: nn.Module, observations: Any, outcome: Any, decay: float | None, alpha: float, gamma: float,
    rewards: Any, online: bool,
) -> Parameters:  # fmt: skip
    """The change of each parameter at each step, (m, *shape); `decay` is γλ, or None for Widrow–Hoff."""
    x, z, c = _checked(model, observations, outcome, rewards)
    values = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    targets = returns(z, c, gamma, len(x)) if decay is None else None

    def predict(values: Parameters, row: Tensor) -> Tensor:
        return _predictions(functional_call(model, values, (row[None],)), 1)[0]

    if online:
        return _online(predict, values, x, z, c, targets, decay, alpha, gamma)
    slopes = vmap(grad(predict), (None, 0))(values, x)
    with torch.no_grad():
        predictions = vmap(predict, (None, 0))(values, x)
    if targets is not None:
        return {name: alpha * _rows(targets - predictions, slope) * slope for name, slope in slopes.items()}
    errors = td_errors(predictions, z, c, gamma)
    return {
        name: alpha * _rows(errors, slope) * accumulated(slope, decay or 0.0)
        for name, slope in slopes.items()
    }


def _online(
    predict: Any, values: Parameters, x: Tensor, z: Tensor, c: Tensor | None, targets: Tensor | None,
    decay: float | None, alpha: float, gamma: float,
) -> Parameters:  # fmt: skip
    traces = {name: torch.zeros_like(p) for name, p in values.items()}
    changes: dict[str, list[Tensor]] = {name: [] for name in values}
    for t, row in enumerate(x):
        slopes, value = grad_and_value(predict)(values, row)
        traces = {name: slope + (decay or 0.0) * traces[name] for name, slope in slopes.items()}
        if targets is not None:
            error = targets[t] - value
        else:
            following = predict(values, x[t + 1]).detach() if t + 1 < len(x) else z
            error = gamma * following - value + (0.0 if c is None else c[t])
        for name, trace in traces.items():
            changes[name].append(alpha * error * trace)
        values = {name: p + changes[name][-1] for name, p in values.items()}
    return {name: torch.stack(rows) for name, rows in changes.items()}


def _rows(factors: Tensor, like: Tensor) -> Tensor:
    return factors.reshape(-1, *(1 for _ in like.shape[1:]))


def _checked(
    model: nn.Module, observations: Any, outcome: Any, rewards: Any
) -> tuple[Tensor, Tensor, Tensor | None]:
    if not isinstance(model, nn.Module):
        raise InvalidTypeError(f"model is {type(model).__name__}; expected an nn.Module")
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise InvalidValueError(
            "the model has no parameter that requires a gradient: there is nothing to learn"
        )
    x, z, c = checked(observations, outcome, rewards, features=None)
    return x.to(trained[0]), z.to(trained[0]), None if c is None else c.to(trained[0])


def _predictions(found: Tensor, m: int) -> Tensor:
    if found.shape not in ((m,), (m, 1)):
        raise ShapeError(
            f"the model gave {tuple(found.shape)} for {m} observations; expected ({m},) or ({m}, 1): one prediction each"
        )
    return found.reshape(m)


def _backward(model: nn.Module, predictions: Tensor, cotangent: Tensor) -> Parameters:
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(predictions, list(named.values()), cotangent, allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found)}
