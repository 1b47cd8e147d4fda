"""The best words of each hypothesis, in an order that does not depend on how a sort treats equal values."""

from __future__ import annotations

import torch
from torch import Tensor

from fingerpost.errors import NumericalError

DEPTH = 12
"""Values of a column: see `_largest`."""
CHUNK = 2**18
"""Numbers whose exponentials are held at a time: as many as a processor's own cache has room for."""
SAFE = 60.0
"""Exponentials of up to this can be added up for any vocabulary in 32 bits, and so can those of its negative."""


def best_words(
    scores: Tensor, count: int, excluded: Tensor, eos: int, barred: Tensor | None, *, logits: bool = False
) -> tuple[Tensor, Tensor]:
    """The `count` best words of each row, best first, equal ones by id; fewer columns in a smaller vocabulary.

    Excluded words are left out after a few more than `count` were fetched: that reads the scores once and copies
    none of them, and the tensor that a step function gave stays as it was.

    Args:
      scores: Log-probabilities, (N, V).
      count: How many are wanted.
      excluded: Ids that no hypothesis takes, (E,), each once.
      eos: The end of a sentence.
      barred: Rows that may not end yet, (N,); None where all may.
      logits: Whether the scores are logits, so that what makes them log-probabilities is taken off those that are found.

    Returns:
      Log-probabilities, of logits in 64 bits, and words (N, count); −∞ where no word is left.

    Raises:
      NumericalError: If a row has NaN or ∞.
    """
    vocabulary = scores.shape[1]
    count = min(count, vocabulary)
    fetched = min(vocabulary, count + len(excluded) + 2)
    values, words = _largest(scores, fetched)  # NaN counts as the largest, so that it shows here
    mass = _log_mass(scores, values[:, :1]) if logits else None
    _check_values(values[:, 0] if mass is None else values[:, 0] - mass[:, 0])
    # where the count-th allowed word ties with the last one fetched, the choice among equals was topk's
    last = values[:, -1]
    values, words = _ranked(values, words, excluded, eos, barred)
    values, words = values[:, :count], words[:, :count]
    rows = ((values[:, -1] <= last) & (last > -torch.inf)).nonzero().flatten()
    if fetched < vocabulary and len(rows):
        every = torch.arange(vocabulary, device=words.device).expand(len(rows), -1)
        some = None if barred is None else barred.index_select(0, rows)
        exact = _ranked(scores.index_select(0, rows), every, excluded, eos, some)
        values = values.index_copy(0, rows, exact[0][:, :count])
        words = words.index_copy(0, rows, exact[1][:, :count])
    return values if mass is None else values - mass, words


def _largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As `topk`, in half its time on rows of a vocabulary: the largest are in the `count` columns of largest maxima.

    A column is every `width`-th value: taking maxima across rows of memory is what a processor does fastest.
    """
    width = values.shape[1] // DEPTH
    if width < 4 * count:
        return values.topk(count, dim=1)
    columns = values[:, : width * DEPTH].unflatten(1, (DEPTH, width)).amax(1).topk(count, dim=1).indices
    deep = torch.arange(0, width * DEPTH, width, device=values.device)
    rest = torch.arange(width * DEPTH, values.shape[1], device=values.device).expand(len(values), -1)
    where = torch.cat([(columns[:, :, None] + deep).flatten(1), rest], 1)
    found, order = values.gather(1, where).topk(count, dim=1)
    return found, where.gather(1, order)


def _ranked(
    values: Tensor, words: Tensor, excluded: Tensor, eos: int, barred: Tensor | None
) -> tuple[Tensor, Tensor]:
    """All of them, what is forbidden last with −∞."""
    words, order = words.sort(dim=1)
    values = values.gather(1, order)
    forbidden = torch.isin(words, excluded)
    if barred is not None:
        forbidden |= barred[:, None] & (words == eos)
    values, order = values.masked_fill(forbidden, -torch.inf).sort(dim=1, descending=True, stable=True)
    return values, words.gather(1, order)


def _log_mass(logits: Tensor, top: Tensor) -> Tensor:
    """Log Σ exp of each row in 64 bits, (N, 1); `top` (N, 1) are the rows' largest. Few rows are copied at a time."""
    if logits.dtype not in (torch.float32, torch.float64):
        logits, top = logits.float(), top.float()
    safe, mass = bool((top.abs() <= SAFE).all()), torch.empty_like(top)
    some = max(1, CHUNK // logits.shape[1]) if logits.device.type == "cpu" else len(logits)
    room = logits.new_empty(min(some, len(logits)), logits.shape[1])
    for rows, largest, found in zip(logits.split(some), top.split(some), mass.split(some)):
        held = room[: len(rows)]
        odds = torch.exp(rows, out=held) if safe else torch.sub(rows, largest, out=held).exp_()
        torch.sum(odds, 1, keepdim=True, out=found)
    return mass.double().log_() if safe else mass.double().log_().add_(top)


def _check_values(largest: Tensor) -> None:
    """Of each row, (N,)."""
    wrong = ~(largest < torch.inf)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise NumericalError(
            f"the step function gave hypothesis {row} a log-probability of {float(largest[row])}; "
            "a word's is a number or −∞: is the model's training sound?"
        )
