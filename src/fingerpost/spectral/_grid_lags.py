"""Values of a stationary kernel at the lags of a grid, and products with the matrices that they fill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from fingerpost.spectral._relu_recursion import dense, gains, relu_kernels
from fingerpost.spectral.encodings import FourierFeatures

_NEAR = 1e-3
"""Below this share of ‖a‖² a distance is summed of sines, where 1 − cos would lose digits."""
_BLOCK = 2**21
"""Phases at a time."""


@dataclass(frozen=True)
class Architecture:
    """The settings of the network whose kernel it is, and which of its kernels."""

    depth: int
    weight_std: float
    bias_std: float
    output_scale: float
    kind: str
    width: int | None = None


def kernel_at(
    encoding: FourierFeatures, network: Architecture, lags: Sequence[Tensor], periodic: bool
) -> Tensor:
    """The kernel at all combinations of lags, one float64 tensor of offsets for each axis, shape (L₁, …, L_d).

    `periodic`: the lags are whole steps of a grid on which every frequency makes whole turns.
    """
    B, weights = encoding.B.double(), encoding.a.double().square()
    used = weights > 0
    B, weights = B[used], weights[used]
    total = weights.sum()
    deficit = total - (_similarity_fft if periodic else _similarity)(B, weights, lags)
    deficit = _refine(deficit, total, B, weights, lags)
    determinant, gap = deficit * (2 * total - deficit), 2 * deficit
    first = dense(total, total, determinant, gap, encoding.features, network.weight_std, network.bias_std)
    gain = gains(encoding.features, network.width, network.weight_std, network.bias_std)
    both = relu_kernels(first, network.depth, network.weight_std, network.bias_std, gain)
    return network.output_scale**2 * both[network.kind == "ntk"]


def _similarity(B: Tensor, weights: Tensor, lags: Sequence[Tensor]) -> Tensor:
    """Σ a² cos 2π b·δ, by one product of matrices."""
    waves = []
    for axis, offsets in enumerate(lags):
        cycles = B[:, axis, None] * offsets
        phase = 2 * math.pi * (cycles - cycles.round())
        waves.append(torch.polar(torch.ones_like(phase), phase))
    if len(waves) == 1:
        return waves[0].real.T @ weights
    first = reduce(lambda rows, wave: (rows[:, :, None] * wave[:, None]).flatten(1), waves[:-1])
    left, last = weights[:, None] * first, waves[-1]
    product = left.real.T @ last.real - left.imag.T @ last.imag
    return product.reshape([len(offsets) for offsets in lags])


def _similarity_fft(B: Tensor, weights: Tensor, lags: Sequence[Tensor]) -> Tensor:
    """The same where every frequency has its place in the discrete spectrum of the grid."""
    shape = [len(offsets) for offsets in lags]
    index = torch.zeros(len(B), dtype=torch.long, device=B.device)
    for axis, (n, offsets) in enumerate(zip(shape, lags)):
        step = offsets[1] if n > 1 else offsets[0]
        index = index * n + (B[:, axis] * step * n).round().long() % n
    spectrum = torch.zeros(math.prod(shape), dtype=torch.float64, device=B.device)
    spectrum.index_add_(0, index, weights)
    return torch.fft.fftn(spectrum.reshape(shape)).real


def _refine(deficit: Tensor, total: Tensor, B: Tensor, weights: Tensor, lags: Sequence[Tensor]) -> Tensor:
    """Replaces small Σ a² (1 − cos 2π b·δ) by 2 Σ a² sin² π b·δ."""
    near = (deficit < _NEAR * total).nonzero()
    values = []
    for part in near.split(max(1, _BLOCK // len(B))):
        offsets = torch.stack([axis[part[:, i]] for i, axis in enumerate(lags)], 1)
        cycles = offsets @ B.T
        values.append(2 * (math.pi * (cycles - cycles.round())).sin().square() @ weights)
    if values:
        deficit[tuple(near.T)] = torch.cat(values)
    return deficit.clamp(min=0)


def embedding_size(n: int, m: int, wraps: bool) -> int:
    """A quick FFT length in which lags from −(n − 1) to m − 1 are apart; n itself on an axis that wraps."""
    if wraps:
        return n
    size = n + m - 1
    while _rest(size) > 1:
        size += 1
    return size


def _rest(size: int) -> int:
    for prime in (2, 3, 5):
        while size % prime == 0:
            size //= prime
    return size


class LagMatrix:
    """The matrix k(s + (i − j) h), i on the grid `rows` and j on `columns`, as a convolution.

    Args:
      table: Its values by lag modulo the size of the table, float64, shape (L₁, …, L_d).
      rows: Grid of the results.
      columns: Grid of the arguments.
    """

    def __init__(self, table: Tensor, rows: tuple[int, ...], columns: tuple[int, ...]) -> None:
        self.size, self.rows, self.columns = tuple(table.shape), rows, columns
        self.axes = tuple(range(-len(self.size), 0))
        self.spectrum = torch.fft.rfftn(table, dim=self.axes)

    def __matmul__(self, v: Tensor) -> Tensor:
        """Products with (…, *columns), shape (…, *rows)."""
        product = self.spectrum * torch.fft.rfftn(v, s=self.size, dim=self.axes)
        whole = torch.fft.irfftn(product, s=self.size, dim=self.axes)
        return whole[(..., *(slice(n) for n in self.rows))]


def folded(table: Tensor, shape: tuple[int, ...], wraps: tuple[bool, ...]) -> Tensor:
    """The circulant nearest in Frobenius norm to the Toeplitz matrix of a table of lags: its values, shape `shape`.

    T. Chan (1988), An optimal circulant preconditioner for Toeplitz systems, https://doi.org/10.1137/0909051, for each
    axis; it is positive definite where the matrix is.
    """
    for axis, (n, whole) in enumerate(zip(shape, wraps)):
        if whole:
            continue
        size = table.shape[axis]
        lag = torch.arange(n, device=table.device)
        ahead = (1 - lag / n).double().reshape([-1 if i == axis else 1 for i in range(table.ndim)])
        behind = table.index_select(axis, (lag - n) % size)
        table = ahead * table.index_select(axis, lag) + (1 - ahead) * behind
    return table
