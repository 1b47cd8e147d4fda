"""A small U-Net for pictures of 8×8 to 64×64 pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.flow.nets.embedding import ClassEmbedding, TimeEmbedding, check_rows


class UNet(nn.Module):
    r"""A velocity field on pictures: residual blocks at falling and rising resolution, joined by skips.

    Each block is x + conv(silu(norm(conv(silu(norm(x))) · (1 + s) + b))), where s and b come from the embedding of time
    and class. At the lowest resolution one block of self-attention sees the whole picture. The last layer starts at
    zero, and with it the field.

    Args:
      shape: Channels, rows and columns of a picture.
      channels: Channels at full resolution, divisible by 8.
      multipliers: Channels at each resolution, as multiples; each further one halves rows and columns (rounded up).
      blocks: Residual blocks at each resolution, on the way down and on the way up.
      classes: The condition is one of so many classes; class number `classes` (or None) means "no class".
      dropout: Fraction of each block's units that training drops.

    >>> net = UNet((1, 8, 8), channels=8, classes=10)
    >>> net(torch.tensor(0.5), torch.zeros(2, 1, 8, 8), torch.tensor([0, 10])).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        *,
        classes: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _check(shape, channels, multipliers, blocks)
        self.event_shape, self.null = tuple(shape), classes
        width = 4 * channels
        self.time = TimeEmbedding(width)
        self.condition = None if classes is None else ClassEmbedding(classes, width)
        self.first = nn.Conv2d(shape[0], channels, 3, padding=1)
        sizes = [channels * m for m in multipliers]
        self.down, skips = self._way_down(sizes, blocks, width, dropout)
        self.middle = nn.ModuleList(
            [_Block(sizes[-1], sizes[-1], width, dropout), _Attention(sizes[-1]), _Block(sizes[-1], sizes[-1], width, dropout)]
        )  # fmt: skip
        self.up = self._way_up(sizes, blocks, width, dropout, skips)
        self.norm, self.last = nn.GroupNorm(8, channels), nn.Conv2d(channels, shape[0], 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # pyright: ignore[reportArgumentType]

    @staticmethod
    def _way_down(
        sizes: list[int], blocks: int, width: int, dropout: float
    ) -> tuple[nn.ModuleList, list[int]]:
        layers, skips, now = nn.ModuleList(), [sizes[0]], sizes[0]
        for level, size in enumerate(sizes):
            if level:
                layers.append(nn.Conv2d(now, now, 3, stride=2, padding=1))
                skips.append(now)
            for _ in range(blocks):
                layers.append(_Block(now, size, width, dropout))
                now = size
                skips.append(now)
        return layers, skips

    @staticmethod
    def _way_up(sizes: list[int], blocks: int, width: int, dropout: float, skips: list[int]) -> nn.ModuleList:
        layers, now, skips = nn.ModuleList(), sizes[-1], list(skips)
        for level in reversed(range(len(sizes))):
            for _ in range(blocks + 1):
                layers.append(_Block(now + skips.pop(), sizes[level], width, dropout))
                now = sizes[level]
            if level:
                layers.append(nn.Conv2d(now, now, 3, padding=1))
        return layers

    def forward(self, t: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The velocity at (t, x).

        Args:
          t: Times, shape () or (B,).
          x: Pictures, shape (B, channels, rows, columns).
          condition: Classes, shape () or (B,); None means "no class".

        Returns:
          Velocities, of x's shape.

        Raises:
          ShapeError: If the rows do not agree, or the network takes no condition.
        """
        check_rows(t, x, condition, self.event_shape)
        embedding = self.time(t)
        if self.condition is not None:
            embedding = embedding + self.condition(condition)
        elif condition is not None:
            raise ShapeError("a condition is given; this network was built without: UNet(…, classes=K)")
        embedding = nn.functional.silu(embedding)
        h = self.first(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding) if isinstance(layer, _Block) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, embedding) if isinstance(layer, _Block) else layer(h)
        for layer in self.up:
            if isinstance(layer, _Block):
                h = layer(torch.cat([h, skips.pop()], 1), embedding)
            else:  # to the size of the skip that comes next: 7 → 14, and 4 → 7 where a size was odd
                h = layer(nn.functional.interpolate(h, size=skips[-1].shape[-2:], mode="nearest"))
        return self.last(nn.functional.silu(self.norm(h)))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.film = nn.Linear(width, 2 * outputs)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, 1)
        h = self.conv1(nn.functional.silu(self.norm1(x)))
        h = nn.functional.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        return self.skip(x) + self.conv2(self.dropout(h))


class _Attention(nn.Module):
    """x + W softmax(q kᵀ/√c) v over the pixels, one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.qkv = nn.GroupNorm(8, channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, 2)
        mixed = torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, -1) @ v
        return x + self.out(mixed.transpose(1, 2).reshape(x.shape))


def _check(shape: Sequence[int], channels: int, multipliers: Sequence[int], blocks: int) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise InvalidValueError(f"shape is {tuple(shape)}; expected (channels, rows, columns)")
    if channels < 8 or channels % 8:
        raise InvalidValueError(f"channels is {channels}; expected a multiple of 8")
    if not multipliers or min(multipliers) < 1 or blocks < 1:
        raise InvalidValueError(
            f"multipliers is {tuple(multipliers)} and blocks {blocks}; expected at least one, each at least 1"
        )
    if min(shape[1:]) < 2 ** (len(multipliers) - 1):
        raise InvalidValueError(
            f"{len(multipliers)} resolutions do not fit into {shape[1]}×{shape[2]} pixels; give fewer multipliers"
        )
