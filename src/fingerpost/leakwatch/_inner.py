"""What the hidden node of an in-place operation on a view holds.

An in-place operation on a view gives its base a node CopySlices, which keeps the operation's own node to itself: what
that node has saved can't be read. It can be told from the same operation on empty tensors without data, and only has
to be told when another argument of the call is the tensor that changed, or a view of it.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from fingerpost.leakwatch._graph import Ring, held, is_made, short_name

_CORE: Any = torch._C
_witnessed: dict[int, weakref.ref[torch.Tensor]] = {}


def hidden_rings() -> list[torch.Tensor]:
    """The live tensors that hidden nodes were seen to hold, for the census, which can't see it."""
    alive = [(number, reference()) for number, reference in _witnessed.items()]
    for number, tensor in alive:
        if tensor is None:
            del _witnessed[number]
    return [tensor for _, tensor in alive if tensor is not None]


def inner_ring(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], owner: torch.Tensor, node: Any
) -> Ring | None:
    """The ring through the hidden node of a call on a view of `owner`, if there is one.

    Args:
      func: The in-place call.
      args: Its positional arguments, the view first.
      kwargs: Its keyword arguments.
      owner: The base of the view.
      node: The base's node after the call.
    """
    if not node.name().endswith("CopySlices"):
        return None
    others = [*args[1:], *kwargs.values()]
    if not any(_is_of(value, owner) for value in others):
        return None
    if _CORE._autograd._top_saved_tensors_default_hooks(False) is not None:
        return None  # a user's hooks decide what is held
    slot = next((name for name, mine, _ in _hidden(func, args, kwargs, owner, node) if mine), None)
    if slot is None:
        return None
    _witnessed[id(owner)] = weakref.ref(owner)
    return Ring((node,), slot, True, inner=slot)


def hidden_storages(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], owner: torch.Tensor, node: Any
) -> dict[int, int]:
    """Bytes of each storage that the hidden node keeps: what was passed to the call, and the copies that it made."""
    if not node.name().endswith("CopySlices"):
        return {}
    sizes: dict[int, int] = {}
    for index, (_, _, value) in enumerate(_hidden(func, args, kwargs, owner, node)):
        if value.device.type == "meta":
            sizes[-1 - index] = value.numel() * value.element_size()
        elif is_made(value):
            sizes[value.untyped_storage()._cdata] = value.untyped_storage().nbytes()
    return sizes


def _is_of(value: Any, owner: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and (value is owner or value._base is owner)


def _hidden(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], owner: torch.Tensor, node: Any
) -> list[tuple[str, bool, torch.Tensor]]:
    """What the operation saves, tried on tensors without data: slot, whether it is of `owner`, the true tensor.

    A copy that the operation makes for itself has no true tensor; the one without data stands for it.
    """
    tracked = node.next_functions[0][0] is not None  # whether the base had a gradient before the call
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []

    def empty(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        made = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        made.requires_grad_(tracked if _is_of(value, owner) else value.requires_grad)
        pairs.append((made, value))
        return made

    try:
        with torch.enable_grad(), _disable_current_modes():
            first = empty(args[0])
            changed = first.view_as(first).clone() if first.requires_grad else first
            rest = [empty(value) for value in args[1:]]
            func(changed, *rest, **{name: empty(value) for name, value in kwargs.items()})
    except (RuntimeError, NotImplementedError, TypeError):
        return []  # it can't be told: no report rather than a wrong one
    found = []
    for slot, tensor in held(changed.grad_fn) if changed.grad_fn is not None else ():
        true = next((value for made, value in pairs[1:] if made is tensor), tensor)
        found.append((f"{short_name(changed.grad_fn)} saves {slot}", _is_of(true, owner), true))
    return found
