"""The divergence of a vector field, exact or estimated, beside the field's value."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, did_you_mean

Field = Callable[[Tensor, Tensor], Tensor]

DIVERGENCES = ("exact", "exact-jvp", "exact-vjp", "hutchinson")

# Above this many rows a batched backward pass is slower than a loop when its graph is kept: its matrix
# products become batched ones (measured on one CPU thread, a 64-64 tanh field: 8 × 256 rows the same,
# 32 × 256 rows 1.5 times slower, 32 × 32 rows 1.9 times faster).
_BATCHED_ROWS = 2048


def divergence(
    f: Field,
    t: Tensor | float,
    y: Tensor,
    *,
    method: str = "exact",
    probes: Tensor | int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""f(t, y) and its divergence tr(∂f/∂y), one number per sample.

    The exact trace costs one call of f and d products eᵢᵀ(∂f/∂y), d the number of components of a sample:
    tr = Σᵢ eᵢᵀ (∂f/∂y) eᵢ. Hutchinson's estimate (Hutchinson 1989; FFJORD, https://arxiv.org/abs/1810.01367,
    eq. 8) costs one product per probe: tr ≈ mean over probes of εᵀ (∂f/∂y) ε, unbiased for E[ε εᵀ] = 1.

    f must act on each sample alone: where it couples samples (batch normalisation in training, attention
    over the batch) the result is Σ_b' ∂f_b'/∂y_b, which is no divergence. Both results can be differentiated
    with respect to y, t and whatever f holds, as many times as f can.

    Args:
      f: The field, called as f(t, y); returns a tensor of y's shape.
      t: Time, 0-dimensional or of shape (B,).
      y: State, shape (B, ...), real floating point.
      method: ``"exact"`` chooses between a loop over backward products and a batch of them by size;
        ``"exact-vjp"`` always loops; ``"exact-jvp"`` pushes the d tangents forward through one call of f
        with d·B rows, which keeps no graph but costs about twice the time, and needs forward-mode
        derivatives and an f that takes any number of rows; ``"hutchinson"`` estimates.
      probes: For ``"hutchinson"``: how many to draw (1 when None), or the probes themselves, shape
        (B, ...) like y or (K, B, ...). Within one ODE solve they must stay fixed: pass the tensor.
      generator: Source of the probes' randomness.

    Returns:
      f(t, y), shape (B, ...), and the divergence, shape (B,), of y's dtype.

    Raises:
      InvalidValueError: If the method is unknown, or probes are given to an exact method or are too few.
      InvalidTypeError: If y is not real floating point.
      ShapeError: If y has no batch axis, f changes the shape, or the probes do not fit.

    >>> y = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> divergence(lambda t, y: y**2, 0.0, y)[1]
    tensor([ 6., 14.])
    >>> probes = draw_probes(y, 1, generator=torch.Generator().manual_seed(0))
    >>> divergence(lambda t, y: y**2, 0.0, y, method="hutchinson", probes=probes)[1]
    tensor([ 6., 14.])
    """
    _check(y, method, probes)
    if method == "hutchinson":
        chosen = _chosen_probes(y, probes, generator)
        value, total = _by_backward(f, t, y, chosen, batched=None)
        return value, total / chosen.shape[0]
    if method == "exact-jvp":
        return _by_tangents(f, t, y)
    return _by_backward(f, t, y, None, batched=False if method == "exact-vjp" else None)


def draw_probes(
    y: Tensor,
    count: int = 1,
    *,
    distribution: str = "rademacher",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random probes for Hutchinson's estimate, to be held fixed during one solve.

    Rademacher probes (±1) have the least variance of all with E[ε εᵀ] = 1 and independent entries
    (Hutchinson 1989): 2 Σ_{i≠j} S_ij², S the symmetric part of ∂f/∂y; Gaussian ones add 2 Σ_i S_ii².

    Args:
      y: The state whose shape, dtype and device the probes take, shape (B, ...).
      count: How many per sample, K ≥ 1.
      distribution: ``"rademacher"`` or ``"gaussian"``.
      generator: Source of randomness; torch's own when None.

    Returns:
      Probes, shape (K, B, ...).

    Raises:
      InvalidValueError: If the count is below 1 or the distribution unknown.

    >>> draw_probes(torch.zeros(1, 3), generator=torch.Generator().manual_seed(0)).abs()
    tensor([[[1., 1., 1.]]])
    """
    if count < 1:
        raise InvalidValueError(f"{count} probes; expected at least 1")
    shape, like = (count, *y.shape), {"dtype": y.dtype, "device": y.device}
    if distribution == "rademacher":
        signs = torch.randint(0, 2, shape, generator=generator, device=y.device)
        return signs.to(y.dtype).mul_(2).sub_(1)
    if distribution == "gaussian":
        return torch.randn(shape, generator=generator, **like)
    known = ("rademacher", "gaussian")
    raise InvalidValueError(
        f"distribution {distribution!r} of probes; expected one of {known}{did_you_mean(distribution, known)}"
    )


def _check(y: Tensor, method: str, probes: Tensor | int | None) -> None:
    if method not in DIVERGENCES:
        raise InvalidValueError(
            f"method {method!r}; expected one of {DIVERGENCES}{did_you_mean(str(method), DIVERGENCES)}"
        )
    if probes is not None and method != "hutchinson":
        raise InvalidValueError(f"probes are given and method={method!r} is exact; use method='hutchinson'")
    if not y.dtype.is_floating_point:
        raise InvalidTypeError(f"y has dtype {y.dtype}; a divergence needs a real floating-point state")
    if y.ndim < 2:
        raise ShapeError(f"y has shape {tuple(y.shape)}; expected (B, ...): add a batch axis with y[None]")


def _chosen_probes(y: Tensor, probes: Tensor | int | None, generator: torch.Generator | None) -> Tensor:
    if not isinstance(probes, Tensor):
        return draw_probes(y, 1 if probes is None else probes, generator=generator)
    if probes.shape == y.shape:
        return probes[None]
    if probes.ndim == y.ndim + 1 and probes.shape[1:] == y.shape and len(probes):
        return probes
    raise ShapeError(
        f"probes have shape {tuple(probes.shape)} and y has {tuple(y.shape)}; expected y's shape, or (K, *y.shape)"
    )


def _by_backward(
    f: Field, t: Tensor | float, y: Tensor, probes: Tensor | None, batched: bool | None
) -> tuple[Tensor, Tensor]:
    """Σ_k ε_kᵀ (∂f/∂y) ε_k by backward products; the ε_k are the unit vectors when probes is None."""
    keep = torch.is_grad_enabled()
    if keep and not (y.requires_grad or (isinstance(t, Tensor) and t.requires_grad)):
        keep = _called(f, t, y).requires_grad  # does f hold anything that needs a graph?
    with torch.inference_mode(False), torch.enable_grad():
        y = y.clone() if y.is_inference() else y
        if not (keep and y.requires_grad):
            y = y.detach().requires_grad_()
        value = _called(f, t, y)
        total = y.new_zeros(len(y))
        if value.requires_grad:
            count = math.prod(y.shape[1:]) if probes is None else len(probes)
            if batched is None:
                batched = count > 2 and (not keep or count * len(y) <= _BATCHED_ROWS)
            total = (_batched if batched else _looped)(value, y, probes, keep)
    return (value, total) if keep else (value.detach(), total.detach())


def _called(f: Field, t: Tensor | float, y: Tensor) -> Tensor:
    value = f(t, y)  # pyright: ignore[reportArgumentType]
    if not isinstance(value, Tensor):
        raise InvalidTypeError(f"f returned {type(value).__name__}; a divergence needs one tensor like y")
    if value.shape != y.shape:
        raise ShapeError(f"f returned shape {tuple(value.shape)}; expected y's shape {tuple(y.shape)}")
    return value


def _looped(value: Tensor, y: Tensor, probes: Tensor | None, keep: bool) -> Tensor:
    total: Tensor | None = None
    weights = _unit_vectors(y) if probes is None else probes
    for k, weight in enumerate(weights):
        last = k == len(weights) - 1
        (row,) = torch.autograd.grad(
            value, y, weight.expand_as(y), create_graph=keep, retain_graph=keep or not last, allow_unused=True
        )
        if row is None:
            return y.new_zeros(len(y))
        row = row.flatten(1)
        term = row[:, k] if probes is None else (row * weight.flatten(1)).sum(1)
        total = term if total is None else total + term
    return y.new_zeros(len(y)) if total is None else total


def _batched(value: Tensor, y: Tensor, probes: Tensor | None, keep: bool) -> Tensor:
    weights = (_unit_vectors(y) if probes is None else probes).expand(-1, *y.shape)
    try:
        (rows,) = torch.autograd.grad(
            value, y, weights, create_graph=keep, retain_graph=True, allow_unused=True, is_grads_batched=True
        )
    except (RuntimeError, NotImplementedError):  # an operator that cannot be batched
        return _looped(value, y, probes, keep)
    if rows is None:
        return y.new_zeros(len(y))
    rows = rows.flatten(2)
    if probes is None:
        return rows.diagonal(dim1=0, dim2=2).sum(1)
    return (rows * probes.flatten(2)).sum((0, 2))


def _unit_vectors(y: Tensor) -> Tensor:
    """The d unit vectors of one sample, shape (d, 1, ...)."""
    size = math.prod(y.shape[1:])
    return torch.eye(size, dtype=y.dtype, device=y.device).view(size, 1, *y.shape[1:])


def _by_tangents(f: Field, t: Tensor | float, y: Tensor) -> tuple[Tensor, Tensor]:
    batch, size = len(y), math.prod(y.shape[1:])
    tangents = _unit_vectors(y).expand(size, *y.shape).reshape(size * batch, *y.shape[1:])
    tiled = y.repeat(size, *(1 for _ in y.shape[1:]))
    times = t.repeat(size) if isinstance(t, Tensor) and t.ndim == 1 else t
    keep = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(keep), forward_ad.dual_level():
        tiled = tiled.clone() if tiled.is_inference() else tiled
        dual = _called(f, times, forward_ad.make_dual(tiled, tangents))
        value, columns = forward_ad.unpack_dual(dual)
    if columns is None:
        return value[:batch], y.new_zeros(batch)
    columns = columns.reshape(size, batch, size)
    return value[:batch], columns.diagonal(dim1=0, dim2=2).sum(1)
