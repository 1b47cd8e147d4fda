"""The tables of references as tensors, and errors against them."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.experiments.references import load


def columns(name: str, float32: bool = False) -> dict[str, Tensor]:
    """Columns of a table by name, float64; with `float32`, only the rows that float32 holds."""
    table = load(name)
    if float32:
        table = table.where(table.fits_float32)
    return {key: torch.from_numpy(column) for key, column in table.columns.items()}


def worst(found: Tensor, expected: Tensor, scale: Tensor | float = 0.0) -> float:
    """The largest error over max(|expected|, scale); what is not finite counts as infinite."""
    error = (found.double() - expected).abs() / torch.maximum(expected.abs(), torch.as_tensor(scale).double())
    return float(torch.where(found == expected, 0.0, error).detach().nan_to_num(nan=float("inf")).max())


def second_derivatives(
    velocity: dict[str, Tensor], parameters: dict[str, Tensor], value: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """d²z/dθᵢdθⱼ at fixed rank by autograd, and |∂_j vᵢ| + |v_j ∂_z vᵢ|, the size of what it is the sum of."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    names = list(parameters)
    for i, name in enumerate(names):
        inputs = [*parameters.values(), value]
        *slopes, along = torch.autograd.grad(
            velocity[name].sum(), inputs, retain_graph=True, materialize_grads=True
        )
        for other, slope in list(zip(names, slopes))[i:]:
            moved = velocity[other].detach() * along
            found[f"dd_{name}_{other}"] = slope + moved, slope.abs() + moved.abs()
    return found
