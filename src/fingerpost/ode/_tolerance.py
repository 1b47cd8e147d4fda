"""The error of a step over its tolerance, as one number."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite, sqrt
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError, did_you_mean
from fingerpost.ode._space import StateSpace, Tree, leaves_of, structure_of

NORMS = ("rms", "max", "per_leaf")

Norm = str | Callable[[Tree], Any]


class Tolerance:
    r"""ε = ‖e_i / (atol_i + rtol_i max(|y_i|, |y1_i|))‖; ε ≤ 1 accepts.

    Args:
      rtol: Relative tolerance: a number, a tensor that broadcasts to the state, or a nest of them like it.
      atol: Absolute tolerance likewise.
      norm: ``"rms"`` over all components, ``"max"``, ``"per_leaf"`` (the largest RMS of any leaf of the
        state), or a callable from the scaled error, a nest like the state, to a number.
      space: The state's space.
    """

    def __init__(self, rtol: Any, atol: Any, norm: Norm, space: StateSpace) -> None:
        self.rtol, self.atol = _packed(rtol, "rtol", space), _packed(atol, "atol", space)
        if not callable(norm) and norm not in NORMS:
            hint = did_you_mean(str(norm), NORMS)
            raise InvalidValueError(
                f"norm {norm!r} is unknown, expected one of {', '.join(NORMS)} or a callable{hint}"
            )
        self.kind, self.space = norm, space

    def scale(self, magnitude: Tensor) -> Tensor:
        """Atol + rtol · magnitude; overwrites the magnitude."""
        return magnitude.mul_(self.rtol).add_(self.atol)

    def ratio(self, error: Tensor, y: Tensor, y1: Tensor) -> float:
        """ε of one step; one transfer from the device."""
        return self.norm(error / self.scale(torch.maximum(y.abs(), y1.abs())))

    def norm(self, scaled: Tensor) -> float:
        """The norm of a scaled error."""
        if self.kind == "rms" or (self.kind == "per_leaf" and self.space.single):
            return float(torch.linalg.vector_norm(scaled)) / sqrt(scaled.numel())
        if self.kind == "max":
            return float(torch.linalg.vector_norm(scaled, ord=float("inf")))
        if callable(self.kind):
            return float(self.kind(self.space.unpack(scaled)))
        norms = [
            torch.linalg.vector_norm(scaled[span]) / sqrt(span.stop - span.start) for span in self.space.spans
        ]
        return float(torch.stack(norms).max())


def _packed(value: Any, name: str, space: StateSpace) -> float | Tensor:
    """A tolerance as a number, or as a tensor that broadcasts to the packed state."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not (value > 0 and isfinite(value)):
            raise InvalidValueError(f"{name} must be above 0 and finite, got {value}")
        return float(value)
    if isinstance(value, Tensor) and space.single:
        leaves = [value]
    elif structure_of(value) == space.structure:
        leaves = leaves_of(value)
    else:
        raise InvalidTypeError(
            f"{name} must be a number, or a tensor (or a nest of them) like the state, got {type(value).__name__}"
        )
    return _expanded(leaves, name, space)


def _expanded(leaves: list[Any], name: str, space: StateSpace) -> Tensor:
    parts = []
    for leaf, shape, dtype in zip(leaves, space.shapes, space.dtypes):
        part = torch.as_tensor(leaf, dtype=space.dtype, device=space.device)
        if not bool((part > 0).all()):
            raise InvalidValueError(
                f"{name} must be above 0 everywhere, its least value is {part.min().item()}"
            )
        try:
            part = part.expand(shape)
        except RuntimeError:
            raise ShapeError(
                f"{name} has shape {tuple(part.shape)}, which does not broadcast to {shape}"
            ) from None
        parts.append(part.unsqueeze(-1).expand(*shape, 2) if dtype.is_complex else part)
    return parts[0] if space.single else torch.cat([part.reshape(-1) for part in parts])
