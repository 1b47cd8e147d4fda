"""The user's vector field as the solvers call it: counted, checked, on one real tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fingerpost.ode._space import StateSpace, Tree


class Field:
    """dy/dt = f(t, y) on the packed state.

    Attributes:
      nfe: Evaluations so far.
      f: The user's function.
      space: How its states are packed.
    """

    def __init__(self, f: Callable[[Tensor, Tree], Tree], space: StateSpace) -> None:
        self.f, self.space, self.nfe = f, space, 0

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        """f(t, y), of y's shape."""
        self.nfe += 1
        space = self.space
        if not space.plain:
            out = self.f(t, space.unpack(y))
            space.check_like(out, "what f returned")
            return space.pack(out)
        out = self.f(t, y)
        if type(out) is not Tensor or out.shape != y.shape or out.dtype != y.dtype or out.device != y.device:
            space.check_like(out, "what f returned")
        return out

    def times(self, t: float, h: float, nodes: Sequence[float]) -> tuple[Tensor, ...]:
        """The stage times t + c h as 0-dimensional tensors, made by one transfer to the device."""
        space = self.space
        return torch.tensor([t + c * h for c in nodes], dtype=space.dtype, device=space.device).unbind()

    def time(self, t: float) -> Tensor:
        """T as a 0-dimensional tensor."""
        return torch.tensor(t, dtype=self.space.dtype, device=self.space.device)


def transformed() -> bool:
    """Whether a torch.func transform is running."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]
