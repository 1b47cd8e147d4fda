"""Sentences of a batch without their padding: step by step, the longest first."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class Packing(NamedTuple):
    """Where the N words of a batch (B, L) lie when each step has the words of those sentences that are still there.

    Args:
      order: The sentences, longest first, (B,).
      slices: The words of each step among all N.
      at: Each word's place in the flattened batch, (N,).
      sentence: Each word's sentence, counted in `order`, (N,).
    """

    order: Tensor
    slices: list[slice]
    at: Tensor
    sentence: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> Packing:
        """The packing of what is True in a mask (B, L), whose rows are True first and False then."""
        rows, longest = mask.shape
        lengths, order = mask.sum(1).sort(descending=True, stable=True)
        there = lengths > torch.arange(longest, device=mask.device).unsqueeze(1)
        counts = [count for count in there.sum(1).tolist() if count]
        slices = [slice(end - count, end) for end, count in zip(accumulate(counts), counts)]
        index = there.flatten().nonzero().flatten()
        sentence = index % rows
        at = order.index_select(0, sentence) * longest + torch.div(index, rows, rounding_mode="floor")
        return cls(order, slices, at, sentence)

    def last(self) -> Tensor:
        """Where the last word of each sentence lies among the N, (B,), sentences counted in `order`."""
        found = torch.empty_like(self.order)
        for rows in self.slices:  # later steps write over earlier ones
            found[: rows.stop - rows.start] = torch.arange(rows.start, rows.stop, device=found.device)
        return found

    def following(self) -> Tensor:
        """Where the word after each lies among the N, (N,); the last of a sentence is followed by itself."""
        found = torch.arange(len(self.at), device=self.at.device)
        for rows, after in zip(self.slices, self.slices[1:]):
            count = after.stop - after.start
            found[rows.start : rows.start + count] = torch.arange(
                after.start, after.stop, device=found.device
            )
        return found

    def unpack(self, values: Tensor, shape: torch.Size) -> Tensor:
        """Values of the N words back in a batch (B, L, …), 0 at padding; `shape` is (B, L)."""
        room = values.new_zeros(shape.numel(), *values.shape[1:])
        return room.index_copy(0, self.at, values).unflatten(0, shape)
