"""Amplitudes of structure factors: Rice where a reflection is acentric, folded normal where it is centric."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from fingerpost.distributions import folded_normal, rice
from fingerpost.distributions._bessel import ratio_kernel
from fingerpost.distributions._noncentral import Family
from fingerpost.distributions.noncentral_chi import AbstractNoncentral
from fingerpost.errors import InvalidTypeError


def _log_density(d: Tensor, x: Tensor, s: Tensor, centric: Tensor) -> Tensor:
    return torch.where(centric > 0, folded_normal.log_density(d, x, s), rice.log_density(d, x, s))


def _ratio(t: Tensor, centric: Tensor) -> tuple[Tensor, ...]:
    return tuple(
        torch.where(centric > 0, one, two) for one, two in zip(folded_normal.ratio(t), ratio_kernel(t))
    )


def _moments(loc: Tensor, scale: Tensor, centric: Tensor) -> tuple[Tensor, ...]:
    pairs = zip(folded_normal.moments(loc, scale), rice.moments(loc, scale))
    return tuple(torch.where(centric > 0, one, two) for one, two in pairs)


def _draw(shape: torch.Size, loc: Tensor, scale: Tensor, centric: Tensor) -> Tensor:
    return rice.draw(shape, loc, scale, (~centric).to(scale.dtype))


_FAMILY = Family(
    "RiceWoolfson",
    log_density=_log_density,
    ratio=_ratio,
    degrees=lambda centric: 2 - centric,
    draw=_draw,
    on_line=lambda centric: centric > 0,
    moments=_moments,
    held=1,
)


class RiceWoolfson(AbstractNoncentral):
    """`FoldedNormal(loc, scale)` where `centric` holds and `Rice(loc, scale)` elsewhere.

    Both are the distribution of a structure-factor amplitude |F| around a calculated one: a centric F lies on a line of the
    complex plane, an acentric one anywhere (Sim, 1959, Acta Cryst. 12, 813; Woolfson, 1956, Acta Cryst. 9, 804).
    With loc = 0 they are Wilson's priors.

    Args:
      loc: ν ≥ 0.
      scale: σ > 0, the standard deviation of each part of F.
      centric: Booleans, of a shape that broadcasts with the others.
      validate_args: Whether to check parameters and values; None follows torch.distributions.

    Raises:
      InvalidTypeError: If `centric` is not boolean.

    Example:
      >>> import torch
      >>> RiceWoolfson(torch.zeros(2), 1.0, torch.tensor([True, False])).mean
      tensor([0.7979, 1.2533])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "loc": constraints.nonnegative,
        "scale": constraints.positive,
        "centric": constraints.boolean,
    }
    _held = ("centric",)
    _family = _FAMILY
    _law = _FAMILY.law
    centric: Tensor

    def __init__(self, loc: Any, scale: Any, centric: Any, validate_args: bool | None = None) -> None:
        loc, scale = broadcast_all(loc, scale)
        centric = torch.as_tensor(centric, device=loc.device)
        if centric.dtype != torch.bool:
            raise InvalidTypeError(f"centric has dtype {centric.dtype}; give booleans, True where centric")
        loc, scale, self.centric = torch.broadcast_tensors(loc, scale, centric)
        super().__init__(loc, scale, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """Returns the same distribution with a larger batch shape."""
        return self._expanded(batch_shape, self._get_checked_instance(RiceWoolfson, _instance))
