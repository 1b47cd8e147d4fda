"""Distributions as functions of their parameters: taken apart, in float64, and built again at others."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Transform,
    TransformedDistribution,
    constraints,
)
from torch.distributions.transforms import _InverseTransform

from fingerpost.errors import InvalidTypeError


def elementwise_base(dist: Distribution) -> Distribution:
    """The univariate distribution inside Independent wrappers.

    Raises:
      InvalidTypeError: If it is not univariate, or discrete.
    """
    base = dist
    while type(base) is Independent:
        base = base.base_dist
    if base.event_shape:
        raise InvalidTypeError(
            f"{type(dist).__name__} has events of shape {tuple(base.event_shape)} that do not factorise; give a univariate "
            "distribution, or Independent over one"
        )
    if getattr(base.support, "is_discrete", False):
        raise InvalidTypeError(
            f"{type(base).__name__} is discrete: its samples cannot move; give a continuous one"
        )
    return base


def parameters_of(dist: Distribution) -> dict[str, Tensor] | None:
    """The parameters by which a distribution can be built again, by the constructor's names, or None if it does not tell."""
    found = _constructor_arguments(dist)
    if found is None:
        return None
    names = getattr(dist, "_moved", None) or tuple(dist.arg_constraints)
    moved = {name: found[name] for name in names if name in found}
    return {name: x for name, x in moved.items() if isinstance(x, Tensor) and x.is_floating_point()} or None


def rebuilt(dist: Distribution, parameters: Mapping[str, Tensor]) -> Distribution:
    """The distribution of the same kind at other parameters, without validation; the others stay as they are."""
    arguments = {**(_constructor_arguments(dist) or {}), **parameters}
    return type(dist)(**arguments, validate_args=False)


def in_float64(dist: Distribution) -> Distribution:
    """The same distribution computing in float64, without validation; gradients flow to the parameters it has."""
    if type(dist) is Independent:
        return Independent(in_float64(dist.base_dist), dist.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(dist, Categorical):
        name, given = categorical_parameter(dist)
        return Categorical(**{name: given.double()}, validate_args=False)
    arguments = _constructor_arguments(dist)
    if arguments is not None:
        return type(dist)(**{k: _doubled(x) for k, x in arguments.items()}, validate_args=False)
    return _doubled(dist)


def categorical_parameter(dist: Categorical) -> tuple[str, Tensor]:
    """What a categorical distribution was given, probs or logits, and its value as it stands there, normalised."""
    name = "probs" if dist._param is vars(dist).get("probs") else "logits"
    return name, vars(dist)["_param"]


def _constructor_arguments(dist: Distribution) -> dict[str, Any] | None:
    """The constructor's arguments, read from attributes of the same names, if there are such for all that it needs."""
    if type(dist) in (Independent, TransformedDistribution) or not dist.arg_constraints:
        return None
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(dist).__init__).parameters.items():
        if name in ("self", "validate_args"):
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            return None
        if not hasattr(dist, name):
            return None
        found[name] = getattr(dist, name)
    return found if found.keys() & dist.arg_constraints.keys() else None


def _doubled(part: Any) -> Any:
    """A copy of a part of a distribution in which every floating-point tensor is a float64 one."""
    if isinstance(part, Tensor):
        return part.double() if part.is_floating_point() else part
    if isinstance(part, (list, tuple)):
        return type(part)(_doubled(item) for item in part)
    if isinstance(part, _InverseTransform):
        return _doubled(part.inv).inv  # an inverse is a view of its transform
    if not isinstance(part, (Distribution, Transform)):
        return part
    new = copy.copy(part)
    for key, value in vars(part).items():
        if key in ("_inv", "_cached_x_y"):
            value = None if key == "_inv" else (None, None)
        elif not key.startswith(("_batch", "_event")):
            value = _doubled(value)
        new.__dict__[key] = False if key == "_validate_args" else value
    return new


def ends_of_support(dist: Distribution) -> tuple[Any, Any]:
    """Lower and upper end of a univariate support; ±inf where there is none."""
    support = dist.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    low, high = getattr(support, "lower_bound", -math.inf), getattr(support, "upper_bound", math.inf)
    return low, high
