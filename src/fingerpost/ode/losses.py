r"""The three kinds of loss on a trajectory, each differentiable with the right adjoint.

With ż = f(t, z), cotangents a(t) as rows and θ whatever f holds, the adjoint equations are

    terminal   L(z(t₁))            ȧ = −aᵀf_z          a(t₁) = ∂L/∂z(t₁)      dL/dθ = ∫ aᵀf_θ dt
    running    ∫ l(t, z) dt        ȧ = −aᵀf_z − l_z    a(t₁) = 0              dL/dθ = ∫ (l_θ + aᵀf_θ) dt
    observed   L(z(t₁), …, z(t_N)) ȧ = −aᵀf_z between observations; at each of them a jumps,
                                   a(t_i⁻) = a(t_i⁺) + ∂L/∂z(t_i), from a(t_N⁺) = 0; dL/dθ = ∫ aᵀf_θ dt

(Pontryagin 1962; Chen et al. 2018, https://arxiv.org/abs/1806.07366, appendix B.) The solver's three
gradients compute them: ``"backsolve"`` integrates these equations, ``"tape"`` and ``"checkpoint"`` are their
discrete counterparts, exact for the steps taken. The running loss is one more component of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, ShapeError
from fingerpost.ode._quadrature import solve_with_quadrature
from fingerpost.ode._solve import solve
from fingerpost.ode._space import StateSpace, Tree, tree_map

Field = Callable[[Tensor, Tree], Tree]


def terminal(
    f: Field, y0: Tree, t0: Tensor | float, t1: Tensor | float, loss: Callable[[Tree], Tensor], **options: Any
) -> Tensor:
    """L(z(t₁)) of the solution of ż = f(t, z) from z(t₀) = y0.

    Args:
      f: The field, f(t, y) of y's structure.
      y0: Initial state, a tensor or a pytree of tensors.
      t0: Initial time; a tensor that requires grad gets its gradient.
      t1: Final time, likewise; may lie before t0.
      loss: Takes the final state, returns a scalar.
      options: Passed on to `solve`.

    Returns:
      The loss, 0-dimensional.

    Raises:
      InvalidTypeError: If the loss returns no tensor.
      ShapeError: If the loss returns more than one number.
      NumericalError: If the solver fails.

    >>> rate = torch.tensor(-1.0, requires_grad=True)
    >>> value = terminal(lambda t, y: rate * y, torch.ones(1), 0.0, 1.0, lambda y: y.sum())
    >>> value.backward()
    >>> print(f"{value:.4f} {rate.grad:.4f}")
    0.3679 0.3679
    """
    solution = solve(f, y0, _span(t0, t1, y0), **options)
    return _scalar(loss(tree_map(lambda leaf: leaf[-1], solution.ys)))


def running(
    f: Field,
    y0: Tree,
    t0: Tensor | float,
    t1: Tensor | float,
    integrand: Callable[[Tensor, Tree], Tensor],
    *,
    quadrature_in_norm: bool = True,
    **options: Any,
) -> Tensor:
    """∫ l(t, z(t)) dt from t₀ to t₁ along the solution of ż = f(t, z) from z(t₀) = y0.

    The integral is solved beside the state, q̇ = l(t, z). It takes part in error control, because an
    integrand may vary faster than the state does; leave it out when it is known to be as smooth, and
    the steps are those of the state alone.

    Args:
      f: The field, f(t, y) of y's structure.
      y0: Initial state, a tensor or a pytree of tensors.
      t0: Initial time; a tensor that requires grad gets its gradient.
      t1: Final time, likewise. Where it lies before t₀ the integral changes sign, as integrals do.
      integrand: l(t, y), a tensor of any fixed shape, such as () or (B,), of the state's real dtype.
      quadrature_in_norm: Whether the integral's error takes part in the choice of steps.
      options: Passed on to `solve`.

    Returns:
      The integral, of the integrand's shape.

    Raises:
      InvalidTypeError: If the integrand returns no tensor.
      NumericalError: If the solver fails.

    >>> rate = torch.tensor(-1.0, requires_grad=True)
    >>> value = running(lambda t, y: rate * y, torch.ones(1), 0.0, 1.0, lambda t, y: y.sum())
    >>> value.backward()
    >>> print(f"{value:.4f} {rate.grad:.4f}")  # 1 − 1/e, 1 − 2/e
    0.6321 0.2642
    """
    times = _span(t0, t1, y0)

    def both(t: Tensor, y: Tree) -> tuple[Tree, Tensor]:
        return f(t, y), integrand(t, y)

    with torch.no_grad():
        first = integrand(times[0].detach().to(StateSpace(y0).dtype), y0)
    if not isinstance(first, Tensor):
        raise InvalidTypeError(f"the integrand returned {type(first).__name__}; expected a tensor")
    _, total = solve_with_quadrature(
        both, y0, torch.zeros_like(first), times, in_norm=quadrature_in_norm, **options
    )
    return total[-1]


def observed(
    f: Field, y0: Tree, times: Tensor | Sequence[float], loss: Callable[[Tree], Tensor], **options: Any
) -> Tensor:
    """L(z(t₁), …, z(t_N)) on observations along the solution of ż = f(t, z).

    The observations come from dense output, so the solver never restarts at them.

    Args:
      f: The field, f(t, y) of y's structure.
      y0: State at times[0], a tensor or a pytree of tensors.
      times: Strictly monotonic times, at least two; the first is where y0 is given.
      loss: Takes the stacked observations, each tensor with a leading axis of len(times), the first of
        them y0 itself; returns a scalar.
      options: Passed on to `solve`.

    Returns:
      The loss, 0-dimensional.

    Raises:
      InvalidTypeError: If the loss returns no tensor.
      ShapeError: If the loss returns more than one number.
      NumericalError: If the solver fails.

    >>> rate = torch.tensor(-1.0, requires_grad=True)
    >>> value = observed(lambda t, y: rate * y, torch.ones(1), [0.0, 0.5, 1.0], lambda ys: ys.sum())
    >>> value.backward()
    >>> print(f"{value:.4f} {rate.grad:.4f}")  # 1 + 1/√e + 1/e, 1/(2√e) + 1/e
    1.9744 0.6711
    """
    return _scalar(loss(solve(f, y0, times, **options).ys))


def _span(t0: Tensor | float, t1: Tensor | float, y0: Tree) -> Tensor:
    """Both times in one tensor, with their graphs."""
    space = StateSpace(y0)
    ends = [torch.as_tensor(t, dtype=torch.float64, device=space.device) for t in (t0, t1)]
    for name, end in zip(("t0", "t1"), ends):
        if end.ndim:
            raise ShapeError(f"{name} has shape {tuple(end.shape)}; expected one number")
    return torch.stack(ends)


def _scalar(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise InvalidTypeError(f"the loss returned {type(value).__name__}; expected a tensor")
    if value.numel() != 1:
        raise ShapeError(f"the loss returned shape {tuple(value.shape)}; expected one number")
    return value.reshape(())
