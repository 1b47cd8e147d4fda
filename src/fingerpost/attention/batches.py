"""Batches of pairs with little padding, each determined by the seed and the step alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fingerpost.attention.segmenters import AbstractSegmenter
from fingerpost.attention.text import ParallelText
from fingerpost.attention.vocabulary import EOS, PAD
from fingerpost.errors import InvalidValueError, ShapeError


class Batch(NamedTuple):
    """Ids of source (B, S) and target (B, T), int64, padded with PAD, and which pairs they are, (B,), int64."""

    source: Tensor
    target: Tensor
    rows: Tensor


class _Side:
    """Sentences of ids, end to end in one array."""

    def __init__(self, name: str, sentences: Sequence[Sequence[int]]) -> None:
        for number, ids in enumerate(sentences, 1):
            if not len(ids) or ids[-1] != EOS:
                raise InvalidValueError(f"{name} sentence {number} does not end in EOS ({EOS})")
        self.lengths = np.array([len(ids) for ids in sentences], dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.ids = np.concatenate([np.asarray(ids, dtype=np.int32) for ids in sentences])

    def padded(self, rows: np.ndarray) -> Tensor:
        """Ids (B, longest)."""
        lengths = self.lengths[rows, None]
        place = np.arange(lengths.max())
        at = np.minimum(self.starts[rows, None] + place, len(self.ids) - 1)
        return torch.from_numpy(np.where(place < lengths, self.ids[at], PAD).astype(np.int64))


class EncodedPairs:
    """Pairs of sentences as ids, each ending in EOS: what batches are made of.

    Args:
      source: n lists of ids.
      target: n lists of ids.

    Raises:
      ShapeError: If the two differ in number.
      InvalidValueError: If there are none, or one does not end in EOS.
    """

    def __init__(self, source: Sequence[Sequence[int]], target: Sequence[Sequence[int]]) -> None:
        if len(source) != len(target):
            raise ShapeError(f"source has {len(source)} sentences and target {len(target)}; expected as many")
        if not len(source):
            raise InvalidValueError("there are no pairs to make batches of")
        self._source, self._target = _Side("source", source), _Side("target", target)

    @classmethod
    def encode(
        cls,
        text: ParallelText,
        source: AbstractSegmenter,
        target: AbstractSegmenter,
        *,
        limit: int | None = None,
    ) -> EncodedPairs:
        """The ids of a text.

        Args:
          text: The pairs.
          source: Segmenter of the source lines.
          target: Segmenter of the target lines.
          limit: Most ids of a sentence, EOS apart; None for any number.

        Raises:
          InvalidValueError: If a sentence is longer than the limit; the message names it, counted from 1.
        """
        sides = [source.encode(line) for line in text.source], [target.encode(line) for line in text.target]
        if limit is not None:
            for name, side in zip(("source", "target"), sides):
                long = [i for i, ids in enumerate(side) if len(ids) - 1 > limit]
                if long:
                    raise InvalidValueError(
                        f"{name} sentence {long[0] + 1} has {len(side[long[0]]) - 1} pieces and the limit is {limit}; "
                        f"{len(long)} sentences are longer: raise the limit, or leave them out "
                        f"by ParallelText.filtered({limit}, length=…)"
                    )
        return cls(*sides)

    def __len__(self) -> int:
        return len(self._source.lengths)

    @property
    def source_lengths(self) -> np.ndarray:
        """Number of source ids of each pair, EOS among them, (n,)."""
        return self._source.lengths

    @property
    def target_lengths(self) -> np.ndarray:
        """Number of target ids of each pair, EOS among them, (n,)."""
        return self._target.lengths

    def batch(self, rows: Sequence[int] | np.ndarray) -> Batch:
        """The pairs at `rows`, in this order, padded to the longest.

        Raises:
          InvalidValueError: If there are no rows, or one is not in 0 … n − 1.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        if not chosen.size or chosen.min() < 0 or chosen.max() >= len(self):
            raise InvalidValueError(
                f"rows must be at least one of 0 to {len(self) - 1}; got {list(chosen[:5])}"
            )
        return Batch(self._source.padded(chosen), self._target.padded(chosen), torch.from_numpy(chosen))


class Batches:
    """The batches of a training: of sentences alike in length, drawn anew in each epoch.

    An epoch visits each pair once, in an order that (seed, epoch) determines. `sorted_batches` batches are read at once,
    sorted by length and cut, as in Bahdanau, Cho and Bengio (2014), appendix B.2, https://arxiv.org/abs/1409.0473; the order of
    the batches is then drawn too, so that a training does not swing between short and long. What step k sees depends on the
    seed and k alone: a training that goes on sees what it would have seen. Hand the object itself to `fingerpost.lab.train`.

    Args:
      pairs: The pairs.
      size: Sentences of a batch; or
      tokens: Most ids of a batch on its longer side, padding among them, so that memory is bounded. A longer sentence is a
        batch of its own.
      sorted_batches: Batches that are sorted by length together; 1 sorts nothing across batches.
      seed: Seeds the order, at least 0.

    Raises:
      InvalidValueError: If not one of `size` and `tokens` is given, or a number is out of range.

    >>> pairs = EncodedPairs([[4, 3], [4, 5, 6, 3], [5, 3], [6, 6, 3]], [[7, 3], [7, 8, 3], [8, 3], [3]])
    >>> batches = Batches(pairs, size=2, seed=0)
    >>> batches.steps(0), sorted(torch.cat([batches(0).rows, batches(1).rows]).tolist())
    (2, [0, 1, 2, 3])
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        *,
        size: int | None = None,
        tokens: int | None = None,
        sorted_batches: int = 20,
        seed: int = 0,
    ) -> None:
        if (size is None) == (tokens is None):
            raise InvalidValueError(f"size is {size} and tokens {tokens}; give one of the two")
        for name, number in {"size": size, "tokens": tokens, "sorted_batches": sorted_batches}.items():
            if number is not None and number < 1:
                raise InvalidValueError(f"{name} is {number}; it must be at least 1")
        if seed < 0:
            raise InvalidValueError(f"seed is {seed}; it must be at least 0")
        self.pairs, self.size, self.tokens = pairs, size, tokens
        self.sorted_batches, self.seed = sorted_batches, seed
        self._first = [0]  # the step that each epoch begins with, as far as they were counted
        self._plans: dict[int, list[np.ndarray]] = {}  # of the two epochs asked for last

    def __call__(self, step: int) -> Batch:
        """The batch of a step 0, 1, 2, …, over all epochs."""
        epoch, place = self.place(step)
        return self.pairs.batch(self._plan(epoch)[place])

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and its place in it, both from 0.

        Raises:
          InvalidValueError: If the step is below 0.
        """
        if step < 0:
            raise InvalidValueError(f"step is {step}; it must be at least 0")
        while self._first[-1] <= step:
            self._first.append(self._first[-1] + self.steps(len(self._first) - 1))
        epoch = bisect_right(self._first, step) - 1
        return epoch, step - self._first[epoch]

    def steps(self, epoch: int = 0) -> int:
        """Number of batches of an epoch: the same in all with `size`, almost the same with `tokens`."""
        if self.size is not None:
            return -(-len(self.pairs) // self.size)
        return len(self._plan(epoch))

    def epoch(self, epoch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch."""
        for rows in self._plan(epoch):
            yield self.pairs.batch(rows)

    def _plan(self, epoch: int) -> list[np.ndarray]:
        """The rows of each batch of an epoch, made once."""
        if epoch not in self._plans:
            self._plans = dict([*self._plans.items(), (epoch, self._planned(epoch))][-2:])
        return self._plans[epoch]

    def _planned(self, epoch: int) -> list[np.ndarray]:
        if epoch < 0:
            raise InvalidValueError(f"epoch is {epoch}; it must be at least 0")
        draw = np.random.default_rng((self.seed, epoch))
        order = draw.permutation(len(self.pairs))
        batches = [cut for pool in self._pools(order) for cut in self._cut(pool)]
        return [batches[i] for i in draw.permutation(len(batches))]

    def _pools(self, order: np.ndarray) -> list[np.ndarray]:
        """Parts of an order, each as much as `sorted_batches` batches hold."""
        if self.size is not None:
            at = np.arange(self.size * self.sorted_batches, len(order), self.size * self.sorted_batches)
            return np.split(order, at)
        assert self.tokens is not None
        longer = np.maximum(self.pairs.source_lengths, self.pairs.target_lengths)[order]
        pool = (np.cumsum(longer) - longer) // (self.tokens * self.sorted_batches)
        return np.split(order, np.flatnonzero(np.diff(pool)) + 1)

    def _cut(self, pool: np.ndarray) -> list[np.ndarray]:
        """One pool's batches, sorted by target and then source length; ties stay as drawn."""
        target, source = self.pairs.target_lengths[pool], self.pairs.source_lengths[pool]
        if self.sorted_batches > 1:
            by = np.lexsort((source, target))
            pool, target, source = pool[by], target[by], source[by]
        if self.size is not None:
            return np.split(pool, np.arange(self.size, len(pool), self.size))
        assert self.tokens is not None
        starts, longest = [], 0
        for i, length in enumerate(np.maximum(source, target).tolist()):
            longest = max(longest, length)
            if starts and longest * (i - starts[-1] + 1) > self.tokens:
                starts.append(i)
                longest = length
            elif not starts:
                starts.append(0)
        return np.split(pool, starts[1:])


def batches(
    pairs: EncodedPairs,
    *,
    size: int | None = None,
    tokens: int | None = None,
    seed: int = 0,
    epoch: int = 0,
    sorted_batches: int = 20,
) -> Iterator[Batch]:
    """The batches of one epoch: see `Batches`."""
    return Batches(pairs, size=size, tokens=tokens, seed=seed, sorted_batches=sorted_batches).epoch(epoch)


def batches_in_order(pairs: EncodedPairs, *, size: int) -> Iterator[Batch]:
    """Every pair once, the longest source first, for an evaluation; `rows` says which each is.

    Raises:
      InvalidValueError: If `size` is below 1.
    """
    if size < 1:
        raise InvalidValueError(f"size is {size}; it must be at least 1")
    order = np.lexsort((-pairs.target_lengths, -pairs.source_lengths))
    for start in range(0, len(order), size):
        yield pairs.batch(order[start : start + size])
