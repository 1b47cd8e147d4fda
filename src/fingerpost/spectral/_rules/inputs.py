"""What a network is called with: a tensor, a tuple of positional arguments, or a dict of keyword arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, ShapeError

Inputs = Any
"""A tensor with one sample a row, or tuples, lists and dicts of such tensors."""


def call(function: Callable[..., Any], inputs: Inputs) -> Any:
    """function(*inputs) for a tuple, function(**inputs) for a dict, function(inputs) for all else."""
    if isinstance(inputs, tuple):
        return function(*inputs)
    if isinstance(inputs, Mapping):
        return function(**inputs)
    return function(inputs)


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of that call."""
    if isinstance(inputs, tuple):
        return inputs, {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs,), {}


def transform(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The same tree with each tensor changed."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(transform(part, change) for part in inputs)
    if isinstance(inputs, Mapping):
        return {key: transform(part, change) for key, part in inputs.items()}
    return inputs


def tensors(inputs: Inputs) -> Iterator[Tensor]:
    """The tensors of the tree."""
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, (tuple, list)):
        for part in inputs:
            yield from tensors(part)
    elif isinstance(inputs, Mapping):
        for part in inputs.values():
            yield from tensors(part)


def count(inputs: Inputs, name: str) -> int:
    """How many samples, checked: each tensor has them along its first dimension."""
    leaves = list(tensors(inputs))
    if not leaves:
        raise InvalidTypeError(
            f"{name} holds no tensor, but is {type(inputs).__name__}; give a tensor with one sample a row, "
            "a tuple of them (positional arguments) or a dict (keyword arguments)"
        )
    sizes = {leaf.shape[0] if leaf.dim() else None for leaf in leaves}
    if len(sizes) > 1 or None in sizes:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise ShapeError(f"the tensors of {name} need one sample a row, all as many; got shapes {shapes}")
    if 0 in sizes:
        raise ShapeError(f"{name} holds no sample: shape {tuple(leaves[0].shape)}")
    return leaves[0].shape[0]


def check_alike(x1: Inputs, x2: Inputs) -> None:
    """Raises unless single samples of both have one form, so that a batch may hold some of each."""
    one, two = _form(x1), _form(x2)
    if one != two:
        raise ShapeError(f"samples of x1 and x2 need one form; a sample of x1 has {one}, of x2 {two}")


def _form(inputs: Inputs) -> Any:
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape[1:])
    if isinstance(inputs, (tuple, list)):
        return [_form(part) for part in inputs]
    if isinstance(inputs, Mapping):
        return {key: _form(inputs[key]) for key in sorted(inputs)}
    return inputs


def rows(inputs: Inputs, which: slice) -> Inputs:
    """Some of the samples."""
    return transform(inputs, lambda leaf: leaf[which])


def detached(inputs: Inputs) -> Inputs:
    """Without the graph that the tensors may come from."""
    return transform(inputs, lambda leaf: leaf.clone() if leaf.is_inference() else leaf.detach())


def probe(first: Inputs, last: Inputs) -> Inputs:
    """Three samples: the first of one, the last of the other, the first again."""
    if isinstance(first, Tensor):
        return torch.cat([first[:1], last[-1:], first[:1]])
    if isinstance(first, (tuple, list)):
        return type(first)(probe(a, b) for a, b in zip(first, last))
    if isinstance(first, Mapping):
        return {key: probe(part, last[key]) for key, part in first.items()}
    return first
