"""Trainings and translations of attention-translation, and what is kept of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fingerpost import attention
from fingerpost.experiments import _translation as translation
from fingerpost.experiments._attention_translation_text import Direction
from fingerpost.lab import Run, files

if TYPE_CHECKING:
    from fingerpost.experiments.attention_translation import Config

MEASURES = ("entropy", "monotonicity", "missed", "repeated")
MOST = 16
"""Source words of the longest sentence whose alignment is drawn."""
FEWEST = 6
"""Source words of the shortest one."""
DRAWN = 2
"""Maps of ordinary sentences, and of those least in order."""


class Found(NamedTuple):
    """By the model's name, for each training: facts of it, what it made of the test set, and words to score."""

    facts: dict[str, list[dict[str, Any]]]
    tested: dict[str, list[dict[str, Any]]]
    words: dict[str, list[list[str]]]


def measure(config: Config, side: Direction, run: Run) -> Found:
    """Trains every model with every seed, and translates the test set by each."""
    recipe = translation.recipe_of(config)
    found = Found({}, {}, {})
    for kind in config.models:
        for seed in range(config.seed, config.seed + config.seeds):
            name = f"{side.prefix}{kind}-{seed}"
            translator, facts = translation.trained(kind, side.corpus, recipe, seed, run, side.prefix)
            tested = run.once(f"test-{name}", lambda t=translator: tested_by(t, side, recipe))
            found.facts.setdefault(kind, []).append(facts)
            found.tested.setdefault(kind, []).append(tested)
            found.words.setdefault(kind, []).append(words_of(config, side, tested))
    return found


def words_of(config: Config, side: Direction, tested: dict[str, Any]) -> list[str]:
    """Translations with spaces between their words."""
    return translation.Output(tested["lines"], tested["tokens"]).words(config.segmentation, side.target_words)


def tested_by(translator: Any, side: Direction, recipe: translation.Recipe) -> dict[str, Any]:
    """What a model makes of the test set: translations, perplexity, and, with attention, its alignments."""
    pairs = attention.EncodedPairs.encode(side.test, side.corpus.source, side.corpus.target)
    found = translation.translations(translator, side.test.source, recipe)
    output = translation.output_of(found)
    kept: dict[str, Any] = {
        "lines": output.lines,
        "tokens": output.tokens,
        "complete": sum(one.complete for one in found),
        "perplexity": translation.finite(translation.held_out_perplexity(translator.model, pairs, recipe)),
    }
    if any(one.alignment is not None for one in found):
        kept |= alignments(found)
        kept["maps"] = maps(found, kept["monotonicity"], kept["entropy"])
    return kept


def alignments(found: Sequence[Any]) -> dict[str, list[float | None]]:
    """Each sentence's measures of how it was read; None where there is no alignment, or no order of one word."""
    rows: dict[str, list[float | None]] = {name: [] for name in MEASURES}
    for one in found:
        weights = one.alignment
        values = dict.fromkeys(MEASURES, float("nan"))
        if weights is not None and len(weights):
            weights = weights.double()
            length = weights.new_tensor(weights.shape[-1])
            read = attention.coverage(weights)
            values = {
                "entropy": float(attention.alignment_entropy(weights, source_lengths=length)),
                "monotonicity": float(attention.monotonicity(weights)),
                "missed": float(read.missed),
                "repeated": float(read.repeated),
            }
        for name, value in values.items():
            rows[name].append(translation.finite(value))
    return rows


def maps(
    found: Sequence[Any], order: Sequence[float | None], entropy: Sequence[float | None]
) -> list[dict[str, Any]]:
    """Alignments to draw, chosen by rule: sentences nearest the median length, and those least in order of the sharper half."""
    lengths = [len(one.source_words) - 1 for one in found]
    able = [
        k
        for k, one in enumerate(found)
        if one.complete and order[k] is not None and FEWEST <= lengths[k] <= MOST
    ]
    middle = float(np.median(lengths))
    usual = sorted(able, key=lambda k: (abs(lengths[k] - middle), k))[:DRAWN]
    # a translation that failed looks everywhere, which is no order either
    sharp = sorted((k for k in able if k not in usual), key=lambda k: (entropy[k], k))
    least = sorted(sharp[: -(-len(sharp) // 2)], key=lambda k: (order[k], k))[:DRAWN]
    return [
        {
            "place": k,
            "order": order[k],
            "weights": [[round(float(w), 4) for w in row] for row in found[k].alignment],
            "source": found[k].source_words,
            "target": found[k].target_words,
        }
        for k in (*usual, *least)
    ]


def write_predictions(side: Direction, found: Found, run: Run) -> None:
    """Text files of what was tested, the references, and each model's translations, line by line."""
    folder = run.directory / "predictions"
    lines = {"source": side.test.source, "reference": side.test.target}
    for kind, tested in found.tested.items():
        for k, one in enumerate(tested):
            lines[f"{kind}-{run.seed + k}"] = one["lines"]
    for name, rows in lines.items():
        files.write_text(folder / f"{side.prefix}{name}.txt", "".join(f"{row}\n" for row in rows))
