"""A decoder's step for a search: hypotheses of a sentence share its annotations, and what words do not change is made once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fingerpost.attention._cache import rows_at_once
from fingerpost.attention.decoder import Decoder, Encoded
from fingerpost.attention.scores import AbstractAttention, AdditiveAttention, masked_softmax

ROOM = 2**18
"""Numbers of a tanh that are held at a time: as many as a processor's own cache has room for."""


@dataclass(frozen=True, eq=False)
class Sources:
    """The sentences that have hypotheses.

    Args:
      keys: What the attention has prepared, (B, S, p); None without attention.
      values: What its weights average, (B, S, v): see `SearchDecoder`. Without attention what the one context gives, (B, v).
      mask: Shape (B, S), True where there is a word; None without padding, or without attention.
    """

    keys: Tensor | None
    values: Tensor
    mask: Tensor | None

    def select(self, rows: Tensor) -> Sources:
        """Sentences `rows` (int64), which may repeat."""
        parts = (self.keys, self.values, self.mask)
        keys, values, mask = (None if part is None else part.index_select(0, rows) for part in parts)
        assert values is not None
        return Sources(keys, values, mask)


@dataclass(frozen=True, eq=False)
class Groups:
    """Which of the N hypotheses belong to which of the B sentences, as a table (B, W) of at most W hypotheses each.

    Args:
      sentence: Each hypothesis's sentence, (N,), those of one sentence next to each other.
      width: W.
      table: The hypothesis at each place, (B W,), any at a place that is empty; None where no place is.
      place: Each hypothesis's place in the table, (N,); None where no place is empty.
    """

    sentence: Tensor
    width: int
    table: Tensor | None = None
    place: Tensor | None = None

    @classmethod
    def of(cls, sentence: Tensor, counts: Tensor) -> Groups:
        """Groups of `counts` (B,) hypotheses in turn."""
        width, rows = int(counts.max()), len(sentence)
        if width * len(counts) == rows:
            return cls(sentence, width)
        starts = counts.cumsum(0) - counts
        every = torch.arange(max(rows, width), device=sentence.device)
        place = every[:rows] - starts.index_select(0, sentence) + width * sentence
        table = (starts[:, None] + every[:width]).clamp(max=rows - 1)
        return cls(sentence, width, table.flatten(), place)

    def spread(self, x: Tensor) -> Tensor:
        """Numbers of hypotheses (N, k) as a table (B, W, k)."""
        return (x if self.table is None else x.index_select(0, self.table)).unflatten(0, (-1, self.width))

    def gather(self, x: Tensor) -> Tensor:
        """A table (B, W, k) as numbers of hypotheses (N, k)."""
        flat = x.flatten(0, 1)
        return flat if self.place is None else flat.index_select(0, self.place)


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Where N hypotheses are: their sentences, their unit's state (N, n), and what the unit has yet to take in (N, 3n).

    The last is there in the order "original" alone, after the first word.
    """

    sources: Sources
    groups: Groups
    hidden: Tensor
    waiting: Tensor | None = None

    def select(self, rows: Tensor) -> Hypotheses:
        """The state of hypotheses `rows` (int64), which may repeat; sentences that none has are left behind."""
        chosen = self.groups.sentence.index_select(0, rows)
        live, sentence, counts = chosen.unique_consecutive(return_inverse=True, return_counts=True)
        sources, every = self.sources, torch.arange(len(self.sources.values), device=rows.device)
        if not torch.equal(live, every):
            sources = sources.select(live)
        waiting = None if self.waiting is None else self.waiting.index_select(0, rows)
        return Hypotheses(sources, Groups.of(sentence, counts), self.hidden.index_select(0, rows), waiting)


class SearchDecoder:
    r"""The step of a `Decoder` without dropout, from hypotheses and their last words to logits.

    A context is $c_i = \sum_j α_{ij} h_j$, and unit and read-out see $[C; C_o] c_i + b = \sum_j α_{ij} ([C; C_o] h_j + b)$
    of it alone: these products are made once for a sentence and not for each word of each hypothesis. Attention whose context
    is no such mean keeps the annotations and makes the product at each step.

    Args:
      decoder: Whose step.
      encoded: The sentences of the search.
    """

    def __init__(self, decoder: Decoder, encoded: Encoded) -> None:
        through, unit = decoder.unit.context, decoder.unit
        assert through is not None
        self.decoder, self.attention = decoder, decoder.attention
        self.gates = through.out_features
        self.by_context = torch.cat([through.weight, decoder.from_context.weight])
        self.by_word = torch.cat([unit.input.weight, decoder.from_word.weight])
        self.bias = torch.cat([unit.input.bias, decoder.from_word.bias])
        self.room = self.bias.new_empty(0)
        self.linear = self.attention is None or type(self.attention).attend is AbstractAttention.attend
        self.start = self._start(encoded)

    def __call__(self, state: Hypotheses, previous: Tensor) -> tuple[Tensor, Hypotheses, Tensor | None]:
        """Logits (N, V) that the next call writes over, the state to go on from, and weights (N, S) or None."""
        decoder, unit, gates = self.decoder, self.decoder.unit, self.gates
        words = decoder.embedding(previous)
        if decoder.readout_state == "original":
            read = state.hidden
            if state.waiting is not None:
                read = unit.advance(torch.addmm(state.waiting, words, self.by_word[:gates].t()), read)
            given, weights = self._look(state, read)
            after = replace(state, hidden=read, waiting=given[:, :gates])
            pairs = torch.addmm(given[:, gates:], words, self.by_word[gates:].t())
        else:
            given, weights = self._look(state, state.hidden)
            given.addmm_(words, self.by_word.t())
            after = replace(state, hidden=unit.advance(given[:, :gates], state.hidden))
            read = after.hidden if decoder.readout_state == "current" else state.hidden
            pairs = given[:, gates:]
        return self._logits(torch.addmm(pairs, read, decoder.from_state.weight.t())), after, weights

    def _start(self, encoded: Encoded) -> Hypotheses:
        """Each sentence with one hypothesis, before its first word."""
        if self.attention is None:
            assert encoded.context is not None
            sources = Sources(None, F.linear(encoded.context, self.by_context, self.bias), None)
        else:
            values = F.linear(encoded.states, self.by_context, self.bias) if self.linear else encoded.states
            sources = Sources(encoded.keys, values, None if encoded.mask.all() else encoded.mask)
        sentence = torch.arange(len(encoded), device=encoded.states.device)
        return Hypotheses(sources, Groups(sentence, 1), encoded.initial.hidden)

    def _look(self, state: Hypotheses, hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        """[C; C_o] c + b of each hypothesis, (N, 3n + 2l), a tensor of its own; and its weights (N, S)."""
        sources, groups, attention = state.sources, state.groups, self.attention
        if attention is None or sources.keys is None:
            return sources.values.index_select(0, groups.sentence), None
        query = groups.spread(hidden)
        mask = None if sources.mask is None else sources.mask.unsqueeze(1)
        if self.linear:
            weights = masked_softmax(_scores(attention, query, sources.keys), mask)
            given = torch.bmm(weights, sources.values)
        else:
            keys, values = sources.keys.unsqueeze(1), sources.values.unsqueeze(1)
            context, weights = attention.attend(query, keys, values, mask)
            given = F.linear(context, self.by_context, self.bias)
        return groups.gather(given), groups.gather(weights)

    def _logits(self, pairs: Tensor) -> Tensor:
        """W_o t + b, (N, V), in the same room each time: to ask for so much anew takes longer than to read it."""
        output, rows = self.decoder.output, len(pairs)
        if len(self.room) < rows:
            self.room = pairs.new_empty(rows, output.out_features)
        read = torch.maximum(*pairs.chunk(2, 1))
        return torch.addmm(output.bias, read, output.weight.t(), out=self.room[:rows])


def _scores(attention: AbstractAttention, query: Tensor, keys: Tensor) -> Tensor:
    """How well the keys (B, S, p) of each sentence fit each of its queries (B, W, q), (B, W, S)."""
    if not isinstance(attention, AdditiveAttention) or type(attention).score is not AdditiveAttention.score:
        return attention.score(query, keys.unsqueeze(1))
    queries, (sentences, positions, size) = attention.query(query), keys.shape
    width = queries.shape[1]
    some = rows_at_once(keys, width * positions * size, ROOM)
    room = keys.new_empty(min(some, sentences), width, positions, size)
    scores = keys.new_empty(sentences, width, positions)
    for mine, theirs, found in zip(keys.split(some), queries.split(some), scores.split(some)):
        hidden = torch.add(mine.unsqueeze(1), theirs.unsqueeze(2), out=room[: len(mine)]).tanh_()
        torch.mv(hidden.flatten(0, 2), attention.score_vector, out=found.view(-1))
    return scores
