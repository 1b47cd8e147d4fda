"""Which calls change a tensor in place, and which tensor each of them changes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

_AUGMENTED = (
    "__iadd__",
    "__iand__",
    "__idiv__",
    "__ifloordiv__",
    "__ilshift__",
    "__imod__",
    "__imul__",
    "__ior__",
    "__ipow__",
    "__irshift__",
    "__isub__",
    "__itruediv__",
    "__ixor__",
    "__setitem__",
)
# Their names end as in-place calls do, but no values change, or none that a graph could hold.
_OTHERS = frozenset({"requires_grad_", "retain_grad_", "share_memory_", "rename_", "sparse_resize_"})


def in_place_calls() -> frozenset[Any]:
    """The calls that change their first argument, or every tensor of the list that it is; some only when asked."""
    always: set[Any] = {getattr(torch.Tensor, name, None) for name in _AUGMENTED}
    core: Any = torch._C
    for owner in (torch.Tensor, torch, torch.nn.functional, core._nn, core._VariableFunctions):
        always |= {getattr(owner, name) for name in dir(owner) if _changes(owner, name)}
    always |= _packets()
    always.discard(None)
    return frozenset(always | set(_ASKING))


def _changes(owner: Any, name: str) -> bool:
    if not name.endswith("_") or name.endswith("__") or name in _OTHERS:
        return False
    if name.startswith("_") and not name.startswith("_foreach_"):
        return False
    return callable(getattr(owner, name, None))


def _packets() -> set[Any]:
    """``torch.ops.aten.mul_`` and its like, for scripts that call them by that name."""
    names = torch._C._dispatch_get_all_op_names()
    bare = {name.removeprefix("aten::").split(".")[0] for name in names if name.startswith("aten::")}
    chosen = sorted(name for name in bare if name.endswith("_") and not name.startswith("_"))
    return {getattr(torch.ops.aten, name) for name in chosen if name not in _OTHERS}


def _asking(module: ModuleType) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for function in vars(module).values():
        if inspect.isfunction(function) and not function.__name__.startswith("_"):
            parameters = list(inspect.signature(function).parameters)
            if "inplace" in parameters:
                found[function] = parameters.index("inplace")
    return found


_ASKING = _asking(torch.nn.functional)


def asked(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call is to change its argument: yes, unless it has an argument ``inplace`` that is not true."""
    position = _ASKING.get(call)
    if position is None:
        return True
    return bool(kwargs["inplace"] if "inplace" in kwargs else len(args) > position and args[position])


def targets(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensors that an in-place call changes."""
    first = args[0] if args else kwargs.get("input", kwargs.get("self"))
    if isinstance(first, torch.Tensor):
        return [first]
    if isinstance(first, (tuple, list)):
        return [item for item in first if isinstance(item, torch.Tensor)]
    return []
