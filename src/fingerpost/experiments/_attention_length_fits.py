"""Trainings of attention-length, and what each makes of joined sentences: translations, where it looked, what it did wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fingerpost import attention
from fingerpost.experiments import _translation as translation
from fingerpost.experiments._attention_length_text import Side
from fingerpost.experiments._attention_translation_fits import alignments
from fingerpost.lab import Run, files

if TYPE_CHECKING:
    from fingerpost.experiments.attention_length import Config

MARKS = (".", "!", "?")
"""Words that end a sentence: where a joined translation is cut."""
SHARE = 0.9
"""Least length that a search is made to reach, over what the lengths of the text to train on let expect."""
WHICH = {"median": 0.5, "best": 1.0, "worst": 0.0}
"""Quantiles, by their scores, of the joined sentences whose alignment is drawn."""


class Found(NamedTuple):
    """By the model's name, for each training: its facts, and by the number joined (from 1, at 0) what it made of the tests."""

    facts: dict[str, list[dict[str, Any]]]
    tested: dict[str, list[list[dict[str, Any]]]]

    def words(self, kind: str, count: int) -> list[list[str]]:
        """Each training's translations of `count` pairs joined."""
        return [one[count - 1]["words"] for one in self.tested[kind]]


def measure(config: Config, side: Side, run: Run) -> Found:
    """Trains every model with every seed, and translates joined sentences of every length."""
    recipe = translation.recipe_of(config)
    found = Found({}, {})
    for kind in config.models:
        for seed in range(config.seed, config.seed + config.seeds):
            name = f"{kind}-{seed}"
            translator, facts = translation.trained(kind, side.text.corpus, recipe, seed, run)
            tested = [
                run.once(f"test-{name}-{count}", lambda t=translator, k=count: tested_by(t, side, k, config))
                for count in range(1, config.longest + 1)
            ]
            found.facts.setdefault(kind, []).append(facts)
            found.tested.setdefault(kind, []).append(tested)
            for count, one in enumerate(tested, 1):
                write_lines(run, count, name, one["words"])
    for count in range(1, config.longest + 1):
        write_lines(run, count, "source", side.joined(side.text.test.source, count))
        write_lines(run, count, "reference", side.joined(side.references, count))
    return found


def write_lines(run: Run, count: int, name: str, lines: Sequence[str]) -> None:
    """One file of sentences of `count` pairs."""
    files.write_text(
        run.directory / "predictions" / f"{count}-{name}.txt", "".join(f"{row}\n" for row in lines)
    )


def words_of(config: Config, side: Side, found: Sequence[Any]) -> list[str]:
    """Translations with spaces between their words."""
    return translation.output_of(found).words(config.segmentation, side.text.target_words)


def tested_by(translator: Any, side: Side, count: int, config: Config) -> dict[str, Any]:
    """What a model makes of `count` test pairs joined: translations and, with attention, where it looked."""
    sources = side.joined(side.text.test.source, count)
    recipe = translation.recipe_of(config)
    found = translation.translations(translator, sources, recipe)
    kept: dict[str, Any] = {
        "words": words_of(config, side, found),
        "complete": [bool(one.complete) for one in found],
    }
    if any(one.alignment is not None for one in found):
        kept |= alignments(found)
        kept["received"] = received(found, side.part_lengths[side.places[count - 1]])
        if count in (config.trained, config.longest):
            kept["maps"] = maps(found, kept["words"], side, count)
        if count == config.longest:
            kept["searches"] = searches(translator, sources, side, config)
    return kept


def received(found: Sequence[Any], lengths: Any) -> list[list[float] | None]:
    """Attention that each part's source words had, a word, (joined sentences, parts); None where parts can't be told."""
    rows: list[list[float] | None] = []
    for one, row in zip(found, lengths):
        weights = one.alignment
        if weights is None or weights.shape[-1] != row.sum() + 1:
            rows.append(None)
            continue
        sums = np.add.reduceat(weights.double().sum(0).numpy()[:-1], np.cumsum(row) - row)
        rows.append((sums / row).tolist())
    return rows


def maps(found: Sequence[Any], words: Sequence[str], side: Side, count: int) -> list[dict[str, Any]]:
    """Alignments to draw, chosen by rule: of ended translations, the median, the best and the worst by BLEU."""
    metric = attention.Bleu(tokenize="none", lowercase=True)
    references = side.joined(side.references, count)
    scores = metric.score(metric.statistics(words, references))
    lengths = side.part_lengths[side.places[count - 1]]
    able = [
        k
        for k, one in enumerate(found)
        if one.complete and one.alignment is not None and one.alignment.shape[-1] == lengths[k].sum() + 1
    ]
    order = sorted(able, key=lambda k: (scores[k], k))
    chosen = {which: order[round(share * (len(order) - 1))] for which, share in WHICH.items() if order}
    return [
        {
            "place": k,
            "which": which,
            "bleu": float(scores[k]),
            "weights": [[round(float(w), 3) for w in row] for row in found[k].alignment],
            "parts": lengths[k].tolist(),
        }
        for which, k in chosen.items()
    ]


def searches(translator: Any, sources: Sequence[str], side: Side, config: Config) -> list[dict[str, Any]]:
    """Other searches of the longest sentences: whether the search is to blame for what is lost."""
    corpus = side.text.corpus
    pairs = attention.EncodedPairs.encode(corpus.train, corpus.source, corpus.target)
    usual = float(pairs.target_lengths.sum() / pairs.source_lengths.sum())
    asked: dict[str, dict[str, Any]] = {
        "greedy": {"width": 1},
        f"beam of {config.beam}, scores over lengths": {"normalize": "length"},
        f"beam of {config.beam}, at least {SHARE * usual:.2f} of the source's length": {
            "minimum": SHARE * usual,
            "maximum": 2 * usual + 1,
        },
    }
    rows = []
    for name, options in asked.items():
        options = {"width": config.beam, **options}
        found = translator.translate(sources, batch=translation.CHUNK, **options)
        rows.append({"name": name, "words": words_of(config, side, found)})
    return rows


# what went wrong


def repeats(line: str, n: int = 4) -> tuple[int, int]:
    """How many of a line's n-grams were there before in it, and how many it has."""
    words = line.split()
    grams = list(zip(*(words[k:] for k in range(n))))
    return len(grams) - len(set(grams)), len(grams)


def repeated_share(lines: Sequence[str]) -> float:
    """Share of all four-grams of some lines that are repetitions within their line."""
    counts = np.array([repeats(line) for line in lines])
    return float(counts[:, 0].sum() / max(1, counts[:, 1].sum()))


def cut(line: str) -> list[str]:
    """A line's sentences, each with the mark that ends it; what follows the last mark is one too."""
    parts: list[list[str]] = [[]]
    for word in line.split():
        parts[-1].append(word)
        if word in MARKS:
            parts.append([])
    return [" ".join(part) for part in parts if part]


def whole(lines: Sequence[str]) -> Any:
    """Which lines are one sentence each, with its mark at the end, (n,)."""
    return np.array([len(cut(line)) == 1 and line.split()[-1] in MARKS for line in lines])


def positions(lines: Sequence[str], count: int) -> list[list[str]]:
    """By position, the first `count` sentences of each line, empty ones where there are fewer."""
    found = [(cut(line) + [""] * count)[:count] for line in lines]
    return [list(column) for column in zip(*found)]
