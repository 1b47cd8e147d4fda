"""Trainings and translations of attention-numbers, and how attention read the numbers that came out right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fingerpost import attention
from fingerpost.experiments import _translation as translation
from fingerpost.experiments._attention_numbers_text import Part, Text, corpus_of, language
from fingerpost.lab import Run

if TYPE_CHECKING:
    from fingerpost.experiments.attention_numbers import Config

MEASURES = (
    "order",
    "entropy",
    "tens_order",
    "tens_entropy",
    "tens_weight",
    "rest_order",
    "rest_entropy",
)
"""Of the whole output; where tens and units are said, with the weight on the right word; and of all other neighbours."""


class Found(NamedTuple):
    """By the model's name, for each training: facts of it, and what it made of the tested numbers."""

    facts: dict[str, list[dict[str, Any]]]
    tested: dict[str, list[dict[str, Any]]]


def measure(config: Config, text: Text, run: Run) -> Found:
    """Trains every model with every seed, and translates the tested numbers by each."""
    recipe, corpus = translation.recipe_of(config), corpus_of(text)
    found = Found({}, {})
    for kind in translation.MODELS:
        for seed in range(config.seed, config.seed + config.seeds):
            translator, facts = translation.trained(kind, corpus, recipe, seed, run)
            tested = run.once(
                f"test-{kind}-{seed}",
                lambda t=translator: tested_by(t, config, text.test, recipe),
            )
            found.facts.setdefault(kind, []).append(facts)
            found.tested.setdefault(kind, []).append(tested)
    return found


def tested_by(translator: Any, config: Config, test: Part, recipe: translation.Recipe) -> dict[str, Any]:
    """What a model makes of the tested numbers, and, with attention, how it read them."""
    found = translation.translations(translator, test.source, recipe)
    kept: dict[str, Any] = {"lines": translation.output_of(found).tokens}
    if any(one.alignment is not None for one in found):
        kept["reading"] = reading(found, config, test)
        kept["maps"] = maps(found, config, test)
    return kept


def right(one: Any, reference: str) -> bool:
    """Whether a translation is the reference, to its end."""
    return one.complete and " ".join(one.target_words[:-1]) == reference


def reading(found: Sequence[Any], config: Config, test: Part) -> dict[str, list[float | None]]:
    """Each output's measures; those of tens, units and the rest only where the output is right."""
    rows: dict[str, list[float | None]] = {name: [] for name in MEASURES}
    for one, reference in zip(found, test.target):
        values: dict[str, float] = {}
        if one.alignment is not None and len(one.alignment) > 1:
            weights = one.alignment.double().cpu()
            values = {
                "order": float(attention.monotonicity(weights)),
                "entropy": _entropy(weights),
            }
            if right(one, reference):
                values |= read_at_tens(weights, one.source_words[:-1], one.target_words[:-1], config)
        for name in MEASURES:
            rows[name].append(translation.finite(values.get(name, float("nan"))))
    return rows


def read_at_tens(
    weights: torch.Tensor, source: Sequence[str], target: Sequence[str], config: Config
) -> dict[str, float]:
    """How tens and their units were read, and how all other words beside each other."""
    pairs = language(config.target_language).twos(target)
    columns = language(config.source_language).twos(source)
    values: dict[str, float] = {}
    if pairs and len(pairs) == len(columns):
        rows = torch.tensor([sorted(pair) for pair in pairs])
        values["tens_order"] = float(attention.monotonicity(weights[rows]).mean())
        values["tens_entropy"] = _entropy(weights[rows.flatten()])
        values["tens_weight"] = float(weights[torch.tensor(pairs), torch.tensor(columns)].mean())
    within = {place for pair in pairs for place in range(min(pair), max(pair) + 1)}
    rest = [k for k in range(len(target) - 1) if not {k, k + 1} & within]
    if rest:
        rows = torch.tensor([(k, k + 1) for k in rest])
        values["rest_order"] = float(attention.monotonicity(weights[rows]).mean())
        values["rest_entropy"] = _entropy(weights[rows.flatten().unique()])
    return values


def _entropy(weights: torch.Tensor) -> float:
    length = weights.new_tensor(weights.shape[-1])
    return float(attention.alignment_entropy(weights, source_lengths=length))


def maps(found: Sequence[Any], config: Config, test: Part) -> list[dict[str, Any]]:
    """Alignments to draw, chosen by rule: right ones of half and of all the trained length and beyond it, and a wrong one."""
    lengths = test.lengths
    good = [
        k
        for k, one in enumerate(found)
        if right(one, test.target[k]) and language(config.target_language).twos(one.target_words)
    ]
    bad = [k for k, one in enumerate(found) if one.alignment is not None and not right(one, test.target[k])]
    within = [k for k in good if lengths[k] <= config.longest]
    beyond = [k for k in good if lengths[k] > config.longest]
    chosen = [
        *_nearest(within, lengths, config.longest / 2),
        *_nearest(within, lengths, config.longest),
        *_nearest(beyond, lengths, drawn_beyond(config.longest)),
        *_nearest(bad, lengths, config.longest + 1),
    ]
    return [
        {
            "place": k,
            "right": k in good,
            "weights": [[round(float(w), 4) for w in row] for row in found[k].alignment],
            "source": found[k].source_words,
            "target": found[k].target_words,
        }
        for k in dict.fromkeys(chosen)
    ]


def drawn_beyond(longest: int) -> int:
    """Source words of a number beyond the trained lengths whose alignment is drawn: a quarter more than the longest."""
    return longest + max(1, longest // 4)


def _nearest(places: Sequence[int], lengths: Sequence[int], wanted: float) -> list[int]:
    return sorted(places, key=lambda k: (abs(lengths[k] - wanted), k))[:1]
