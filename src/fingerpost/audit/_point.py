"""Points and covectors: flattening a pytree into named leaves, and the errors that name the leaf at fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, NumericalError, ShapeError


@dataclass(frozen=True)
class Leaves:
    """The tensors of a pytree in order, their names, and the way back to the tree.

    Elements of a list or tuple are named 1, 2, …, as the layers of a network are; entries of a dictionary keep
    their key; levels are joined by a full stop; a lone tensor is called ``point``.
    """

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    rebuild: Callable[[Sequence[Any]], Any]


def flatten(point: Any) -> Leaves:
    """Flattens a tensor, list, tuple or dictionary (nested at will) of tensors.

    Raises:
      InvalidTypeError: If a leaf is no floating-point tensor.
      InvalidValueError: If there is no leaf at all, or one holds NaN or infinity.
    """
    names: list[str] = []
    tensors: list[Tensor] = []
    rebuild = _walk(point, "", names, tensors)
    if not tensors:
        raise InvalidValueError(f"the point holds no tensor: got {point!r}; give the tensors to audit at")
    for name, tensor in zip(names, tensors):
        if not torch.isfinite(tensor).all():
            raise InvalidValueError(
                f"the point's leaf {name!r} holds NaN or infinity; audit at a finite point"
            )
    return Leaves(tuple(names), tuple(tensors), lambda values: rebuild(iter(values)))


def _walk(node: Any, name: str, names: list[str], tensors: list[Tensor]) -> Callable[[Any], Any]:
    if isinstance(node, Tensor):
        return _leaf(node, name or "point", names, tensors)
    prefix = f"{name}." if name else ""
    if isinstance(node, Mapping):
        parts = {key: _walk(value, f"{prefix}{key}", names, tensors) for key, value in node.items()}
        return lambda values: {key: part(values) for key, part in parts.items()}
    if isinstance(node, (list, tuple)):
        items = [_walk(value, f"{prefix}{i}", names, tensors) for i, value in enumerate(node, 1)]
        if hasattr(node, "_fields"):
            return lambda values: type(node)(*(item(values) for item in items))
        return lambda values: type(node)(item(values) for item in items)
    raise InvalidTypeError(
        f"the point's leaf {name or 'point'!r} is a {type(node).__name__}; "
        "a point is a tensor, or a list, tuple or dictionary of tensors"
    )


def _leaf(tensor: Tensor, name: str, names: list[str], tensors: list[Tensor]) -> Callable[[Any], Any]:
    if not tensor.dtype.is_floating_point:
        raise InvalidTypeError(
            f"the point's leaf {name!r} has dtype {tensor.dtype}; floating point is needed"
        )
    if tensor.numel() == 0:
        raise InvalidValueError(f"the point's leaf {name!r} has shape {tuple(tensor.shape)}: it is empty")
    names.append(name)
    tensors.append(tensor)
    return lambda values: next(values)


def covectors(value: Any, leaves: Leaves, what: str) -> list[Tensor]:
    """Checks what a signal or reference returned against the point, leaf by leaf.

    Args:
      value: The returned pytree: the same structure as the point (a list for a tuple will do).
      leaves: The point's leaves.
      what: ``"signal"`` or ``"reference"``, for the messages.

    Returns:
      One detached tensor per leaf, each of the leaf's shape.

    Raises:
      InvalidTypeError: If a leaf is None or no tensor (a detached signal), or the structure differs.
      ShapeError: If a shape differs from the point's.
      NumericalError: If a leaf holds NaN or infinity.
    """
    found = _gather(value, "", leaves, what)
    result = []
    for name, tensor in zip(leaves.names, leaves.tensors):
        result.append(_checked(found.pop(name, _ABSENT), name, tensor, what))
    if found:
        raise InvalidTypeError(
            f"the {what} returned leaf {sorted(found)[0]!r}, which the point does not have; "
            f"the point's leaves are {', '.join(leaves.names)}"
        )
    return result


_ABSENT = object()


def _gather(node: Any, name: str, leaves: Leaves, what: str) -> dict[str, Any]:
    prefix = f"{name}." if name else ""
    if isinstance(node, Mapping):
        children = [(f"{prefix}{key}", value) for key, value in node.items()]
    elif isinstance(node, (list, tuple)):
        children = [(f"{prefix}{i}", value) for i, value in enumerate(node, 1)]
        if not name and leaves.names == ("point",) and len(children) == 1:
            return {"point": children[0][1]}  # torch.autograd.grad returns a one-element tuple
    else:
        return {name or "point": node}
    found: dict[str, Any] = {}
    for child, value in children:
        found.update(_gather(value, child, leaves, what))
    return found


def _checked(value: Any, name: str, leaf: Tensor, what: str) -> Tensor:
    if value is _ABSENT:
        raise InvalidTypeError(
            f"the {what} returned nothing for leaf {name!r}; expected a tensor of shape {tuple(leaf.shape)}"
        )
    if value is None:
        raise InvalidTypeError(
            f"the {what} is detached from leaf {name!r}: it returned None there; return a tensor of shape "
            f"{tuple(leaf.shape)} (zeros, if the {what} really is zero)"
        )
    if not isinstance(value, Tensor):
        raise InvalidTypeError(
            f"the {what} returned a {type(value).__name__} for leaf {name!r}, not a tensor"
        )
    if value.shape != leaf.shape:
        raise ShapeError(
            f"the {what} has shape {tuple(value.shape)} at leaf {name!r}; the point has {tuple(leaf.shape)} there"
        )
    if not torch.isfinite(value).all():
        bad = int((~torch.isfinite(value)).sum())
        raise NumericalError(
            f"the {what} holds NaN or infinity at leaf {name!r} ({bad} of {value.numel()} entries)"
        )
    return value.detach()
