"""What attention does: how sharp it is, whether it reads in order, what it misses, and how often it is right."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError


def alignment_entropy(weights: Tensor, *, source_lengths: Tensor | None = None) -> Tensor:
    r"""Mean entropy of the target words' weights, in nats: 0 looks at one word, log S at all alike.

    $\frac1T \sum_i -\sum_j α_{ij} \log α_{ij}$ over the target words of each sentence.

    Args:
      weights: α, shape (…, T, S), rows that sum to 1; rows of zeros are padding, as `RNNSearch.alignments` gives them.
      source_lengths: Number of source words of each sentence, (…): divides by its logarithm, so that 1 is the most; a
        sentence of one word has 0.

    Returns:
      Shape (…).

    Raises:
      InvalidTypeError: If weights are no floating-point tensor.
      ShapeError: If a shape does not fit.
      InvalidValueError: If a row is no distribution, or a sentence has no target word.

    >>> alignment_entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), source_lengths=torch.tensor(2)).item()
    0.5
    """
    filled = _check(weights)
    entropy = _mean(torch.special.entr(weights).sum(-1), filled)
    if source_lengths is None:
        return entropy
    if source_lengths.shape != weights.shape[:-2]:
        raise ShapeError(
            f"source_lengths has shape {tuple(source_lengths.shape)}; expected {tuple(weights.shape[:-2])}"
        )
    most = source_lengths.to(weights).log()
    return torch.where(most > 0, entropy / most, 0)


def monotonicity(weights: Tensor) -> Tensor:
    r"""Whether the source is read in order: 1 for left to right, −1 for right to left, 0 for no order.

    $\tau = \frac{2}{T(T-1)} \sum_{i<k} P(j_i < j_k) - P(j_i > j_k)$ with $j_i \sim α_i$ drawn apart: Kendall's τ between the
    target words and the source words that they look at, in expectation over the weights, so that it needs no largest weight.
    Two words that look at one source word count 0.

    Args:
      weights: α, shape (…, T, S): see `alignment_entropy`.

    Returns:
      Shape (…); NaN where a sentence has one target word.

    Raises:
      InvalidTypeError, ShapeError, InvalidValueError: As in `alignment_entropy`.

    >>> monotonicity(torch.eye(4)).item(), monotonicity(torch.eye(4).flip(0)).item()
    (1.0, -1.0)
    """
    words = _check(weights).sum(-1)
    upto = weights.cumsum(-1)
    before, after = upto - weights, upto[..., -1:] - upto  # P(j_i < j) and P(j_i > j)
    order = ((before - after) @ weights.mT).triu(1).sum((-2, -1))
    return order / (words * (words - 1) / 2)


class Coverage(NamedTuple):
    """How a source was looked at.

    Args:
      received: Attention that each source word had from all target words, Σ_i α_ij, (…, S).
      missed: Mean over source words of what it lacks to 1, in [0, 1], (…).
      repeated: Mean over source words of what it has beyond 1, (…).
    """

    received: Tensor
    missed: Tensor
    repeated: Tensor


def coverage(weights: Tensor, *, source_mask: Tensor | None = None) -> Coverage:
    """How much of each source word was read: 1 each where words translate one to one.

    Args:
      weights: α, shape (…, T, S): see `alignment_entropy`.
      source_mask: True where there is a source word, (…, S); all unless given.

    Raises:
      InvalidTypeError, ShapeError, InvalidValueError: As in `alignment_entropy`, or if a sentence has no source word.

    >>> found = coverage(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    >>> found.received.tolist(), found.missed.item(), found.repeated.item()
    ([2.0, 0.0], 0.5, 0.5)
    """
    _check(weights)
    received = weights.sum(-2)
    mask = torch.ones_like(received, dtype=torch.bool) if source_mask is None else source_mask
    if mask.shape != received.shape or mask.dtype != torch.bool:
        raise ShapeError(
            f"source_mask is {mask.dtype} of shape {tuple(mask.shape)}; expected bool of {tuple(received.shape)}"
        )
    if not mask.any(-1).all():
        raise InvalidValueError("source_mask has a sentence without a word")
    return Coverage(
        received, _mean((1 - received).clamp_min(0), mask), _mean((received - 1).clamp_min(0), mask)
    )


class AlignmentScore(NamedTuple):
    """Attention against a known alignment.

    Args:
      error: Share of target words whose largest weight is not on their source word, in [0, 1], (…).
      mass: Mean weight on the right source word, in [0, 1], (…).
    """

    error: Tensor
    mass: Tensor


def alignment_error(weights: Tensor, positions: Tensor) -> AlignmentScore:
    """How often attention is wrong where the true alignment is known, such as a permutation.

    A largest weight that another source word has too counts as wrong, so that attention to all alike is no hit.

    Args:
      weights: α, shape (…, T, S): see `alignment_entropy`.
      positions: The source position of each target word, from 0, int64 (…, T); −1 for words that are not scored, such as the
        end and padding.

    Raises:
      InvalidTypeError: If weights are not floating-point, or positions not int64.
      ShapeError: If positions do not fit weights.
      InvalidValueError: If a position is beyond the source, is of padding, or a sentence has none.

    >>> weights = torch.tensor([[0.1, 0.9], [0.4, 0.6]])
    >>> error, mass = alignment_error(weights, torch.tensor([1, 0]))
    >>> error.item(), round(mass.item(), 2)
    (0.5, 0.65)
    """
    filled = _check(weights)
    if not isinstance(positions, Tensor) or positions.dtype != torch.int64:
        raise InvalidTypeError("positions must be an int64 tensor of source positions, −1 for none")
    if positions.shape != weights.shape[:-1]:
        raise ShapeError(
            f"positions has shape {tuple(positions.shape)}; expected {tuple(weights.shape[:-1])}"
        )
    scored = positions >= 0
    if positions.min() < -1 or positions.max() >= weights.shape[-1]:
        raise InvalidValueError(
            f"positions go from {int(positions.min())} to {int(positions.max())}; a source of {weights.shape[-1]} has "
            f"positions 0 to {weights.shape[-1] - 1}, and −1 is none"
        )
    if (scored & ~filled).any() or not scored.any(-1).all():
        raise InvalidValueError("positions scores padding, or scores no word of a sentence")
    right = weights.gather(-1, positions.clamp_min(0)[..., None])
    hit = (weights >= right).sum(-1) == 1
    return AlignmentScore(1 - _mean(hit.to(weights), scored), _mean(right[..., 0], scored))


def _check(weights: Tensor) -> Tensor:
    """Which target rows are no padding, (…, T)."""
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        raise InvalidTypeError("weights must be a floating-point tensor of shape (…, T, S)")
    if weights.ndim < 2 or not weights.numel():
        raise ShapeError(f"weights has shape {tuple(weights.shape)}; expected (…, T, S), all at least 1")
    totals = weights.sum(-1)
    filled = (weights != 0).any(-1)
    room = 1e-3 if weights.dtype in (torch.float32, torch.float64) else 0.05
    wrong = filled & ~((totals - 1).abs() <= room) | (weights < 0).any(-1)
    if wrong.any():
        place = wrong.nonzero()[0].tolist()
        raise InvalidValueError(
            f"weights has a row at {tuple(place)} that is no distribution: it sums to {float(totals[tuple(place)]):.4g}; rows "
            "must be at least 0 and sum to 1, or be all 0 at padding"
        )
    if not filled.any(-1).all():
        raise InvalidValueError("weights has a sentence without a target word: all of its rows are 0")
    return filled


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of the last axis where the mask holds."""
    return torch.where(mask, values, 0).sum(-1) / mask.sum(-1)
