"""Searches over tables of log-probabilities: a step function that looks prefixes up, and the two rules by plain loops."""

from __future__ import annotations

import itertools

import torch

from fingerpost.attention import BOS, EOS


class Prefixes:
    """A state that knows its words and its sentence."""

    def __init__(self, sentences, words):
        self.sentences, self.words = sentences, words

    def select(self, rows):
        return Prefixes([self.sentences[r] for r in rows.tolist()], [self.words[r] for r in rows.tolist()])


class Tables:
    """Random log-probabilities of every prefix of every sentence, float64; with `hole`, some of them −∞."""

    def __init__(self, sentences, vocabulary, *, seed=0, hole=0.0, memory=True, levels=None):
        self.count, self.vocabulary, self.seed = sentences, vocabulary, seed
        self.hole, self.memory, self.levels = hole, memory, levels
        self.known = {}

    def row(self, sentence, words):
        key = (sentence, words if self.memory else len(words))
        if key not in self.known:
            generator = torch.Generator().manual_seed(hash((self.seed, key)) % 2**31)
            logits = 1.5 * torch.randn(self.vocabulary, generator=generator, dtype=torch.float64)
            if self.levels:  # few values, so that sums tie; no normalisation, which would round
                self.known[key] = -torch.randint(
                    1, self.levels, (self.vocabulary,), generator=generator
                ).double()
                return self.known[key]
            lost = torch.rand(self.vocabulary, generator=generator) < self.hole
            if not lost.all():
                logits[lost] = -torch.inf
            self.known[key] = logits.log_softmax(0)
        return self.known[key]

    def initial(self, sentences=None):
        chosen = list(range(self.count)) if sentences is None else list(sentences)
        return Prefixes(chosen, [None] * len(chosen))

    def step(self, state, previous):
        words = []
        for before, last in zip(state.words, previous.tolist()):
            assert before is not None or last == BOS
            words.append(() if before is None else (*before, last))
        rows = torch.stack([self.row(b, w) for b, w in zip(state.sentences, words)])
        return rows, Prefixes(state.sentences, words), None


def score(tables, sentence, ids):
    """The sum of a whole output's log-probabilities."""
    return sum(float(tables.row(sentence, ids[:i])[word]) for i, word in enumerate(ids))


def enumerate_all(tables, sentence, max_length, exclude=(), least=0):
    """Every complete output and its sum, best first."""
    inner = [w for w in range(tables.vocabulary) if w not in (EOS, *exclude)]
    found = []
    for n in range(least, max_length):
        for words in itertools.product(inner, repeat=n):
            ids = (*words, EOS)
            found.append((ids, score(tables, sentence, ids)))
    return sorted((one for one in found if one[1] > -torch.inf), key=lambda one: -one[1])


def by_loops(tables, sentence, width, max_length, *, shrink, exclude=(), least=0):
    """The two rules as their sentences say them: lists of (ids, sum), those that ended and those that were cut."""
    live, ended, cut, room = [((), 0.0)], [], [], width
    for length in range(1, max_length + 1):
        options = []
        for ids, total in live:
            row = tables.row(sentence, ids).tolist()
            mine = [(ids, w, total + row[w]) for w in range(tables.vocabulary) if w not in exclude]
            options += sorted(mine, key=lambda one: -one[2])
        options = [o for o in options if o[2] > -torch.inf and (o[1] != EOS or length > least)]
        options.sort(key=lambda one: -one[2])
        if shrink:
            options = options[:room]
            stop = [o for o in options if o[1] == EOS]
            go = [o for o in options if o[1] != EOS]
            room -= len(stop)
        else:
            stop = [o for o in options[:width] if o[1] == EOS]
            go = [o for o in options if o[1] != EOS][:width]
        ended += [((*ids, w), total) for ids, w, total in stop]
        live = [((*ids, w), total) for ids, w, total in go]
        ended.sort(key=lambda one: -one[1])
        if not shrink and len(ended) >= width:
            live = [one for one in live if one[1] > ended[width - 1][1]]
        if length == max_length:
            cut = live
        if not live:
            break
    return ended[:width], cut
