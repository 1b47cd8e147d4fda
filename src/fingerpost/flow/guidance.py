"""Classifier-free guidance: one field from a conditional and an unconditional one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidValueError, ShapeError, counted


class Guided:
    r"""v(t, x) = v(t, x, ∅) + w (v(t, x, c) − v(t, x, ∅)), both from one call of the model on 2B rows.

    Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598), for velocities as in Zheng et al. 2023
    (https://arxiv.org/abs/2311.13443); their guidance weight is w − 1. w = 1 is the conditional field and w = 0 the
    unconditional one, each at the price of B rows. For w > 1 samples move to where the condition is likely; the field
    is then no marginal field of any data, though it still has a flow and a density.

    Args:
      model: (t, x, condition) → velocity, trained with the condition dropped at times (`drop_condition`).
      condition: Classes, shape () or (B,), or vectors, shape (B, …).
      weight: w.
      null: What stands for "no condition": a class, or one row of condition; the model's own `null` unless given.

    >>> field = Guided(lambda t, x, c: c[:, None] * torch.ones_like(x), torch.tensor([2, 4]), 3.0, null=1)
    >>> field(torch.tensor(0.0), torch.zeros(2, 1)).flatten()
    tensor([ 4., 10.])
    """

    def __init__(
        self, model: Callable[..., Tensor], condition: Tensor, weight: float = 1.0, null: Any = None
    ) -> None:
        self.model, self.condition, self.weight = model, condition, float(weight)
        null = getattr(model, "null", None) if null is None else null
        if null is None and weight != 1:
            raise InvalidValueError(
                f"guidance with weight {weight:g} needs to know what stands for no condition: give null=, "
                "or a model with classes, FlowMLP(…, classes=K), whose `null` it is"
            )
        self.null = None if null is None else torch.as_tensor(null).to(condition)
        self._rows: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """The guided velocity at (t, x), of x's shape."""
        given, null, both = self._conditions(len(x))
        if self.weight in (0.0, 1.0):
            return self.model(t, x, given if self.weight else null)
        times = torch.cat([t, t]) if t.ndim else t
        conditional, free = self.model(times, torch.cat([x, x]), both).chunk(2)
        return torch.lerp(free, conditional, self.weight)

    def _conditions(self, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """(c, ∅, both) for so many rows, made once."""
        if self._rows is None or len(self._rows[0]) != rows:
            c = self.condition
            if c.ndim and len(c) not in (1, rows):
                raise ShapeError(
                    f"condition has {counted(len(c), 'row')} and x {rows}; expected one for each row"
                )
            given = c.expand(rows, *c.shape[1:]) if c.ndim else c.expand(rows)
            null = given if self.null is None else self.null.expand_as(given)
            self._rows = given, null, torch.cat([given, null])
        return self._rows


def drop_condition(
    condition: Tensor, probability: float, null: Any, generator: torch.Generator | None = None
) -> Tensor:
    """Replaces each row of the condition by `null` with the given probability; what training for guidance needs.

    Args:
      condition: Classes, shape (B,), or vectors, shape (B, …).
      probability: In [0, 1]; 0.1 to 0.2 are usual.
      null: A class, or one row.
      generator: Source of randomness; torch's global one unless given.

    >>> drop_condition(torch.arange(4), 1.0, null=9)
    tensor([9, 9, 9, 9])
    """
    if not 0 <= probability <= 1:
        raise InvalidValueError(f"probability is {probability}; expected it in [0, 1]")
    drawn = torch.rand(len(condition), generator=generator, device=condition.device)
    drop = (drawn < probability).view(-1, *(1 for _ in condition.shape[1:]))
    return torch.where(drop, torch.as_tensor(null).to(condition), condition)
