"""What the distributions here have in common: samples that move with their parameters, and the velocity itself."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from fingerpost.distributions._law import Law


class AbstractImplicit(Distribution):
    """A distribution on the line whose samples carry the implicit reparameterization gradient.

    A child names its law and the parameters that go into it, and is otherwise a `torch.distributions.Distribution` like any:
    `sample` never carries a gradient, `rsample` always does.
    """

    has_rsample = True
    _law: ClassVar[Law]
    _moved: ClassVar[tuple[str, ...]]
    _held: ClassVar[tuple[str, ...]] = ()

    def _law_parameters(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, name) for name in (*self._moved, *self._held))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws samples that carry ∂z/∂θ.

        Args:
          sample_shape: Shape of independent draws.

        Returns:
          Shape sample_shape + batch_shape.
        """
        return self._law.rsample(self._extended_shape(sample_shape), *self._law_parameters())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws samples without a gradient; see `rsample`."""
        with torch.no_grad():
            return self.rsample(sample_shape).detach()

    def velocity(self, value: Tensor) -> dict[str, Tensor]:
        """Returns ∂z/∂θ at fixed rank, for each parameter θ that samples move with.

        Equal to −∂_θ F(z; θ)/p(z; θ), with F the distribution function and p the density (Figurnov, Mohamed and Mnih, 2018,
        eq. 7, https://arxiv.org/abs/1805.08498).

        Args:
          value: Points z in the support, of a shape that broadcasts with the batch shape.

        Returns:
          The velocities by parameter name, of the broadcast shape. They can be differentiated once more.

        Raises:
          ValueError: If a value is outside the support, unless `validate_args` is off.
        """
        if self._validate_args:
            self._validate_sample(value)
        return dict(zip(self._moved, self._law.velocity(value, *self._law_parameters())))
