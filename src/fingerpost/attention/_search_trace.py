"""Where each hypothesis of a beam came from: words and parents step by step, read backwards once at the end."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor


class Ending(NamedTuple):
    """A hypothesis that left the beam: its sentence, its last word, the row and step that gave it, Σ log p."""

    sentence: int
    word: int
    row: int
    step: int
    score: float
    complete: bool


class Trace:
    """The history of a search: for every step, what was alive after it, and the weights of what was alive before it."""

    def __init__(self) -> None:
        self.endings: list[Ending] = []
        self._words: list[list[int]] = []
        self._parents: list[list[int]] = []
        self._weights: list[Tensor] = []

    def leave(self, sentences: Tensor, words: Tensor, rows: Tensor, scores: Tensor, complete: bool) -> None:
        """Notes hypotheses that leave the beam in the step that `step` notes next."""
        columns = zip(sentences.tolist(), words.tolist(), rows.tolist(), scores.tolist())
        step = len(self._parents)
        self.endings += [Ending(b, word, row, step, score, complete) for b, word, row, score in columns]

    def step(self, words: Tensor, rows: Tensor, weights: Tensor | None) -> None:
        """Notes what is alive after a step: words, the rows that gave them; and the weights of all rows before it."""
        self._words.append(words.tolist())
        self._parents.append(rows.tolist())
        if weights is not None:
            self._weights.append(weights)

    def read(self) -> list[tuple[Ending, tuple[int, ...], Tensor | None]]:
        """Every ending with its words, and their weights (words, S) if there are any."""
        paths = [self._path(ending) for ending in self.endings]
        if not self._weights or not paths:
            return [(ending, words, None) for ending, (words, _) in zip(self.endings, paths)]
        starts = [0, *accumulate(len(weights) for weights in self._weights)]
        flat = [starts[step] + row for _, rows in paths for step, row in enumerate(rows)]
        every = torch.cat(self._weights)
        taken = every.index_select(0, torch.tensor(flat, device=every.device))
        parts = taken.split([len(words) for words, _ in paths])
        return [(ending, words, part) for ending, (words, _), part in zip(self.endings, paths, parts)]

    def _path(self, ending: Ending) -> tuple[tuple[int, ...], list[int]]:
        """The words of a hypothesis, and the row that gave each of them in its step."""
        words, rows, row = [ending.word], [ending.row], ending.row
        for step in range(ending.step - 1, -1, -1):
            words.append(self._words[step][row])
            row = self._parents[step][row]
            rows.append(row)
        return tuple(words[::-1]), rows[::-1]
