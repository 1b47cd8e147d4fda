"""λ-returns and generalized advantages, batched, with episode ends anywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td._checks import check_unit
from fingerpost.td._scan import recurrence


def lambda_return(
    rewards: Tensor,
    values: Tensor,
    dones: Tensor | None,
    gamma: float | Tensor,
    lam: float | Tensor,
    *,
    next_values: Tensor | None = None,
    truncated: Tensor | None = None,
) -> Tensor:
    r"""λ-returns: G_t = r_t + γ (1 − d_t) [(1 − λ) V_{t+1} + λ G_{t+1}].

    Sutton & Barto (2018), eq. 12.18 (http://incompleteideas.net/book/the-book-2nd.html), in its recursive form; after the last
    step G_T = V_T. Time is the last axis. Gradients flow to rewards, values, γ and λ, to any order. It takes about 3√T vector
    operations, whatever the episode ends, and no step divides by a power of γλ, so that long episodes lose no digits.

    Args:
      rewards: r_0 … r_{T−1}, shape (..., T).
      values: V_0 … V_T, shape (..., T + 1); or V_0 … V_{T−1}, (..., T), with `next_values`.
      dones: d_t, shape (..., T): whether the episode ended with step t for good, so that nothing follows; boolean, or
        numbers of which 0 is no end. None for no ends.
      gamma: γ in [0, 1], a number or a tensor that broadcasts to (..., T).
      lam: λ in [0, 1], alike.
      next_values: V of what followed step t, shape (..., T). Needed where V_{t+1} of `values` is that of a new episode.
      truncated: Whether an episode was cut off at step t, shape (..., T): the return there is r_t + γV_{t+1}, with V_{t+1}
        from `next_values`.

    Returns:
      G_0 … G_{T−1}, shape (..., T), in the dtype of the values.

    Raises:
      ShapeError: If shapes do not fit.
      InvalidValueError: If γ or λ is outside [0, 1], or truncated steps come without next values.

    >>> rewards, values = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.5, 0.5, 0.5, 0.0])
    >>> lambda_return(rewards, values, torch.tensor([False, False, True]), gamma=1.0, lam=0.5).tolist()
    [0.625, 0.75, 1.0]
    """
    r, _, following, done, cut = _checked(rewards, values, dones, next_values, truncated)
    discount, mix = _factor(gamma, "gamma", r), _factor(lam, "lam", r)
    goes_on = following if done is None else following.masked_fill(done, 0)
    if cut is None:
        a = _added(r, goes_on, discount * (1 - mix), done is not None)
    else:
        a = _added(r, torch.where(cut, goes_on, (1 - mix) * goes_on), discount, True)
    end = following[..., -1] if done is None else following[..., -1].masked_fill(done[..., -1], 0)
    return recurrence(a, _carried(discount * mix, r), end, _either(done, cut))


def generalized_advantage(
    rewards: Tensor,
    values: Tensor,
    dones: Tensor | None,
    gamma: float | Tensor,
    lam: float | Tensor,
    *,
    next_values: Tensor | None = None,
    truncated: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Generalized advantages A_t = δ_t + γλ (1 − d_t) A_{t+1} with δ_t = r_t + γ (1 − d_t) V_{t+1} − V_t, and A + V.

    Schulman et al. (2016), eq. 16, https://arxiv.org/abs/1506.02438. A + V is the λ-return, where
    `next_values` and `values` agree on steps that go on.

    Args:
      rewards: r_0 … r_{T−1}, shape (..., T).
      values: V_0 … V_T, shape (..., T + 1); or V_0 … V_{T−1}, (..., T), with `next_values`.
      dones: Whether the episode ended with step t for good, shape (..., T); None for no ends.
      gamma: γ in [0, 1], a number or a tensor that broadcasts to (..., T).
      lam: λ in [0, 1], alike.
      next_values: V of what followed step t, shape (..., T).
      truncated: Whether an episode was cut off at step t, shape (..., T): δ_t keeps its V_{t+1}, and A_{t+1} is left out.

    Returns:
      Advantages and returns, each (..., T).

    Raises:
      ShapeError: If shapes do not fit.
      InvalidValueError: If γ or λ is outside [0, 1], or truncated steps come without next values.

    >>> rewards, values = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.5, 0.5, 0.5, 0.0])
    >>> advantages, returns = generalized_advantage(rewards, values, torch.tensor([False, False, True]), 1.0, 0.5)
    >>> advantages.tolist(), returns.tolist()
    ([0.125, 0.25, 0.5], [0.625, 0.75, 1.0])
    """
    r, now, following, done, cut = _checked(rewards, values, dones, next_values, truncated)
    discount, mix = _factor(gamma, "gamma", r), _factor(lam, "lam", r)
    goes_on = following if done is None else following.masked_fill(done, 0)
    errors = _added(r - now, goes_on, discount, done is not None)
    advantages = recurrence(errors, _carried(discount * mix, r), r.new_zeros(()), _either(done, cut))
    return advantages, advantages + now


def _added(r: Tensor, x: Tensor, factor: float | Tensor, ours: bool) -> Tensor:
    """R + factor x; in the place of x if it is ours, because fresh memory costs as much as a pass."""
    if isinstance(factor, Tensor):
        return torch.addcmul(r, x, factor)
    return x.mul_(factor).add_(r) if ours else torch.add(r, x, alpha=factor)


def _carried(factor: float | Tensor, r: Tensor) -> Tensor:
    """γλ, 0-dimensional if it is one number."""
    c = factor if isinstance(factor, Tensor) else r.new_tensor(factor)
    return c if c.ndim == 0 else c.expand_as(r)


def _either(done: Tensor | None, cut: Tensor | None) -> Tensor | None:
    """Where the recursion does not go on."""
    return cut if done is None else done if cut is None else done | cut


def _factor(value: float | Tensor, name: str, r: Tensor) -> float | Tensor:
    """Γ or λ as a number, or as a tensor that broadcasts to the rewards."""
    if not isinstance(value, Tensor):
        return check_unit(value, name)
    if value.device.type == "cpu" and value.numel() and _seen(~((value >= 0) & (value <= 1)).all()):
        raise InvalidValueError(
            f"{name} reaches from {float(value.min()):g} to {float(value.max()):g}; expected [0, 1]"
        )
    try:
        value.expand_as(r)
    except RuntimeError:
        raise ShapeError(
            f"{name} has shape {tuple(value.shape)}; expected what broadcasts to {tuple(r.shape)}"
        ) from None
    return value.to(r)


def _checked(
    rewards: Tensor,
    values: Tensor,
    dones: Tensor | None,
    next_values: Tensor | None,
    truncated: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """Rewards, V_t, V_{t+1}, and where an episode ended or was cut off; None where none was."""
    if not isinstance(rewards, Tensor) or not isinstance(values, Tensor):
        raise InvalidTypeError(
            f"rewards and values are {type(rewards).__name__} and {type(values).__name__}; expected tensors"
        )
    if not values.is_floating_point():
        raise InvalidTypeError(f"values are {values.dtype}; expected a floating-point tensor")
    shape = rewards.shape
    if rewards.ndim == 0 or 0 in shape:
        raise ShapeError(f"rewards have shape {tuple(shape)}; expected (..., T), time last, with T ≥ 1")
    longer = (*shape[:-1], shape[-1] + 1)
    if values.shape != (longer if next_values is None else shape) and values.shape != longer:
        given = "(..., T + 1)" if next_values is None else "(..., T)"
        raise ShapeError(
            f"values have shape {tuple(values.shape)} and rewards {tuple(shape)}; expected values {given}, time last"
        )
    if truncated is not None and next_values is None:
        raise InvalidValueError(
            "truncated was given without next_values: after a cut, V_{t+1} of values is that of a new episode; give "
            "next_values, the values of the last observations of what was cut off"
        )
    following = values[..., 1:] if next_values is None else next_values
    for name, x in (("next_values", following), ("dones", dones), ("truncated", truncated)):
        if x is not None and (not isinstance(x, Tensor) or x.shape != shape):
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ShapeError(f"{name} is {found}; expected a tensor of the rewards' shape {tuple(shape)}")
    return rewards.to(values.dtype), values[..., : shape[-1]], following, _ends(dones), _ends(truncated)


def _ends(x: Tensor | None) -> Tensor | None:
    """As booleans; None where a look shows that there are none, which on another device would cost a wait."""
    if x is None:
        return None
    x = x if x.dtype == torch.bool else x != 0
    return None if x.device.type == "cpu" and _seen(x.view(torch.uint8).amax() == 0) else x  # any() is slow


def _seen(test: Tensor) -> bool:
    """Whether a test holds for sure; transforms such as vmap have no value to look at."""
    try:
        return bool(test)
    except RuntimeError:
        return False
