"""Convolutions: dense layers on patches."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from fingerpost.spectral._rules.base import AbstractRule
from fingerpost.spectral._rules.terms import AbstractTerm, Dense, Direct, Groups


class ConvRule(AbstractRule):
    """Convolutions of 1, 2 or 3 dimensions, with stride, padding of every mode, dilation and groups."""

    batch_dimensions = (0,)

    def terms(
        self, module: nn.Module, inputs: Tensor, cotangents: Tensor, n: int
    ) -> Mapping[str, AbstractTerm]:
        assert isinstance(module, _ConvNd)
        o = cotangents.shape[0]
        patches = _patches(module, inputs)  # (n k, positions, groups, D)
        patches = patches.reshape(n, -1, *patches.shape[2:])
        each = module.out_channels // module.groups
        cotangents = cotangents.flatten(3).transpose(2, 3)  # (o, n k, positions, channels)
        cotangents = cotangents.reshape(o, n, patches.shape[1], module.groups, each)
        parts = [Dense(cotangents[:, :, :, g], patches[:, :, g]) for g in range(module.groups)]
        bias = Direct(cotangents.sum(2).flatten(2))
        return {"weight": parts[0] if module.groups == 1 else Groups(parts), "bias": bias}


def _patches(module: _ConvNd, inputs: Tensor) -> Tensor:
    """What each output position sees, by groups, in the order of the weight's numbers."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(inputs, module._reversed_padding_repeated_twice, mode=mode).contiguous()
    count, channels, *sizes = padded.shape
    outer, inner, *steps = padded.stride()
    places = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(sizes, module.kernel_size, module.stride, module.dilation)
    ]
    windows = padded.as_strided(
        (count, *places, channels, *module.kernel_size),
        (
            outer,
            *(step * s for step, s in zip(steps, module.stride)),
            inner,
            *(step * d for step, d in zip(steps, module.dilation)),
        ),
    )
    return windows.reshape(count, -1, module.groups, windows[0].numel() // _product(places) // module.groups)


def _product(sizes: list[int]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total
