"""What every function here asks of its arguments, with messages that name the sequence and the row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, counted


class OutcomeSequence(NamedTuple):
    """What was observed, in order of time, and what came of it.

    Args:
      observations: x_1 … x_m, shape (m, d), m ≥ 1.
      outcome: z, a number: the prediction P_{m+1} that the last one is held against.
      rewards: c_2 … c_{m+1}, shape (m,): what is received on the way, one after each observation; None for nothing.

    >>> sequence = OutcomeSequence(torch.eye(3), 1.0)
    >>> observations, outcome, rewards = sequence
    """

    observations: Any
    outcome: Any
    rewards: Any = None


def check_unit(value: Any, name: str) -> float:
    """Raises unless value is a number in [0, 1]."""
    number = check_number(value, name)
    if not 0 <= number <= 1:
        raise InvalidValueError(f"{name} is {number:g}; expected a number in [0, 1]")
    return number


def check_number(value: Any, name: str) -> float:
    """Raises unless value is one finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise InvalidTypeError(
            f"{name} is {_shown(value)}, of type {type(value).__name__}; expected one number"
        ) from None
    if not math.isfinite(number):
        raise InvalidValueError(f"{name} is {number}; expected a finite number")
    return number


def check_choice(value: Any, name: str, choices: Sequence[str]) -> None:
    """Raises unless value is one of the choices."""
    if value not in choices:
        raise InvalidValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")


def check_grid(values: Any, name: str, like: Tensor) -> Tensor:
    """A row of finite numbers, (k,), in the dtype of `like`."""
    try:
        grid = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidTypeError(f"{name} is {_shown(values)}; expected a row of numbers ({error})") from None
    if grid.ndim != 1 or not len(grid):
        raise ShapeError(f"{name} has shape {tuple(grid.shape)}; expected (k,) with k ≥ 1")
    if not bool(torch.isfinite(grid).all()):
        raise InvalidValueError(f"{name} holds NaN or infinity; expected finite numbers")
    return grid


def check_unit_grid(values: Any, name: str, like: Tensor) -> Tensor:
    """A row of numbers in [0, 1], (k,)."""
    grid = check_grid(values, name, like)
    low, high = float(grid.min()), float(grid.max())
    if low < 0 or high > 1:
        raise InvalidValueError(f"{name} reaches from {low:g} to {high:g}; expected numbers in [0, 1]")
    return grid


def checked(
    observations: Any, outcome: Any, rewards: Any = None, where: str = "", features: int | None = 1
) -> tuple[Tensor, Tensor, Tensor | None]:
    """One sequence as tensors (m, d), () and (m,) or None, in the floating dtype of the observations.

    `where` names the sequence at the head of a message, such as ``"sequence 3: "``; `features` is how many axes an
    observation has, None for any.
    """
    x = _floating(observations, f"{where}observations", "(m, d)")
    if not x.ndim or (features is not None and x.ndim != 1 + features) or 0 in x.shape:
        empty = ": an empty sequence has no prediction" if 0 in x.shape else ""
        raise ShapeError(
            f"{where}observations have shape {tuple(x.shape)}; expected (m, d), one row a time, m and d at least 1{empty}"
        )
    _finite(x, f"{where}observations")
    z = _floating(outcome, f"{where}outcome", "()").to(x)
    if z.numel() != 1:
        raise ShapeError(
            f"{where}outcome has shape {tuple(z.shape)}; expected one number: what the whole sequence came to"
        )
    z = z.reshape(())
    if not bool(torch.isfinite(z)):
        raise InvalidValueError(
            f"{where}outcome is {float(z)}; expected a finite number: leave out sequences whose outcome is not known"
        )
    if rewards is None:
        return x, z, None
    c = _floating(rewards, f"{where}rewards", "(m,)").to(x)
    if c.shape != x.shape[:1]:
        raise ShapeError(
            f"{where}rewards have shape {tuple(c.shape)}; expected ({len(x)},), one after each observation"
        )
    _finite(c, f"{where}rewards")
    return x, z, c


class Packed(NamedTuple):
    """Many sequences, one after the other in the order of their lengths."""

    x: Tensor  # (rows of all, d)
    z: Tensor  # (n,)
    c: Tensor | None  # (rows of all,), or None if no sequence has rewards
    lengths: list[int]
    order: list[int]  # which sequence of the list each one is


def pack(sequences: Any, where: str = "") -> Packed:
    """Many sequences as few tensors; they share one number of features, one dtype and one device."""
    rows = _listed(sequences, f"{where}sequences")
    packed = _pack(rows) if _plain(rows) else None
    if packed is None or not all(bool(torch.isfinite(t).all()) for t in packed[:3] if t is not None):
        packed = _pack(checked_many(rows, where))  # one by one: it converts, or says what is wrong
    return packed


def checked_many(rows: list[Any], where: str = "") -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Many sequences as tensors, one by one."""
    found = []
    for number, row in enumerate(rows):
        if not isinstance(row, tuple) or len(row) not in (2, 3):
            raise InvalidTypeError(
                f"{where}sequence {number} is {type(row).__name__}; expected OutcomeSequence(observations, outcome) or such a "
                "tuple"
            )
        found.append(checked(*row, where=f"{where}sequence {number}: "))
        (x, *_), first = found[-1], found[0][0]
        if x.shape[1] != first.shape[1]:
            raise ShapeError(
                f"{where}sequence {number} has {counted(x.shape[1], 'feature')} and sequence 0 has "
                f"{first.shape[1]}; expected the same"
            )
        if x.dtype != first.dtype or x.device != first.device:
            raise InvalidTypeError(
                f"{where}sequence {number} is {x.dtype} on {x.device} and sequence 0 {first.dtype} on {first.device}; "
                "expected the same"
            )
    return found


def _plain(rows: list[Any]) -> bool:
    """Whether all are tensors that fit, seen without looking at a value."""
    first = rows[0]
    if not (
        isinstance(first, tuple) and len(first) > 1 and isinstance(first[0], Tensor) and first[0].ndim == 2
    ):
        return False
    dtype, device, d = first[0].dtype, first[0].device, first[0].shape[1]
    return dtype.is_floating_point and d > 0 and all(_fits(row, dtype, device, d) for row in rows)


def _fits(row: Any, dtype: torch.dtype, device: torch.device, d: int) -> bool:
    if not isinstance(row, tuple) or len(row) not in (2, 3):
        return False
    x, z, c = row if len(row) == 3 else (*row, None)
    tensors = isinstance(x, Tensor) and isinstance(z, Tensor) and x.ndim == 2 and z.ndim == 0
    if not tensors or x.shape[1] != d or not x.shape[0] or x.dtype != dtype or z.dtype != dtype:
        return False
    if x.device != device or z.device != device:
        return False
    return c is None or (isinstance(c, Tensor) and c.dtype == dtype and c.shape == x.shape[:1])


def _pack(rows: list[Any]) -> Packed:
    order = sorted(range(len(rows)), key=lambda i: rows[i][0].shape[0])
    chosen: list[Any] = [rows[i] if len(rows[i]) == 3 else (*rows[i], None) for i in order]
    c = None
    if any(row[2] is not None for row in chosen):
        c = torch.cat([x.new_zeros(len(x)) if c is None else c for x, _, c in chosen])
    x, z = torch.cat([row[0] for row in chosen]), torch.stack([row[1] for row in chosen])
    return Packed(x, z, c, [row[0].shape[0] for row in chosen], order)


def _listed(values: Any, name: str) -> list[Any]:
    if isinstance(values, (Tensor, str, bytes)) or not hasattr(values, "__iter__"):
        raise InvalidTypeError(
            f"{name} is {type(values).__name__}; expected a list of OutcomeSequence(observations, outcome)"
        )
    rows = list(values)
    if not rows:
        raise InvalidValueError(f"{name} is empty; expected at least one")
    return rows


def _floating(value: Any, name: str, shape: str) -> Tensor:
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise (ShapeError if isinstance(error, ValueError) else InvalidTypeError)(
                f"{name} cannot become a tensor {shape} ({error}); rows must be of one length, and numbers"
            ) from None
    if value.is_complex():
        raise InvalidTypeError(f"{name} is {value.dtype}; expected real numbers")
    return value if value.is_floating_point() else value.to(torch.float64)


def _finite(x: Tensor, name: str) -> None:
    if not bool(torch.isfinite(x).all()):
        row = int((~torch.isfinite(x)).nonzero()[0, 0])
        raise InvalidValueError(
            f"{name} have NaN or infinity in row {row}, counted from 0; fill in or leave out"
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
