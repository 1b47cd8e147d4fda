"""A whole step through `torch.compile`: for fields that are solved many thousands of times."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.ode._field import Field
from fingerpost.ode._parameters import WatchedField
from fingerpost.ode.methods.base import AbstractMethod, Step
from fingerpost.ode.methods.explicit import ExplicitRungeKutta, Terms, terms_of

CompiledStep = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, list[Tensor]]]

_CACHE: weakref.WeakKeyDictionary[Any, dict[tuple[str, str], CompiledStep]] = weakref.WeakKeyDictionary()


class CompiledRungeKutta(AbstractMethod):
    """An explicit method whose step, f included, is one compiled function; its gradient is compiled too.

    Args:
      method: The method.
      field: The field of the solve.
      backend: Of `torch.compile`.
    """

    def __init__(self, method: ExplicitRungeKutta, field: Field, backend: str) -> None:
        self.method, self.run = method, _compiled(method, field, backend)
        for name in ("name", "order", "error_order", "dense_order", "carries_derivative", "fixed_by_default"):
            setattr(self, name, getattr(method, name))

    def step(self, field: Field, t: float, y: Tensor, h: float, first: Tensor | None, workspace: Any) -> Step:
        # the length goes in as a tensor, for a number would be a constant of the compiled code
        numbers = torch.tensor([*(t + c * h for c in self.method.c), h], dtype=y.dtype, device=y.device)
        k = field(numbers[0], y) if first is None else first
        y1, ks = self.run(numbers, y, k)
        field.nfe += len(self.method.c) - 1
        if isinstance(field, WatchedField):
            field.look(numbers[0], y, y1, k)
        return Step(t, h, y, y1, k, ks[-1] if self.carries_derivative else None, stages=ks)

    def error(self, step: Step) -> Tensor | None:
        return self.method.error(step)

    def interpolate(self, field: Field, step: Step, theta: Sequence[float]) -> Tensor:
        return self.method.interpolate(field, step, theta)

    def combined_error(self, norms: Sequence[float], h: float) -> float:
        return self.method.combined_error(norms, h)


def compiled_method(
    method: AbstractMethod, field: Field, compile: bool | str, gradient: str
) -> AbstractMethod:
    """The method as `solve`'s argument `compile` asks for it."""
    if compile is False:
        return method
    if not isinstance(compile, (bool, str)):
        raise InvalidTypeError(f"compile must be a bool or a backend's name, got {type(compile).__name__}")
    backend = "inductor" if compile is True else compile
    if backend not in (known := torch.compiler.list_backends(exclude_tags=None)):
        raise InvalidValueError(
            f"compile={backend!r} is no backend of torch.compile here: {', '.join(known)}"
        )
    if not isinstance(method, ExplicitRungeKutta):
        raise InvalidValueError(
            f"compile needs an explicit Runge–Kutta method, not {method.name}: leave it out"
        )
    if gradient == "backsolve":
        raise InvalidValueError("compile goes with gradient='checkpoint' or 'tape', not with 'backsolve'")
    if backend == "inductor" and field.space.device.type == "cpu" and not _has_compiler():
        raise InvalidValueError(
            "compile=True needs a C++ compiler (g++ or clang++) on the path: leave it out"
        )
    return CompiledRungeKutta(method, field, backend)


def _has_compiler() -> bool:
    names = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    return any(shutil.which(name) for name in names if name)


def _compiled(method: ExplicitRungeKutta, field: Field, backend: str) -> CompiledStep:
    """The compiled step of a method and a field, made once per field object."""
    key, made = (method.name, backend + field.space.structure), None
    try:
        made = _CACHE.setdefault(field.f, {}).get(key)
    except TypeError:  # a callable that cannot be referred to weakly: compiled anew for each solve
        return _build(method, field, backend)
    if made is None:
        made = _CACHE[field.f][key] = _build(method, field, backend)
    return made


def _build(method: ExplicitRungeKutta, field: Field, backend: str) -> CompiledStep:
    reference, space = _reference(field.f), field.space
    rows, b, _ = terms_of(type(method))
    fsal = method.carries_derivative

    def combine(y: Tensor, h: Tensor, terms: Terms, ks: list[Tensor]) -> Tensor:
        (j, weight), *rest = terms
        total = weight * ks[j]
        for j, weight in rest:
            total = total + weight * ks[j]
        return y + h * total

    def step(numbers: Tensor, y: Tensor, first: Tensor) -> tuple[Tensor, list[Tensor]]:
        f, h, ks, y1 = reference(), numbers[-1], [first], y
        for i, terms in enumerate(rows, 1):
            y1 = combine(y, h, terms, ks)
            ks.append(space.pack(f(numbers[i], space.unpack(y1))))
        return (y1 if fsal else combine(y, h, b, ks)), ks

    return torch.compile(step, backend=backend)  # type: ignore[return-value]


def _reference(f: Callable[..., Any]) -> Callable[[], Any]:
    """A way to f that does not keep it alive, so that the cache forgets a field that is gone."""
    try:
        return weakref.ref(f)
    except TypeError:
        return lambda: f
