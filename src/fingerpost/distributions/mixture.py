"""Mixtures whose samples carry gradients: by the distribution function, or by conditional ones in several dimensions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, VonMises
from torch.distributions import MixtureSameFamily as TorchMixture

from fingerpost.distributions._components import placed
from fingerpost.distributions._conditional import ConditionalRanks
from fingerpost.distributions._families import (
    categorical_parameter,
    elementwise_base,
    in_float64,
    parameters_of,
    rebuilt,
)
from fingerpost.distributions._guard import limited, refused
from fingerpost.errors import InvalidTypeError, InvalidValueError


class MixtureSameFamily(TorchMixture):
    """`torch.distributions.MixtureSameFamily` with an `rsample`.

    Component k has the density Π_d p_kd(z_d). One dimension moves at ∂z/∂θ = −∂_θ F/p with F = Σ_k w_k F_k. In several, every
    conditional rank u_d = F_d(z_d | z_<d) = Σ_k w_kd F_kd(z_d) is held, where w_kd ∝ w_k Π_{j<d} p_kj(z_j) (Figurnov, Mohamed
    and Mnih, 2018, eq. 6, https://arxiv.org/abs/1805.08498). The triangular system of their Jacobian is solved in O(K·D),
    without forming it: for d = D … 1, λ_d = (g_d − Σ_k c_k ∂_d log p_kd)/p_d and c_k ← c_k + λ_d w_kd (F_kd − F_d); the
    gradient is −Σ_d λ_d ∂_θ F_d. The path depends on the order of the dimensions; the mean of its gradient does not.

    Gradients reach the mixing logits or probs and whatever the components' `cdf` and `log_prob` depend on. Each rank is read
    from the nearer tail; for components that are Normal, Laplace, or monotone transforms of them, tails keep their digits as
    far out as one likes. Others fall back to 1 − cdf.

    Args:
      mixture_distribution: Categorical over the K components.
      component_distribution: A univariate distribution with a differentiable `cdf`, or Independent over one; batch (…, K).
      validate_args: As in torch.distributions.
      order: 1, or 2 for exact second derivatives of samples too, at about twice the cost in several dimensions. The derivative
        after that raises.

    Raises:
      ValueError: For batches that do not fit, as torch's class does.
      InvalidValueError: If `order` is unknown.

    Example:
      >>> import torch
      >>> from torch.distributions import Categorical, Normal
      >>> _ = torch.manual_seed(0)
      >>> loc = torch.tensor([-1.0, 2.0], requires_grad=True)
      >>> mixture = MixtureSameFamily(Categorical(torch.ones(2)), Normal(loc, torch.ones(2)))
      >>> mixture.rsample((5,)).mean().backward()
      >>> bool((loc.grad > 0).all()), round(float(loc.grad.sum()), 4)
      (True, 1.0)
    """

    has_rsample = True  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
        *,
        order: int = 1,
    ) -> None:
        if order not in (1, 2):
            raise InvalidValueError(
                f"order={order}; use 1 for exact first derivatives, 2 for exact second ones too"
            )
        self.order = order
        super().__init__(mixture_distribution, component_distribution, validate_args=validate_args)
        if len(mixture_distribution.batch_shape) < len(self.batch_shape):  # torch's class cannot sample then
            self._mixture_distribution = mixture_distribution.expand(self.batch_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> MixtureSameFamily:
        """Returns the mixture with an expanded batch."""
        new: Any = self._get_checked_instance(MixtureSameFamily, _instance)
        new.order = self.order
        super().expand(batch_shape, _instance=new)
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws samples that carry ∂z/∂θ.

        Args:
          sample_shape: Shape of independent draws.

        Returns:
          Shape sample_shape + batch_shape + event_shape.

        Raises:
          InvalidTypeError: If the components do not factorise into univariate ones.
          NotImplementedError: If their `cdf` is missing.
        """
        z = self.sample(torch.Size(sample_shape)).detach()
        attached = self.order == 2 and math.prod(self.event_shape) == 1
        ranks = ConditionalRanks(*self._parts(), z, self._event_ndims, attached)
        what = "ask for order=2, which carries two" if self.order == 1 else "two are all"
        return limited(z - ranks.shift(self.order).to(z.dtype), self.order, what)

    def _parts(self) -> tuple[Categorical, Distribution]:
        """Mixing distribution and the components' univariate distribution, in float64."""
        base = elementwise_base(self.component_distribution)
        return in_float64(self.mixture_distribution), in_float64(base)  # pyright: ignore[reportReturnType]

    def velocity(self, value: Tensor) -> dict[str, Tensor]:
        """Returns ∂z/∂θ at fixed ranks, for the mixing weights and each parameter of the components.

        Args:
          value: Points z in the support, of a shape that broadcasts with batch_shape + event_shape.

        Returns:
          For univariate mixtures a tensor of the broadcast shape and one more dimension, K, for each of ``"logits"`` or
          ``"probs"`` (whichever the Categorical was given) and the components' parameter names. With events of D numbers,
          ``"logits"`` has the shape (…, D, K) and the others (…, D, K, D): entry [d, k, j] is ∂z_d/∂θ_kj, 0 for j > d. The
          former can be differentiated; the latter raise.

        Raises:
          ValueError: If a value is outside the support, unless `validate_args` is off.
          InvalidTypeError: If the components cannot be built from parameters by name, or events have several dimensions.
        """
        if self._validate_args:
            self._validate_sample(value)
        if self._event_ndims > 1:
            raise InvalidTypeError(
                f"velocity takes events of one dimension; these have {self._event_ndims}: differentiate rsample"
            )
        mixing, base = self._parts()
        parameters = parameters_of(base)
        if parameters is None:
            raise InvalidTypeError(
                f"{type(base).__name__} cannot be built from parameters by name; differentiate rsample"
            )
        weights, given = categorical_parameter(mixing)
        shape = torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        z = value.double().expand(shape)
        batch = shape[: len(shape) - self._event_ndims]
        inner = (*batch, self._num_component, *self.event_shape)
        leaves = {
            weights: given.expand(*batch, self._num_component),
            **{name: x.expand(inner) for name, x in parameters.items()},
        }
        ranks = ConditionalRanks(mixing, base, z, self._event_ndims, attached=not self._event_ndims)

        def moved(*values: Tensor) -> Tensor:
            first, *others = values
            near = Categorical(**{weights: first}, validate_args=False)
            return ranks.displacement(near, rebuilt(base, dict(zip(parameters, others))))

        _, pull, *_ = torch.func.vjp(moved, *leaves.values())
        found = _jacobian(pull, z) if self._event_ndims else pull(torch.ones_like(z))
        return {name: v.to(value.dtype) for name, v in zip(leaves, found)}

    def cdf(self, x: Tensor) -> Tensor:
        """Σ_k w_k F_k(x), for univariate components; angles are counted from −π, not from each component's own cut."""
        if self._event_ndims:
            raise NotImplementedError(
                "the cdf of a mixture is for univariate components; these have several dimensions"
            )
        if not isinstance(self.component_distribution, VonMises):
            return super().cdf(x)
        ranks = placed(self.component_distribution, self._pad(x), mixed=True).rank()
        return (self.mixture_distribution.probs * ranks).sum(-1)


def _jacobian(pull: Any, z: Tensor) -> list[Tensor]:
    """∂z_d/∂θ for each d, stacked in front of the parameters' own dimensions; no derivative of it is given."""
    batch = z.dim() - 1
    rows = [
        pull(direction.expand_as(z)) for direction in torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
    ]
    what = "velocities in several dimensions are numbers; differentiate rsample with order=2"
    stacked = [torch.stack(row, batch) for row in zip(*rows)]
    return [refused(refused(v, v, what), z.sum(), what) for v in stacked]
