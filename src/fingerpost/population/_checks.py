"""What every function here asks of its arguments, with messages that name the trial and the neuron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted


def real(value: Any, name: str, shape: str = "") -> Tensor:
    """A tensor of real floating numbers; whole numbers become float64, and what is no tensor too."""
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidTypeError(
                f"{name} is {type(value).__name__}; expected a tensor{shape and ' ' + shape} ({error})"
            ) from None
    if value.is_complex():
        raise InvalidTypeError(f"{name} is {value.dtype}; expected real numbers")
    return value if value.is_floating_point() else value.to(torch.float64)


def finite(value: Tensor, name: str) -> Tensor:
    """Raises if there is a NaN or an infinity."""
    if value.numel() and not all(map(math.isfinite, _ends(value))):
        where = (~torch.isfinite(value)).nonzero()[0].tolist()
        raise InvalidValueError(
            f"{name} is NaN or infinite at {where}, counted from 0; expected finite numbers"
        )
    return value


def _ends(value: Tensor) -> tuple[float, float]:
    """Least and largest; NaN if there is one: one pass."""
    low, high = value.detach().aminmax()
    return float(low), float(high)


def positive(value: Any, name: str) -> Tensor:
    """A tensor of finite numbers above 0."""
    found = finite(real(value, name), name)
    if found.numel() and not bool((found > 0).all()):
        raise InvalidValueError(f"{name} has {float(found.min()):g}; expected numbers above 0")
    return found


def not_negative(value: Any, name: str) -> Tensor:
    """A tensor of finite numbers, none below 0."""
    found = finite(real(value, name), name)
    if found.numel() and not bool((found >= 0).all()):
        raise InvalidValueError(f"{name} has {float(found.min()):g}; expected numbers of at least 0")
    return found


def number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """One finite number in [low, high]."""
    try:
        found = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise InvalidTypeError(f"{name} is {type(value).__name__}; expected one number") from None
    if not math.isfinite(found) or not low <= found <= high:
        raise InvalidValueError(f"{name} is {found:g}; expected a number in [{low:g}, {high:g}]")
    return found


def activities(value: Any, neurons: int | None, name: str = "counts") -> Tensor:
    """Real activities of shape (..., N); NaN is refused."""
    return finite(_shaped(value, neurons, name), name)


def _shaped(value: Any, neurons: int | None, name: str) -> Tensor:
    found = real(value, name, "(..., N)")
    if not found.ndim or not found.shape[-1]:
        raise ShapeError(
            f"{name} have shape {tuple(found.shape)}; expected (..., N), one entry a neuron, N ≥ 1"
        )
    if neurons is not None and found.shape[-1] != neurons:
        raise ShapeError(
            f"{name} are of {counted(found.shape[-1], 'neuron')}, shape {tuple(found.shape)}; the code has {neurons}"
        )
    return found


def counts_of(value: Any, neurons: int | None, name: str = "counts") -> Tensor:
    """Spike counts of shape (..., N): whole numbers, none below 0."""
    found = _shaped(value, neurons, name)
    # |round(r)| − r is 0 for whole numbers from 0 on, and for nothing else; NaN and infinity become NaN: two cheap passes and a
    # comparison, since a stream of trials is checked at the speed of its decoding.
    if found.numel() and _ends(found.round().abs_().sub_(found)) != (0.0, 0.0):
        finite(found, name)
        bad = (found < 0) | (found != found.round())
        where = bad.nonzero()[0].tolist()
        raise InvalidValueError(
            f"{name} hold {float(found[tuple(where)]):g} at {where}, counted from 0; spike counts are whole numbers from "
            "0 on: read weighted or other real activities with the code's `.family`"
        )
    return found


def grid_of(value: Any, dimensions: int | None = None) -> Tensor:
    """Stimuli at which a density is held, (S,) on a line or circle, (S, D) in D dimensions."""
    found = real(value, "grid", "(S,) or (S, D)")
    if found.ndim not in (1, 2) or (dimensions is not None and dimensions != axes_of(found)):
        wanted = {None: "(S,) or (S, D)", 0: "(S,)"}.get(dimensions, f"(S, {dimensions})")
        raise ShapeError(f"grid has shape {tuple(found.shape)}; expected {wanted}")
    if not found.numel():
        raise ShapeError(f"grid is empty, shape {tuple(found.shape)}; expected at least one stimulus")
    return finite(found, "grid")


def axes_of(grid: Tensor) -> int:
    """0 for stimuli that are numbers, else D."""
    return 0 if grid.ndim == 1 else grid.shape[1]


def periods_of(value: Any, grid: Tensor) -> tuple[float | None, ...]:
    """A period or None for each axis of the grid."""
    size = max(axes_of(grid), 1)
    listed = tuple(value) if isinstance(value, Sequence) else (value,) * size
    if len(listed) != size:
        raise ShapeError(f"period has {counted(len(listed), 'entry')}; the grid has {size} axes")
    for one in listed:
        if one is not None and not (math.isfinite(float(one)) and float(one) > 0):
            raise InvalidValueError(f"period is {one}; expected a number above 0, or None for a line")
    return tuple(None if one is None else float(one) for one in listed)
