"""The encoder: one annotation for each source word, from a gated unit that reads onwards and one that reads back."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fingerpost.attention._bptt_readout import thin
from fingerpost.attention._bptt_unit import scan_packed
from fingerpost.attention._checks import check_sizes
from fingerpost.attention._packing import Packing
from fingerpost.attention.units import GatedUnit, Reset


class Annotations(NamedTuple):
    """What an encoder makes of a batch: annotations (B, S, a), and the last states of the onward and backward unit.

    `onward` is →h at the last word and `backward` is ←h at the first one, (B, hidden) each; `backward` is None where
    nothing reads back.
    """

    states: Tensor
    onward: Tensor
    backward: Tensor | None


class Encoder(nn.Module):
    r"""$h_j = [\overrightarrow h_j; \overleftarrow h_j]$, with $\overrightarrow h_0 = 0$ and $\overleftarrow h_{T_x+1} = 0$.

    Bahdanau, Cho and Bengio (2014), section 3.2 and appendix A.2.1, https://arxiv.org/abs/1409.0473. The backward state
    starts beyond the last word, so that it has read that word too; →h_j has read x_1 … x_j. Padding leaves states as
    they are: sentences of a batch do not feel each other's length.

    Args:
      vocabulary: Number of source ids.
      embedding: Numbers of a word's embedding.
      hidden: Numbers of a state in each direction.
      reset: See `GatedUnit`.
      bidirectional: Whether a second unit reads back; without it h_j = →h_j.
      dropout: Probability with which numbers of embeddings are left out in training.

    >>> encoder = Encoder(10, 3, 4)
    >>> source = torch.tensor([[4, 5, 3], [6, 3, 0]])
    >>> encoder(source, source != 0).states.shape
    torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        vocabulary: int,
        embedding: int,
        hidden: int,
        *,
        reset: Reset = "before",
        bidirectional: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(vocabulary=vocabulary, embedding=embedding, hidden=hidden)
        self.hidden, self.dropout = hidden, dropout
        self.annotation_size = hidden * (2 if bidirectional else 1)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.forward_unit = GatedUnit(embedding, hidden, reset=reset)
        self.backward_unit = GatedUnit(embedding, hidden, reset=reset) if bidirectional else None

    def forward(
        self, source: Tensor, mask: Tensor, *, embeddings: Tensor | None = None, fused: bool = True
    ) -> Annotations:
        """Reads a batch.

        Args:
          source: Ids (B, S).
          mask: Shape (B, S), True where there is a word and False behind the last one.
          embeddings: Shape (B, S, embedding), in place of the words' own; for the gradient by them.
          fused: See `GatedUnit.scan`.

        Returns:
          Annotations; what stands at padding means nothing, and is for the mask to keep out.
        """
        if fused:
            return self._packed(source, mask, embeddings)
        words = self._thin(self.embedding(source.t()) if embeddings is None else embeddings.transpose(0, 1))
        padding = None if mask.all() else ~mask.t().unsqueeze(-1)
        onward = self._read(self.forward_unit, words, padding)
        if self.backward_unit is None:
            return Annotations(onward.transpose(0, 1), onward[-1], None)
        turned = None if padding is None else padding.flip(0)
        backward = self._read(self.backward_unit, words.flip(0), turned).flip(0)
        both = torch.cat([onward.transpose(0, 1), backward.transpose(0, 1)], -1)
        return Annotations(both, onward[-1], backward[0])

    def _thin(self, words: Tensor) -> Tensor:
        return thin(words, self.dropout) if self.training and self.dropout else words

    def _packed(self, source: Tensor, mask: Tensor, embeddings: Tensor | None) -> Annotations:
        """As `forward`, for the words alone: sentences by length, longest first, so that a step's are the first so many."""
        packing = Packing.of(mask)
        if embeddings is None:
            words = self.embedding(source.flatten().index_select(0, packing.at))
        else:
            words = embeddings.flatten(0, 1).index_select(0, packing.at)
        words = self._thin(words)
        back = packing.order.argsort()
        states = self._scan(self.forward_unit, words, packing.slices, len(source))
        last, first = states.index_select(0, packing.last()[back]), None
        if self.backward_unit is not None:
            backward = self._scan(self.backward_unit, words, packing.slices[::-1], len(source))
            states, first = torch.cat([states, backward], 1), backward.index_select(0, back)
        return Annotations(packing.unpack(states, mask.shape), last, first)

    @staticmethod
    def _scan(unit: GatedUnit, words: Tensor, slices: list[slice], sentences: int) -> Tensor:
        gates = unit.input(words)
        initial = gates.new_zeros(sentences, unit.hidden_size)
        return scan_packed(gates, slices, initial, unit.recurrent, unit.inner_bias)[1]

    def _read(self, unit: GatedUnit, words: Tensor, padding: Tensor | None) -> Tensor:
        """States (S, B, hidden) of a unit that starts from 0 and stays as it is at padding."""
        gates = unit.input(words)
        if padding is not None:  # z = σ(−∞) = 0 keeps the state, and no gradient comes through
            gates[..., : self.hidden].masked_fill_(padding, -math.inf)
        return unit.scan(gates, gates.new_zeros(gates.shape[1], self.hidden), fused=False)
