"""What the modules of this system ask of sizes, names and batches of ids, with messages that say what came."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fingerpost.attention.vocabulary import PAD
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, did_you_mean


def check_sizes(**sizes: int) -> None:
    """Raises unless every size is an integer of at least 1."""
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidTypeError(f"{name} is {value!r}; expected an integer")
        if value < 1:
            raise InvalidValueError(f"{name} is {value}; expected at least 1")


def check_choice(what: str, value: str, known: Sequence[str]) -> None:
    """Raises unless `value` is one of `known`."""
    if value not in known:
        listed = ", ".join(map(repr, known))
        raise InvalidValueError(
            f"{what} is {value!r}; expected one of {listed}{did_you_mean(str(value), known)}"
        )


def check_last(name: str, x: Tensor, size: int) -> None:
    """Raises unless the last axis of x is `size`."""
    if x.shape[-1:] != (size,):
        raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected (…, {size})")


def check_mask(mask: Tensor, keys: Tensor) -> None:
    """Raises unless the mask is boolean, ends in the keys' positions, and leaves every row something to look at."""
    if mask.dtype != torch.bool:
        raise InvalidTypeError(f"mask is {mask.dtype}; expected torch.bool, True where there is a word")
    if mask.shape[-1:] != keys.shape[-2:-1]:
        raise ShapeError(
            f"mask has shape {tuple(mask.shape)} and keys {tuple(keys.shape)}; expected (…, S) beside (…, S, k)"
        )
    _refuse_empty(mask.any(-1), "mask")


def check_ids(name: str, ids: Tensor, vocabulary: int) -> Tensor:
    """The mask of what is no padding; raises unless ids (B, S) are of the vocabulary and no row is padding alone."""
    if not isinstance(ids, Tensor) or ids.dtype != torch.int64:
        found = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
        raise InvalidTypeError(
            f"{name} is {found}; expected int64 ids of shape (B, length), padded with {PAD}"
        )
    if ids.ndim != 2 or not ids.numel():
        raise ShapeError(f"{name} has shape {tuple(ids.shape)}; expected (B, length), both at least 1")
    least, most = (int(value) for value in torch.aminmax(ids))
    if least < 0 or most >= vocabulary:
        raise InvalidValueError(
            f"{name} has ids from {least} to {most}; this model's {name} vocabulary has ids 0 to {vocabulary - 1}: "
            "was it made with another one?"
        )
    mask = ids != PAD
    _refuse_empty(mask.any(1), name)
    return mask


def check_right_padded(name: str, mask: Tensor) -> None:
    """Raises if a word comes after padding."""
    bad = (mask[:, 1:] & ~mask[:, :-1]).any(1)
    if bad.any():
        raise InvalidValueError(
            f"{name} has words after padding in {_rows(bad)}; expected padding at the end alone"
        )


def _refuse_empty(filled: Tensor, name: str) -> None:
    if not filled.all():
        raise InvalidValueError(
            f"{name} has nothing but padding in {_rows(~filled)}; a softmax over nothing has no value: drop these rows"
        )


def _rows(bad: Tensor) -> str:
    rows = bad.reshape(-1).nonzero().flatten().tolist()
    return "rows " + ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
