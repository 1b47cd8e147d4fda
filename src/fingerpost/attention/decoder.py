"""The decoder that both models share: a gated unit over the words so far and a context, and a deep output layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fingerpost.attention._bptt_attention import Search, search
from fingerpost.attention._bptt_readout import maxout, thin
from fingerpost.attention._bptt_unit import scan_packed
from fingerpost.attention._checks import check_choice, check_sizes
from fingerpost.attention._packing import Packing
from fingerpost.attention.scores import AbstractAttention, AdditiveAttention
from fingerpost.attention.units import GatedUnit, Reset

ReadoutState = Literal["previous", "current", "original"]
Run = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""States before and after each of N words, and contexts and weights with attention."""
READOUT_STATES: tuple[ReadoutState, ...] = ("previous", "current", "original")


@dataclass(frozen=True, eq=False)
class DecoderState:
    """Where a decoder is, N hypotheses: its unit's state (N, n), and the context (N, c) that the unit has yet to take in.

    The second is there in the order "original" alone, after the first word.
    """

    hidden: Tensor
    context: Tensor | None = None

    def select(self, rows: Tensor) -> DecoderState:
        """The state of hypotheses `rows` (int64), which may repeat."""
        context = None if self.context is None else self.context.index_select(0, rows)
        return DecoderState(self.hidden.index_select(0, rows), context)


@dataclass(frozen=True, eq=False)
class Encoded:
    """What a decoder needs of N source sentences.

    Args:
      states: Annotations h_j, (N, S, a).
      keys: What the attention has prepared of them, (N, S, p); None without attention.
      mask: Shape (N, S), True where there is a word.
      initial: The state before the first word.
      context: The one context of a decoder without attention, (N, c); None with it.
    """

    states: Tensor
    keys: Tensor | None
    mask: Tensor
    initial: DecoderState
    context: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    def select(self, rows: Tensor) -> Encoded:
        """Sentences `rows` (int64), which may repeat: one for each hypothesis of a beam."""
        keys = None if self.keys is None else self.keys.index_select(0, rows)
        context = None if self.context is None else self.context.index_select(0, rows)
        states, mask = self.states.index_select(0, rows), self.mask.index_select(0, rows)
        return Encoded(states, keys, mask, self.initial.select(rows), context)


class Decoded(NamedTuple):
    """A forced pass, for the N target words of a batch that are no padding: what each output reads, and the weights.

    States (N, n), embedded words (N, m), C_o c (N, 2 maxout) where the context is one for all words and else contexts (N, c),
    weights (N, S) or None.
    """

    states: Tensor
    words: Tensor
    contexts: Tensor
    weights: Tensor | None


class Decoder(nn.Module):
    r"""$s_i = f(s_{i-1}, y_{i-1}, c_i)$ and $p(y_i) \propto \exp(W_o\,t_i)$ with $t_i$ a maxout of state, word and context.

    $\tilde t_i = U_o s + V_o E y_{i-1} + C_o c_i$ and $t_i = \max(\tilde t_{i,1:l}, \tilde t_{i,l+1:2l})$: Bahdanau, Cho and
    Bengio (2014), appendix A.2.2, https://arxiv.org/abs/1409.0473, which pairs neighbours, the same up to the order of rows;
    V_o and W_o have biases here. The context is $c_i = a(s_{i-1}, h)$ with attention, and one for all words without.
    What s the output reads differs from source to source, and all three are here:

    - "previous": s_{i−1}, as in appendix A.2.2 of the paper; it has not seen y_{i−1} yet, the word comes by V_o alone;
    - "current": s_i, as in equation 4 of the paper, which the output layer of most later models follows;
    - "original": s_{i−1}, but the unit takes in each word as soon as it is known, $s_i = f(s_{i-1}, y_i, c_i)$, as the authors'
      own code did (GroundHog, experiments/nmt/encdec.py, https://github.com/lisa-groundhog/GroundHog). That code gives the
      first output no word; here it is the embedding of the beginning.

    Args:
      vocabulary: Number of target ids.
      embedding: Numbers of a word's embedding.
      hidden: Numbers of a state.
      start_size: Numbers of what s_0 is made of, $s_0 = \tanh(W_s\,\cdot)$.
      context_size: Numbers of a context.
      maxout: Numbers of t_i, l.
      attention: Where contexts come from; None for one fixed context.
      reset: See `GatedUnit`.
      readout_state: "previous", "current" or "original".
      dropout: Probability with which numbers of embeddings and of t_i are left out in training.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        *,
        start_size: int,
        context_size: int,
        maxout: int,
        attention: AbstractAttention | None,
        reset: Reset = "before",
        readout_state: ReadoutState = "current",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(vocabulary=vocabulary, embedding=embedding, hidden=hidden, maxout=maxout)
        check_choice("readout_state", readout_state, READOUT_STATES)
        self.readout_state, self.dropout = readout_state, dropout
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.start = nn.Linear(start_size, hidden)
        self.attention = attention
        self.unit = GatedUnit(embedding, hidden, context_size=context_size, reset=reset)
        self.from_state = nn.Linear(hidden, 2 * maxout, bias=False)
        self.from_word = nn.Linear(embedding, 2 * maxout)
        self.from_context = nn.Linear(context_size, 2 * maxout, bias=False)
        self.output = nn.Linear(maxout, vocabulary)

    def initial(self, start: Tensor) -> DecoderState:
        """s_0 = tanh(W_s ·)."""
        return DecoderState(torch.tanh(self.start(start)))

    def embed(self, words: Tensor) -> Tensor:
        """E y, with dropout in training."""
        return self._thin(self.embedding(words))

    def readout(self, states: Tensor, words: Tensor, from_contexts: Tensor) -> Tensor:
        """t_i (…, maxout) of states, embedded words and C_o c_i, with dropout in training."""
        pairs = self.from_state(states) + self.from_word(words) + from_contexts
        one, other = pairs.chunk(2, -1)
        return self._thin(torch.maximum(one, other))

    def outputs(self, decoded: Decoded, *, fused: bool = True) -> Tensor:
        """t_i (N, maxout) of a forced pass."""
        states, words, contexts, weights = decoded
        if not fused:
            return self.readout(states, words, contexts if weights is None else self.from_context(contexts))
        bias, given = self.from_word.bias, (states, self.from_state.weight, words, self.from_word.weight)
        if weights is None:
            return self._thin(maxout(contexts + bias, *given))
        return self._thin(maxout(bias, *given, contexts, self.from_context.weight))

    def context(self, hidden: Tensor, encoded: Encoded) -> tuple[Tensor, Tensor | None]:
        """c_i and the weights that it was made with, of the state before the word."""
        if self.attention is None or encoded.keys is None:
            assert encoded.context is not None
            return encoded.context, None
        return self.attention.attend(hidden, encoded.keys, encoded.states, encoded.mask)

    def step(
        self, encoded: Encoded, state: DecoderState, previous: Tensor
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """The word after `previous` (N,): log-probabilities (N, V), the state after it, and the weights (N, S) if any."""
        word = self.embed(previous)
        if self.readout_state == "original":
            before = state.hidden if state.context is None else self.unit(word, state.hidden, state.context)
            context, weights = self.context(before, encoded)
            after, read = DecoderState(before, context), before
        else:
            context, weights = self.context(state.hidden, encoded)
            after = DecoderState(self.unit(word, state.hidden, context))
            read = after.hidden if self.readout_state == "current" else state.hidden
        logits = self.output(self.readout(read, word, self.from_context(context)))
        return F.log_softmax(logits, -1), after, weights

    def forward(self, encoded: Encoded, previous: Tensor, packing: Packing, *, fused: bool = True) -> Decoded:
        """All words of a batch.

        Args:
          encoded: The sentences, longest target first.
          previous: The word before each of the N, (N,).
          packing: Where they lie in the batch.
          fused: See `RNNSearch`.
        """
        words = self.embed(previous)
        # a unit that takes in a word once it is known is one step ahead; its last step is read by nobody
        taken = words.index_select(0, packing.following()) if self.readout_state == "original" else words
        gates, through = self.unit.input(taken), self.unit.context
        assert through is not None
        if encoded.context is not None:
            gates = gates + through(encoded.context).index_select(0, packing.sentence)
        run = self._fused if fused else self._recorded
        before, after, contexts, weights = run(encoded, gates, packing)
        if encoded.context is not None:
            contexts = self.from_context(encoded.context).index_select(0, packing.sentence)
        assert contexts is not None
        return Decoded(after if self.readout_state == "current" else before, words, contexts, weights)

    def _fused(self, encoded: Encoded, gates: Tensor, packing: Packing) -> Run:
        """The way of the unit, by hand where there is a way back by hand."""
        unit, attention, hidden = self.unit, self.attention, encoded.initial.hidden
        if attention is None:
            return *scan_packed(gates, packing.slices, hidden, unit.recurrent, unit.inner_bias), None, None
        if not isinstance(attention, AdditiveAttention) or _changed(attention):
            return self._recorded(encoded, gates, packing)
        assert encoded.keys is not None
        assert unit.context is not None
        excluded = None
        if not encoded.mask.all():
            excluded = torch.zeros_like(encoded.mask, dtype=gates.dtype).masked_fill_(
                ~encoded.mask, -torch.inf
            )
        arguments = Search(
            gates,
            hidden,
            encoded.keys,
            encoded.states,
            excluded,
            attention.query.weight,
            attention.score_vector,
            unit.context.weight,
            unit.recurrent,
            unit.inner_bias,
        )
        return tuple(search(arguments, packing.slices))  # type: ignore[return-value]

    def _recorded(self, encoded: Encoded, gates: Tensor, packing: Packing) -> Run:
        """The same, step by step, with autograd looking on."""
        hidden, through = encoded.initial.hidden, self.unit.context
        assert through is not None
        before, after, contexts, weights = [], [], [], []
        for rows in packing.slices:
            size = rows.stop - rows.start
            hidden, at_step = hidden[:size], gates[rows]
            before.append(hidden)
            if self.attention is not None and encoded.keys is not None:
                keys, states, mask = encoded.keys[:size], encoded.states[:size], encoded.mask[:size]
                context, by = self.attention.attend(hidden, keys, states, mask)
                at_step = at_step + through(context)
                contexts.append(context)
                weights.append(by)
            hidden = self.unit.advance(at_step, hidden)
            after.append(hidden)
        made = torch.cat(before), torch.cat(after)
        return (*made, torch.cat(contexts), torch.cat(weights)) if contexts else (*made, None, None)

    def _thin(self, x: Tensor) -> Tensor:
        return thin(x, self.dropout) if self.training and self.dropout else x


def _changed(attention: AdditiveAttention) -> bool:
    """Whether it is of a class that scores or averages by a rule of its own."""
    kind = type(attention)
    return kind.score is not AdditiveAttention.score or kind.attend is not AdditiveAttention.attend
