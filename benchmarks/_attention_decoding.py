"""Beam search with RNNsearch, for benchmarks/attention.py: all sentences at once against loops over one at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from _interleave import interleave, medians, ratio_interval
from fingerpost.attention import BOS, EOS, PAD, UNK, RNNSearch, translate_ids

Row = dict[str, Any]
VOCABULARY, SENTENCES, BATCH, WIDTH = 9000, 256, 64, 5
LOOPED = 4
"""The loops take every fourth of the sentences, sorted by length: their time for one is the same, and there is less of it."""
TARGETS: dict[int, dict[str, float | None]] = {
    256: {"one by one": 10.0, "sentence by sentence": None},
    512: {"one by one": 10.0, "sentence by sentence": None},
}
"""Times as fast as a loop, by the number of hidden units."""
BANNED = (PAD, UNK, BOS)
BASES = {
    "one by one": "a loop over sentences and, within, over hypotheses",
    "sentence by sentence": "a loop over sentences, their hypotheses together",
}


def decoding(quick: bool) -> list[Row]:
    """Rows for the table: sentences a second, larger is better."""
    return [made for hidden in TARGETS for made in rows_of(hidden, quick)]


def rows_of(hidden: int, quick: bool) -> list[Row]:
    """Ours over each loop, for one size."""
    model, source = example(hidden)
    some = source[::LOOPED]
    functions: dict[str, Callable[[], list[float]]] = {
        "ours": lambda: together(model, source, BATCH),
        "one by one": lambda: [one_by_one(model, x[x != PAD][None]) for x in some],
        "sentence by sentence": lambda: together(model, some, 1),
    }
    check(functions)
    times = interleave(functions, 3 if quick else 5, warmup=0)
    return [row(hidden, times, base, target) for base, target in TARGETS[hidden].items()]


def row(hidden: int, times: dict[str, list[float]], base: str, target: float | None) -> Row:
    """Ours over one of the loops."""
    each = {
        name: [seconds / (SENTENCES if name == "ours" else SENTENCES // LOOPED) for seconds in of]
        for name, of in times.items()
    }
    rate = {name: 1 / seconds for name, seconds in medians(each).items()}
    ratio = rate["ours"] / rate[base]
    return {
        "system": "attention: beam search",
        "case": f"RNNsearch, hidden {hidden}, {VOCABULARY} words, width {WIDTH}, 12 ± 4 words, B {BATCH}",
        "ours": rate["ours"],
        "base": rate[base],
        "peer": None,
        "peer_name": None,
        "floor": None,
        "ratio": ratio,
        "interval": ratio_interval(each[base], each["ours"]),
        "target": target,
        "holds": None if target is None else ratio >= target,
        "unit": f"× sentences a second of {BASES[base]}",
        "repeats": len(times["ours"]),
        "note": "sentences sorted by length; all find the same outputs",
    }


def limits(source: Tensor) -> dict[str, list[int]]:
    """Outputs about as long as sources."""
    lengths = (source != PAD).sum(1)
    return {"max_length": (2 * lengths).tolist(), "minimum_length": (lengths - 2).tolist()}


def together(model: RNNSearch, source: Tensor, batch: int) -> list[float]:
    """The best sums, `batch` sentences at once."""
    found = []
    for part in source.split(batch):
        ids = part[:, : int((part != PAD).sum(1).max())]
        found += [those[0].score for those in translate_ids(model, ids, width=WIDTH, **limits(ids))]
    return found


def example(hidden: int) -> tuple[RNNSearch, Tensor]:
    """A model with random parameters and sentences for it, sorted by length.

    Sharper than an untrained model is, so that outputs differ. The end's bias makes it likely as soon as the minimum allows.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = RNNSearch(
            VOCABULARY, VOCABULARY, embedding=hidden, hidden=hidden, attention=hidden, maxout=hidden
        )
        lengths = (12 + 4 * torch.randn(SENTENCES)).round().clamp(3, 40).long().sort().values + 1
        source = torch.randint(4, VOCABULARY, (SENTENCES, int(lengths.max())))
    source[torch.arange(source.shape[1]) >= lengths[:, None]] = PAD
    source[torch.arange(SENTENCES), lengths - 1] = EOS
    with torch.no_grad():
        model.decoder.output.weight.mul_(8)
        model.decoder.output.bias[EOS] = 3.0
    return model.eval(), source


@torch.no_grad()
def one_by_one(model: RNNSearch, source: Tensor) -> float:
    """The source's rule as it reads: every hypothesis by itself, the s best of them, those that end taken out."""
    encoded, (longest, least) = model.encode(source), (of[0] for of in limits(source).values())
    live, ended, room = [((), 0.0, encoded.initial)], [], WIDTH
    for done in range(longest):
        options = []
        for ids, total, state in live:
            previous = torch.tensor([ids[-1] if ids else BOS])
            log_probs, after, _ = model.step(encoded, state, previous)
            log_probs[0, list(BANNED)] = -torch.inf
            if done < least:
                log_probs[0, EOS] = -torch.inf
            values, words = log_probs[0].topk(room)
            options += [(ids, word, total + v, after) for v, word in zip(values.tolist(), words.tolist())]
        options = sorted(options, key=lambda one: -one[2])[:room]
        ended += [total for _, word, total, _ in options if word == EOS]
        live = [((*ids, word), total, state) for ids, word, total, state in options if word != EOS]
        room -= sum(word == EOS for _, word, _, _ in options)
        if not live:
            break
    return max(ended or [total for _, total, _ in live])


def check(functions: dict[str, Callable[[], list[float]]]) -> None:
    """Raises unless all find the same best sums, but for rounding."""
    found = functions["ours"]()[::LOOPED]
    for name in BASES:
        worst = max(abs(a - b) for a, b in zip(found, functions[name](), strict=True))
        if worst > 1e-3:
            raise AssertionError(f"best sums of {name} differ by {worst}")
