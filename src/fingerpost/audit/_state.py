"""Leaving things as they were: RNG states, and the mode, gradients, parameters and buffers of modules."""

from __future__ import annotations

import functools
import random
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor, nn


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Restores Python's, NumPy's and torch's random states on the way out, also after an error."""
    python, legacy = random.getstate(), numpy.random.get_state()
    cpu = torch.get_rng_state()
    devices = (
        torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    )
    try:
        yield
    finally:
        random.setstate(python)
        numpy.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)


@contextmanager
def modules_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Restores mode, ``requires_grad``, gradients, parameters and buffers of `modules`, also after an error."""
    modules = list(modules)
    modes = [(part, part.training) for module in modules for part in module.modules()]
    tensors = {id(t): t for m in modules for t in (*m.parameters(), *m.buffers())}.values()
    saved = [(t, t.detach().clone(), t.requires_grad, _copy_of_grad(t)) for t in tensors]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
        for tensor, value, requires_grad, grad in saved:
            _restore(tensor, value, requires_grad, grad)


def _copy_of_grad(tensor: Tensor) -> tuple[Tensor, Tensor] | None:
    grad = tensor.grad if tensor.is_leaf else None
    return None if grad is None else (grad, grad.detach().clone())


def _restore(tensor: Tensor, value: Tensor, requires_grad: bool, grad: Any) -> None:
    with torch.no_grad():
        if not torch.equal(tensor, value):  # kernels such as batch_norm's write without raising the version
            tensor.copy_(value)
        if tensor.is_leaf:
            tensor.requires_grad_(requires_grad)
            tensor.grad = None
            if grad is not None:
                original, content = grad
                tensor.grad = original
                if not torch.equal(original, content):
                    original.copy_(content)


def reachable_modules(*functions: Callable[..., Any] | None) -> list[nn.Module]:
    """Finds the modules that functions hold: bound to, closed over, named as globals, or kept as attributes.

    The audit hands control to code it has not seen; whatever network that code works on is restored afterwards.
    """
    found: dict[int, nn.Module] = {}
    seen: set[int] = set()
    queue: list[tuple[Any, int]] = [(f, 0) for f in functions if f is not None]
    while queue:
        item, depth = queue.pop()
        if id(item) in seen or depth > 4:
            continue
        seen.add(id(item))
        if isinstance(item, nn.Module):
            found[id(item)] = item
        else:
            queue.extend((child, depth + 1) for child in _held_by(item))
    return list(found.values())


def _held_by(item: Any) -> list[Any]:
    if isinstance(item, functools.partial):
        return [item.func, *item.args, *item.keywords.values()]
    if isinstance(item, types.MethodType):
        return [item.__self__, item.__func__]
    if isinstance(item, types.FunctionType):
        cells = [cell.cell_contents for cell in item.__closure__ or () if _filled(cell)]
        names = [item.__globals__[name] for name in item.__code__.co_names if name in item.__globals__]
        return [*cells, *(item.__defaults__ or ()), *(n for n in names if _worth_following(n))]
    if isinstance(item, (list, tuple)):
        return list(item)
    if isinstance(item, dict):
        return list(item.values())
    if isinstance(item, (Tensor, types.ModuleType, type)):
        return []
    return list(getattr(item, "__dict__", {}).values())


def _filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _worth_following(value: Any) -> bool:
    return isinstance(value, (nn.Module, types.FunctionType, types.MethodType, functools.partial, list, dict))
