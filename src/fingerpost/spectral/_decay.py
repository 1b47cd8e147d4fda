"""How errors decay: functions of an eigenvalue and of time, the loss's share of the learning rate, limits of steps."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, NumericalError
from fingerpost.spectral._kernel import known

LOSSES = ("half_sum", "half_mean", "mse")
TIMES = ("steps", "flow")


def finished(result: Tensor, times: Tensor, y: Tensor) -> Tensor:
    """The prediction in y's shape and dtype; NumericalError where it overflowed."""
    finite = torch.isfinite(result).flatten(times.ndim).all(-1)
    if not bool(finite.all()):
        raise NumericalError(
            f"the linear prediction overflowed at t = {float(times[~finite].min()):g}: the learning rate is above the "
            "stable limit (max_learning_rate); lower it, or ask for earlier times"
        )
    return (result[..., 0] if y.ndim == 1 else result).to(y.dtype)


def log_decay(values: Tensor, times: Tensor, step: float, time: str) -> tuple[Tensor, Tensor]:
    """Log |decay| at λ and t, shape (*times, k), and where the decay is negative; 0 for λ = 0 at any time."""
    x, t = step * values, times[..., None]
    moving = (x > 0) & (t > 0)  # else 0 · ∞
    if time == "flow":
        return torch.where(moving, -x * t, 0.0), torch.zeros_like(moving)
    whole = torch.where(torch.isfinite(t), t, 0.0)
    return torch.where(moving, t * log_factor(x), 0.0), (x > 1) & (whole % 2 == 1)


def learned(values: Tensor, times: Tensor, step: float, time: str) -> Tensor:
    """1 − (1 − ηλ)ᵗ, or 1 − exp(−ηλt), shape (*times, k)."""
    exponent, negative = log_decay(values, times, step, time)
    return torch.where(negative, 1 + torch.exp(exponent), -torch.expm1(exponent))


def log_factor(x: Tensor) -> Tensor:
    """Log |1 − x|, accurate near 0 and near 2, where x − 1 is exact."""
    return torch.where(x < 1, torch.log1p(-x.clamp(max=1.0)), torch.log((x - 1).clamp(min=0.0)))


def learned_over_value(values: Tensor, times: Tensor, step: float, time: str) -> Tensor:
    """φ(λ), shape (*times, k); at λ = 0 it is ηt, and 0 at infinity, as the pseudo-inverse has it."""
    smallest = torch.finfo(values.dtype).eps * len(values) * values[0]
    ratio = learned(values, times, step, time) / torch.where(values > 0, values, 1.0)
    t = times[..., None]
    endless = torch.isinf(t)
    start = torch.where(endless, 0.0, step * t.clamp(max=torch.finfo(t.dtype).max))
    flat = (values <= 0) | (endless & (values <= smallest))
    return torch.where(flat, start, ratio)


def step_size(learning_rate: float, loss: str, points: int, outputs: int) -> float:
    """The factor before K in df/dt = −η K (f − y)."""
    known(loss, "loss", LOSSES)
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise InvalidValueError(f"learning_rate is {learning_rate}; expected a number above 0")
    share = {"half_sum": 1.0, "half_mean": 1 / points, "mse": 2 / (points * outputs)}
    return float(learning_rate) * share[loss]


def warn_or_refuse(product: float, learning_rate: float, times: Tensor) -> None:
    """Above η λ_max = 2 steps explode: a warning, or an error where the limit of infinite time is asked for."""
    if product <= 2 * (1 + 1e-12):
        return
    limit = learning_rate * 2 / product
    if bool(torch.isinf(times).any()):
        raise InvalidValueError(
            f"t is infinite, and at learning rate {learning_rate:g} linearised gradient descent has no limit: "
            f"give at most {limit:g} (max_learning_rate), or time='flow'"
        )
    warnings.warn(
        f"learning rate {learning_rate:g} is above the stable limit {limit:g}: linearised gradient descent explodes "
        f"(η λ_max = {product:.3g} > 2), while a real network need not",
        UserWarning,
        stacklevel=3,
    )


def checked_times(t: float | Tensor, time: str) -> Tensor:
    """The times in float64: 0 or more, and whole for steps."""
    times = torch.as_tensor(t, dtype=torch.float64).detach()  # at once: a float must not pass through float32
    if bool(torch.isnan(times).any()) or bool((times < 0).any()):
        raise InvalidValueError(f"t holds {float(times.min()):g}; times are 0 or more")
    finite = times[torch.isfinite(times)]
    if time == "steps" and bool((finite != finite.round()).any()):
        raise InvalidValueError(
            "t is not whole; gradient descent makes whole steps: round it, or take time='flow'"
        )
    return times
