"""Beam search over any step function, all sentences and hypotheses of a batch at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from fingerpost.attention._checks import check_sizes
from fingerpost.attention._search_trace import Trace
from fingerpost.attention._search_words import best_words
from fingerpost.attention.vocabulary import BOS, EOS
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError

StateT = TypeVar("StateT", bound="SearchState")


class SearchState(Protocol):
    """What a step function carries from word to word."""

    def select(self: StateT, rows: Tensor) -> StateT:
        """The state of hypotheses `rows` (int64), which may repeat."""
        ...


Step = Callable[[StateT, Tensor], tuple[Tensor, StateT, "Tensor | None"]]
Limit = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One output of a search.

    Args:
      ids: Its words; the last is the end of the sentence if it is complete.
      score: Σ log p of these words.
      alignment: The weights (words, S) that the step function gave on the way; None where it gives none.
      complete: Whether it ended; otherwise it was cut at `max_length`.
    """

    ids: tuple[int, ...]
    score: float
    alignment: Tensor | None
    complete: bool


@dataclass(frozen=True)
class _Rules:
    width: int
    eos: int
    bos: int
    shrink: bool
    exclude: tuple[int, ...]
    logits: bool


@torch.no_grad()
def beam_search(
    step: Step[StateT],
    initial_state: StateT,
    batch: int,
    *,
    width: int,
    max_length: Limit,
    eos: int = EOS,
    bos: int = BOS,
    shrink: bool = True,
    exclude: Collection[int] = (),
    normalize: Literal[False, "length"] = False,
    minimum_length: Limit | None = None,
    retry: bool | Collection[int] = False,
    logits: bool = False,
    device: torch.device | str | None = None,
) -> list[list[Hypothesis]]:
    r"""Looks for the outputs y of largest $\sum_i \log p(y_i \mid y_1 \dots y_{i-1})$ among few hypotheses of each sentence.

    Every step, the continuations of a sentence's hypotheses by one word are ordered by their sum of log-probabilities.

    - ``shrink=True``: the s best are kept; those that end are taken out, and s shrinks by one for each, until it is zero.
      Cho et al. (2014), On the properties of neural machine translation, https://arxiv.org/abs/1409.1259, on beam search.
      An output costs a place, so that what has not ended is searched ever more narrowly.
    - ``shrink=False``: the usual beam. An output is a hypothesis that ends among the `width` best, but it takes no place: the
      `width` best that have not ended go on, as long as they are above the `width`-th best output.

    Both stop at `max_length`. ``width=1`` is greedy. Equal sums are ordered by hypothesis, then by word, so that a result
    does not depend on what else is in the batch. A wider beam need not find a better output: other beginnings may push out
    the one that the narrow beam went on with. With ``shrink=False`` it is never worse where a word's log-probability
    depends on its place alone; with either rule the best output is found once the beam has room for everything.

    The code of Bahdanau, Cho and Bengio (2014) has options that the paper does not mention, off here by default: a
    minimum length of |x|/2, a maximum of 3|x|, division by the length, and a second try with unknown words allowed
    (https://github.com/lisa-groundhog/GroundHog, experiments/nmt/sample.py).

    Nothing is recorded for autograd.

    Args:
      step: From a state and the last words (N,) of N hypotheses to log-probabilities (N, V), the state to go on from, and
        weights (N, S) or None. Nothing is changed in place.
      initial_state: The state before the first word, one row for each sentence.
      batch: How many sentences these are.
      width: Hypotheses of a sentence, s.
      max_length: The most words of an output, its end included: a number, or one for each sentence.
      eos: The word that ends an output.
      bos: The word before the first.
      shrink: Which rule.
      exclude: Words that no output has, such as UNK and PAD.
      normalize: "length" orders outputs by their sum over their number of words. The search itself and the scores stay as
        they are.
      minimum_length: Words before the end, at least: a number, or one for each sentence.
      retry: Whether a sentence without a complete output is searched again with the words of `exclude` allowed; or those
        that then are.
      logits: Whether `step` gives logits, whose log-softmax is meant; it is taken of the words that are chosen alone, which is
        faster than to give it of all.
      device: Where the hypotheses' words are made; None takes torch's default.

    Returns:
      For each sentence its outputs, best first. Those that ended; if there are none, those that `max_length` cut; none at all
      where every word is excluded or has probability zero.

    Raises:
      InvalidValueError: If a number is out of range, or the vocabulary lacks a word named here.
      InvalidTypeError: If a number is no integer.
      ShapeError: If `step` returns something of the wrong shape.
      NumericalError: If a log-probability is NaN or ∞.

    >>> table = torch.tensor([[0.0, 0.0, 0.0, 0.1, 0.6, 0.3], [0.0, 0.0, 0.0, 0.8, 0.1, 0.1]]).log()
    >>> class Place:  # words 3 (the end), 4 and 5 by place: a state is the place
    ...     def __init__(self, at): self.at = at
    ...     def select(self, rows): return Place(self.at[rows])
    >>> def step(state, previous): return table[state.at], Place((state.at + 1).clamp(max=1)), None
    >>> for found in beam_search(step, Place(torch.tensor([0])), 1, width=2, max_length=9)[0]:
    ...     print(found.ids, round(found.score, 3))
    (4, 3) -0.734
    (5, 3) -1.427
    """
    check_sizes(width=width)
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 0:
        raise InvalidValueError(f"batch is {batch!r}; expected a number of sentences, at least 0")
    if normalize not in (False, "length"):
        raise InvalidValueError(f"normalize is {normalize!r}; expected False or 'length'")
    longest = _limits("max_length", max_length, batch, 1)
    least = _limits("minimum_length", 0 if minimum_length is None else minimum_length, batch, 0)
    for i, (low, high) in enumerate(zip(least, longest)):
        if low >= high:
            raise InvalidValueError(
                f"sentence {i} has minimum_length {low} and max_length {high}; the end counts too: "
                "expected a maximum that is larger"
            )
    rules = _Rules(width, eos, bos, shrink, tuple(sorted(set(exclude))), logits)
    found = _Search(step, initial_state, longest, least, rules, device).run()
    again = [i for i, those in enumerate(found) if not any(one.complete for one in those)]
    if retry and again:
        allowed = set(exclude if retry is True else retry)
        rules = replace(rules, exclude=tuple(sorted(set(exclude) - allowed)))
        state = initial_state.select(torch.tensor(again, device=device))
        high, low = [longest[i] for i in again], [least[i] for i in again]
        for i, those in zip(again, _Search(step, state, high, low, rules, device).run()):
            found[i] = those
    return [_ordered(those, width, normalize) for those in found]


def _ordered(found: list[Hypothesis], width: int, normalize: Literal[False, "length"]) -> list[Hypothesis]:
    """The best by their sum, best first by what was asked for; those that were cut only where none ended."""
    best = sorted([one for one in found if one.complete] or found, key=lambda one: -one.score)[:width]
    return sorted(best, key=lambda one: -one.score / len(one.ids)) if normalize else best


def _limits(name: str, limit: Limit, batch: int, least: int) -> list[int]:
    """One for each sentence."""
    limits = [limit] * batch if isinstance(limit, int) else list(limit)
    if len(limits) != batch:
        raise ShapeError(
            f"{name} has {len(limits)} numbers for {batch} sentences; expected as many, or one number"
        )
    for value in [limit] if isinstance(limit, int) else limits:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidTypeError(f"{name} has {value!r}; expected an integer")
        if value < least:
            raise InvalidValueError(f"{name} has {value}; expected at least {least}")
    return limits


class _Search:
    """One search: the hypotheses that are alive, as rows sorted by sentence and, within it, best first."""

    def __init__(
        self,
        step: Step[StateT],
        state: StateT,
        longest: list[int],
        least: list[int],
        rules: _Rules,
        device: torch.device | str | None,
    ) -> None:
        self.advance, self.state, self.rules = step, state, rules
        self.batch, self.trace = len(longest), Trace()
        self.steps, self.barred_steps = max(longest, default=0), max(least, default=0)
        self.longest, self.least = torch.tensor(longest, device=device), torch.tensor(least, device=device)
        self.sentence = torch.arange(self.batch, device=device)
        self.previous = torch.full_like(self.sentence, rules.bos)
        self.score = torch.zeros(self.batch, dtype=torch.float64, device=device)
        self.room = torch.full_like(self.sentence, rules.width)
        self.best = self.score.new_full((self.batch, rules.width), -torch.inf)
        self.excluded = torch.tensor(rules.exclude, dtype=torch.int64, device=device)

    def run(self) -> list[list[Hypothesis]]:
        for length in range(1, self.steps + 1):
            if not len(self.sentence):
                break
            self._step(length)
        found: list[list[Hypothesis]] = [[] for _ in range(self.batch)]
        for ending, words, weights in self.trace.read():
            found[ending.sentence].append(Hypothesis(words, ending.score, weights, ending.complete))
        return found

    def _step(self, length: int) -> None:
        scored, state, weights = self.advance(self.state, self.previous)
        self._check(scored, weights)
        scores, rows, words = self._candidates(scored, length)
        ended, going = self._divide(scores, words)
        self._leave(ended, scores, rows, words, complete=True)
        if length >= int(self.longest.min()):
            cut = going & (self.longest <= length)[:, None]
            self._leave(cut, scores, rows, words, complete=False)
            going &= ~cut
        kept = rows[going]
        self.sentence, self.previous, self.score = going.nonzero()[:, 0], words[going], scores[going]
        self.trace.step(self.previous, kept, weights)
        if len(kept):
            self.state = state.select(kept)

    def _candidates(self, scored: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best continuations of each sentence, best first: Σ log p, the row that each continues, its word; (B, C)."""
        rules = self.rules
        barred = None
        if length <= self.barred_steps:
            barred = self.least.index_select(0, self.sentence) >= length
        # those that end take no place of the usual beam, so that a hypothesis may have to fill it besides its own end
        wanted = rules.width if rules.shrink else rules.width + 1
        values, words = best_words(scored, wanted, self.excluded, rules.eos, barred, logits=rules.logits)
        sums = self.score[:, None] + values
        counts = torch.bincount(self.sentence, minlength=self.batch)
        starts = counts.cumsum(0) - counts
        place = torch.arange(len(self.sentence), device=starts.device) - starts.index_select(0, self.sentence)
        most, each = int(counts.max()), sums.shape[1]
        table = sums.new_full((self.batch, most, each), -torch.inf)
        table[self.sentence, place] = sums
        scores, order = table.flatten(1).sort(dim=1, descending=True, stable=True)
        order = order[:, : rules.width if rules.shrink else 2 * rules.width]
        # a place that no hypothesis fills has −∞, and may point past the last row
        rows = (starts[:, None] + order // each).clamp(max=len(sums) - 1)
        return scores[:, : order.shape[1]], rows, words[rows, order % each]

    def _divide(self, scores: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Which continuations end here and which go on, (B, C) each; `room` or `best` takes note of the former."""
        ends, possible = words == self.rules.eos, scores > -torch.inf
        rank = torch.arange(scores.shape[1], device=scores.device)
        if self.rules.shrink:
            kept = possible & (rank < self.room[:, None])
            ended, going = kept & ends, kept & ~ends
            self.room = self.room - ended.sum(1)
            return ended, going
        # sums only fall: what is not above the last of the best outputs cannot come among them any more
        possible &= scores > self.best[:, -1:]
        ended = possible & ends & (rank < self.rules.width)
        pool = torch.cat([self.best, scores.masked_fill(~ended, -torch.inf)], 1)
        self.best = pool.topk(self.rules.width, dim=1).values
        going = possible & ~ends & (scores > self.best[:, -1:])
        return ended, going & (going.cumsum(1) <= self.rules.width)

    def _leave(self, which: Tensor, scores: Tensor, rows: Tensor, words: Tensor, *, complete: bool) -> None:
        sentences = which.nonzero()[:, 0]
        self.trace.leave(sentences, words[which], rows[which], scores[which], complete)

    def _check(self, log_probs: Tensor, weights: Tensor | None) -> None:
        n = len(self.sentence)
        if log_probs.ndim != 2 or len(log_probs) != n or not log_probs.shape[1]:
            raise ShapeError(
                f"step returned log-probabilities of shape {tuple(log_probs.shape)} for {n} hypotheses; "
                f"expected ({n}, V)"
            )
        if weights is not None and (weights.ndim != 2 or len(weights) != n):
            raise ShapeError(
                f"step returned weights of shape {tuple(weights.shape)} for {n} hypotheses; expected ({n}, S)"
            )
        named, size = (self.rules.eos, *self.rules.exclude), log_probs.shape[1]
        if min(named) < 0 or max(named) >= size:
            raise InvalidValueError(
                f"eos is {self.rules.eos} and exclude {list(self.rules.exclude)}; this vocabulary has ids 0 to {size - 1}"
            )
