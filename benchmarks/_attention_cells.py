"""RNNsearch as tutorials write it, for benchmarks/attention.py: a loop of cells in which every step does all its work."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

BOS, PAD = 2, 0


class CellLoop(nn.Module):
    """nn.GRU over packed sentences, then nn.GRUCell in a loop: attention on [s; h_j] and the vocabulary at every step.

    With `maxout`, its layers have the sizes of RNNsearch's. Without, the vocabulary reads [s; e; c] itself, as in the
    tutorials that most loops of this kind go back to: four times the numbers.
    """

    def __init__(self, vocabulary: int, hidden: int, dropout: float, *, maxout: bool) -> None:
        super().__init__()
        self.source = nn.Embedding(vocabulary, hidden)
        self.encoder = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.start = nn.Linear(hidden, hidden)
        self.target = nn.Embedding(vocabulary, hidden)
        self.energy = nn.Linear(3 * hidden, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.cell = nn.GRUCell(3 * hidden, hidden)
        self.readout = nn.Linear(4 * hidden, 2 * hidden) if maxout else None
        self.output = nn.Linear((1 if maxout else 4) * hidden, vocabulary)
        self.dropout = nn.Dropout(dropout)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """The mean −log p of the words that are no padding."""
        mask = source != PAD
        packed = pack_padded_sequence(
            self.dropout(self.source(source)), mask.sum(1), batch_first=True, enforce_sorted=False
        )
        states, last = self.encoder(packed)
        states, _ = pad_packed_sequence(states, batch_first=True)
        state = torch.tanh(self.start(last[1]))
        word = torch.full_like(target[:, 0], BOS)
        logits = []
        for i in range(target.shape[1]):
            output, state = self.step(word, state, states, mask)
            logits.append(output)
            word = target[:, i]
        return F.cross_entropy(torch.stack(logits, 1).flatten(0, 1), target.flatten(), ignore_index=PAD)

    def step(self, word: Tensor, state: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.dropout(self.target(word))
        repeated = state.unsqueeze(1).expand(-1, states.shape[1], -1)
        energy = torch.tanh(self.energy(torch.cat([repeated, states], 2)))
        weights = self.score(energy).squeeze(2).masked_fill(~mask, -torch.inf).softmax(1)
        context = torch.bmm(weights.unsqueeze(1), states).squeeze(1)
        state = self.cell(torch.cat([embedded, context], 1), state)
        read = torch.cat([state, embedded, context], 1)
        if self.readout is not None:
            read = self.dropout(torch.maximum(*self.readout(read).chunk(2, 1)))
        return self.output(read), state
