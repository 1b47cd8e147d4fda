"""Distribution functions and their inverses as kernels, whose derivatives are the density and the velocity.

With u = F(z; θ) and v = ∂z/∂θ at fixed u: ∂u/∂z = p and ∂u/∂θ = −p v; ∂z/∂u = 1/p and ∂z/∂θ = v. So neither function is
differentiated through the way in which it was computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.distributions._elementwise import Kernel


class Family(NamedTuple):
    """What a family of distributions on the line is made of, as kernels of (z, *parameters) or (u, *parameters).

    Args:
      log_density: log p(z).
      velocity: ∂z/∂θ for each parameter.
      rank: F(z). It need not be differentiable.
      quantile: z from u, the inverse of `rank`; likewise.
    """

    log_density: Kernel
    velocity: Kernel
    rank: Kernel
    quantile: Kernel | None = None

    def cdf(self, value: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        """The distribution function as a kernel that can be differentiated."""
        return (_Rank.apply(self, *torch.broadcast_tensors(value, *parameters)),)  # pyright: ignore[reportReturnType]

    def icdf(self, rank: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        """The inverse of the distribution function as a kernel that can be differentiated."""
        return (_Quantile.apply(self, *torch.broadcast_tensors(rank, *parameters)),)  # pyright: ignore[reportReturnType]


class _Rank(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, family: Family, value: Tensor, *parameters: Tensor) -> Tensor:  # pyright: ignore
        ctx.family = family
        ctx.save_for_backward(value, *parameters)
        return family.rank(value, *parameters)[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        density = grad * ctx.family.log_density(*ctx.saved_tensors)[0].exp()
        return None, density, *(-density * v for v in ctx.family.velocity(*ctx.saved_tensors))


class _Quantile(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, family: Family, rank: Tensor, *parameters: Tensor) -> Tensor:  # pyright: ignore
        ctx.family = family
        value = family.quantile(rank, *parameters)[0]  # pyright: ignore[reportOptionalCall]
        ctx.save_for_backward(rank, *parameters)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        family, (rank, *parameters) = ctx.family, ctx.saved_tensors
        value = _Quantile.apply(
            family, rank, *parameters
        )  # again, so that its own derivative is in the graph
        velocities = family.velocity(value, *parameters)
        inverse_density = (-family.log_density(value, *parameters)[0]).exp()
        return None, grad * inverse_density, *(grad * v for v in velocities)
