"""Samples that carry the gradient of the path they would take: drawn in one way, moved by a velocity.

If z has the distribution function F(·; θ) and its rank u = F(z; θ) is held, then z moves with θ at the velocity
∂z/∂θ = −∂_θ F(z; θ)/p(z; θ) (Figurnov, Mohamed and Mnih, 2018, eq. 7, https://arxiv.org/abs/1805.08498). The velocity is
evaluated at the sample itself, as it stands in the graph, so that the second derivative is ∂v/∂θ + v ∂v/∂z, as it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fingerpost.distributions._elementwise import (
    Elementwise,
    aligned,
    forward_over_forward,
    primals,
    sum_to,
)
from fingerpost.distributions._function import signed

Draw = Callable[..., Tensor]
"""draw(shape, *parameters) → samples of that shape and the parameters' dtype; parameters are plain and broadcast to shape."""


class Law:
    """How a family of distributions on the line is drawn from and how its samples move.

    A family of vectors overrides `pull` and `push`.

    Args:
      draw: Draws samples; see `Draw`. It sees plain tensors, whatever transform is under way.
      velocity: (z, *parameters) → ∂z/∂θ for each of the first parameters; parameters after those are held fixed.
      moved: How many parameters the velocity is given for.
    """

    def __init__(self, draw: Draw, velocity: Elementwise, moved: int) -> None:
        self.draw = draw
        self.velocity = velocity
        self.moved = moved

    def rsample(self, shape: torch.Size, *parameters: Tensor) -> Tensor:
        """Draws samples of `shape` that carry the derivative with respect to the parameters.

        Args:
          shape: Sample shape and batch shape together.
          *parameters: Tensors that broadcast to `shape`, those that samples move with first.
        """
        # Under torch.vmap this is mapped exactly where randomness="different" asks for a draw each, and refused where
        # random numbers are; without it, a map over something else than the parameters would share one draw.
        ticket = torch.rand(())
        return _Sample.apply(self, shape, ticket, *parameters)  # pyright: ignore[reportReturnType]

    def pull(
        self, grad: Tensor, wanted: Sequence[bool], value: Tensor, *parameters: Tensor
    ) -> list[Tensor | None]:
        """Returns Σ grad ∂value/∂θ for each of the wanted parameters, of its shape."""
        velocities = self.velocity(value, *parameters)
        found: list[Tensor | None] = [None] * len(parameters)
        for i, parameter in enumerate(parameters):
            if wanted[i]:
                _refuse_fixed(self, i)
                found[i] = sum_to(grad * velocities[i], parameter)
        return found

    def push(self, tangents: Sequence[Tensor | None], value: Tensor, *parameters: Tensor) -> Tensor:
        """Returns Σ ∂value/∂θ tangent over the parameters that have one, of the value's shape."""
        velocities = self.velocity(value, *parameters)
        total = torch.zeros_like(value)
        for i, tangent in enumerate(tangents):
            if tangent is not None:
                _refuse_fixed(self, i)
                total = total + velocities[i] * tangent
        return total


@signed
class _Sample(torch.autograd.Function):
    """Drawing, and the velocity as its derivative."""

    @staticmethod
    def forward(law: Law, shape: torch.Size, _ticket: Tensor, *parameters: Tensor) -> Tensor:  # pyright: ignore
        return law.draw(shape, *parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.law = inputs[0]
        ctx.set_materialize_grads(
            False
        )  # a parameter without a tangent is told from one whose tangent is zero
        ctx.save_for_backward(output, *inputs[3:])
        ctx.save_for_forward(output, *inputs[3:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        found = ctx.law.pull(grad, ctx.needs_input_grad[3:], *ctx.saved_tensors)
        return None, None, None, *found

    @staticmethod
    def jvp(ctx: Any, _law: Any, _shape: Any, _ticket: Any, *tangents: Tensor | None) -> Any:
        with forward_over_forward():
            moved = [None if tangent is None else primals([tangent])[0] for tangent in tangents]
            return ctx.law.push(moved, *primals(ctx.saved_tensors))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], law: Law, shape: torch.Size, ticket: Tensor, *parameters: Tensor
    ) -> Any:
        if in_dims[2] is None:
            raise RuntimeError(
                "torch.vmap(randomness='same') cannot share one draw between mapped parameters; use "
                "randomness='different'"
            )
        marker = torch.empty((1,) * len(shape))  # aligns parameters of fewer dimensions than the sample
        mapped = aligned([*in_dims[3:], None], [*parameters, marker])[:-1]
        new = torch.Size((info.batch_size, *shape))
        return _Sample.apply(law, new, ticket.movedim(in_dims[2], 0)[0], *mapped), 0


def _refuse_fixed(law: Law, index: int) -> None:
    if index >= law.moved:
        raise NotImplementedError(
            f"samples do not carry the derivative with respect to parameter {index} ({law.velocity.what}); detach it"
        )
