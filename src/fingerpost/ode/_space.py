"""How a state, a tensor or a nest of tensors, becomes the one real tensor that the solvers step."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

Tree = Any  # a tensor, or a tuple, list or dict of trees

_DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def leaves_of(tree: Tree) -> list[Any]:
    """The leaves of a nest of tuples, lists and dicts, in order (dicts by insertion)."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves_of(value)]
    if isinstance(tree, (tuple, list)):
        return [leaf for value in tree for leaf in leaves_of(value)]
    return [tree]


def tree_map(function: Callable[..., Any], tree: Tree) -> Tree:
    """The nest with `function` applied to each leaf."""
    if isinstance(tree, dict):
        return type(tree)((key, tree_map(function, value)) for key, value in tree.items())
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(tree_map(function, value) for value in tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(tree_map(function, value) for value in tree)
    return function(tree)


def structure_of(tree: Tree) -> str:
    """A nest's structure in words of code, leaves as ``*``, for comparison and messages."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {structure_of(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, (tuple, list)):
        left, right = "()" if isinstance(tree, tuple) else "[]"
        return left + ", ".join(structure_of(value) for value in tree) + right
    return "*"


class StateSpace:
    """The shapes, dtypes and structure of a state, and the way to one real tensor and back.

    A single real tensor stays as it is; a single complex one is seen as real, (*S, 2); everything else is
    laid end to end in one vector of N real numbers.

    Args:
      y0: The initial state.
    """

    def __init__(self, y0: Tree) -> None:
        self.example = y0
        self.structure = structure_of(y0)
        leaves = leaves_of(y0)
        _check_leaves(leaves)
        self.dtypes = [leaf.dtype for leaf in leaves]
        self.shapes = [tuple(leaf.shape) for leaf in leaves]
        self.device = leaves[0].device
        self.dtype = _real(leaves[0].dtype)
        self.single = isinstance(y0, Tensor)
        self.plain = self.single and not y0.is_complex()
        sizes = [prod(s) * (2 if d.is_complex else 1) for s, d in zip(self.shapes, self.dtypes)]
        self.numel = sum(sizes)
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        self.spans = [slice(end - size, end) for end, size in zip(ends, sizes)]

    def pack(self, tree: Tree) -> Tensor:
        """One real tensor from a state of this structure."""
        if self.plain:
            return tree
        if self.single:
            return torch.view_as_real(tree.resolve_conj())
        return torch.cat([_flat(leaf) for leaf in leaves_of(tree)])

    def unpack(self, y: Tensor, leading: int = 0) -> Tree:
        """The state from one real tensor, which may have `leading` axes more in front."""
        if self.plain:
            return y
        if self.single:
            return torch.view_as_complex(y.contiguous())
        parts = iter(self.parts(y, leading))
        return tree_map(lambda _: next(parts), self.example)

    def parts(self, y: Tensor, leading: int = 0) -> list[Tensor]:
        """The leaves of the state in order."""
        if self.single:
            return [self.unpack(y, leading)]
        lead = y.shape[:leading]
        return [
            _shaped(y[..., span], lead, shape, dtype)
            for span, shape, dtype in zip(self.spans, self.shapes, self.dtypes)
        ]

    def check_like(self, tree: Tree, what: str) -> None:
        """Raises unless `tree` has this structure, these shapes, dtypes and device."""
        found = structure_of(tree)
        if found != self.structure:
            raise InvalidTypeError(f"{what} has the structure {found}, the state {self.structure}")
        for leaf, shape, dtype in zip(leaves_of(tree), self.shapes, self.dtypes):
            if not isinstance(leaf, Tensor):
                raise InvalidTypeError(
                    f"{what} holds a {type(leaf).__name__}, expected a tensor of shape {shape}"
                )
            if tuple(leaf.shape) != shape:
                raise ShapeError(f"{what} has shape {tuple(leaf.shape)}, expected the state's, {shape}")
            if leaf.dtype != dtype:
                raise InvalidTypeError(f"{what} is of {leaf.dtype}, expected the state's {dtype}")
            if leaf.device != self.device:
                raise InvalidValueError(f"{what} is on {leaf.device}, the state on {self.device}")


def _flat(leaf: Tensor) -> Tensor:
    # not view_as_real: its backward pass needs gradients at even offsets, which a slice of the vector may lack
    return torch.stack([leaf.real, leaf.imag], -1).reshape(-1) if leaf.is_complex() else leaf.reshape(-1)


def _shaped(flat: Tensor, lead: torch.Size, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if dtype.is_complex:
        pairs = flat.reshape((*lead, *shape, 2))
        return torch.complex(pairs[..., 0], pairs[..., 1])
    return flat.reshape((*lead, *shape))


def _real(dtype: torch.dtype) -> torch.dtype:
    return {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(dtype, dtype)


def _check_leaves(leaves: list[Any]) -> None:
    if not leaves:
        raise InvalidValueError("y0 holds no tensors, expected at least one")
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            raise InvalidTypeError(f"y0 holds a {type(leaf).__name__}, expected tensors")
        if leaf.dtype not in _DTYPES:
            raise InvalidTypeError(
                f"y0 is of {leaf.dtype}, expected float32, float64, complex64 or complex128: y0.float() makes it so"
            )
        if leaf.numel() == 0:
            raise ShapeError(f"y0 has shape {tuple(leaf.shape)} and no elements, expected at least one")
    devices, dtypes = {str(leaf.device) for leaf in leaves}, {str(_real(leaf.dtype)) for leaf in leaves}
    if len(devices) > 1:
        raise InvalidValueError(f"y0 is on several devices ({', '.join(sorted(devices))}), expected one")
    if len(dtypes) > 1:
        raise InvalidTypeError(f"y0 mixes precisions ({', '.join(sorted(dtypes))}), expected one")
