"""Sentences longer than those trained on: real pairs joined, attention beside two models with one context."""

from __future__ import annotations

from dataclasses import dataclass

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _translation as translation
from fingerpost.experiments import attention_translation as own_text
from fingerpost.lab import Run

texts = lazy_import("fingerpost.experiments._attention_length_text")
fits = lazy_import("fingerpost.experiments._attention_length_fits")
results = lazy_import("fingerpost.experiments._attention_length_results")

LEAST = 20
"""Joined sentences that a length needs to be scored."""


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      source_file: Lines to translate from, UTF-8, plain or gzipped; or both sides with a tab between them. Without, the text is
        numbers in English words.
      target_file: Their translations, line by line; without files, the numbers in French words.
      test_source_file: Lines to test on, given like source_file; without, lines are drawn from the text.
      test_target_file: Their translations.
      held_source_file: Lines to watch the training with, given like source_file; without, they are drawn from the text.
      held_target_file: Their translations.
      source_language: Two letters for the rules that part words from punctuation; those of a name like train.en.gz unless
        given; none for text that is tokenised already.
      target_language: The same for the other side.
      segmentation: What has an id: words, or subwords by bpe or unigram.
      vocabulary: Most words of each language, or its number of subwords; 0 is 30,000 words, as in the paper, or 8,000 subwords.
      minimum: Least times that a word must be there.
      lower: Whether to make all letters small.
      limit: Words of the longest line; pairs to train on with a longer one are left out, longer ones to test on refused.
      numbers: Largest number of the text without files.
      trained: Pairs that are joined to train on: 1, 2, … up to so many.
      longest: Pairs that are joined to test on: 1, 2, … up to so many.
      examples: Pairs to train on, drawn at random, at most; 0 is all. Each is there once alone, once in a two, and so on.
      tests: Pairs to test on, at most; without test files also at most a tenth of the text. Each is there once at each length.
      held: Pairs to watch the training with, at most, and as tests.
      draw: Seeds which pairs are drawn and joined, so that trainings of all seeds see one text.
      models: What is trained: search, and of fixed and encdec what is to be beside it.
      seeds: Trainings of each model, for the intervals over trainings.
      seed: First seed; seed, seed + 1, … give weights and batches.
      reuse: Run folders of this experiment, separated by commas, whose models are taken, so that each can train its own seeds.
      embedding: Numbers of a word's embedding.
      hidden: Units of encoder, decoder, alignment and read-out.
      dropout: Fraction of numbers that training drops.
      epochs: Passes over the joined pairs, hence `trained` times as many over the pairs.
      batch_size: Joined pairs per update.
      rate: Adam's learning rate; it falls to a twentieth in the second half.
      beam: Hypotheses of a sentence.
      within: BLEU that a score may be away from that of single pairs, to count as held.
      device: Where to compute.
    """

    source_file: str = ""
    target_file: str = ""
    test_source_file: str = ""
    test_target_file: str = ""
    held_source_file: str = ""
    held_target_file: str = ""
    source_language: str = ""
    target_language: str = ""
    segmentation: str = "words"
    vocabulary: int = 0
    minimum: int = 2
    lower: bool = True
    limit: int = 50
    numbers: int = 9_999
    trained: int = 3
    longest: int = 8
    examples: int = 0
    tests: int = 840
    held: int = 240
    draw: int = 0
    models: tuple[str, ...] = ("search", "fixed", "encdec")
    seeds: int = 3
    seed: int = 0
    reuse: str = ""
    embedding: int = 256
    hidden: int = 256
    dropout: float = 0.2
    epochs: int = 3
    batch_size: int = 64
    rate: float = 0.002
    beam: int = 5
    within: float = 3.0
    device: str = "cpu"


PRESETS = {
    "quick": Config(
        longest=6, examples=2_000, tests=240, held=60, seeds=1, embedding=96, hidden=96, dropout=0.1, epochs=5,
        batch_size=32, rate=0.003,
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work, among them missing files; imports no torch."""
    own_text.check_text(config)
    if not config.source_file and (config.test_source_file or config.held_source_file):
        raise ConfigError(
            "--test-source-file or --held-source-file is given without --source-file: give the text to train on as well"
        )
    translation.check_least(config, 1, "minimum", "limit", "held", "seeds", "trained")
    translation.check_least(config, 0, "vocabulary", "examples", "draw", "seed")
    if config.longest < max(2, config.trained):
        raise ConfigError(
            f"longest is {config.longest}; it must be at least 2, and at least trained, which is {config.trained}"
        )
    if config.tests < config.longest * LEAST:
        raise ConfigError(
            f"tests is {config.tests}; {config.longest} pairs joined, {LEAST} times, need {config.longest * LEAST} pairs"
        )
    if not config.within > 0:
        raise ConfigError(f"within is {config.within}; it must be above 0 BLEU")
    if not config.source_file and not 99 <= config.numbers < 1_000_000:
        raise ConfigError(f"numbers is {config.numbers}; the text without files needs 99 to 999,999")
    translation.check_recipe(config)


def run(config: Config, run: Run) -> None:
    """Joins the pairs, trains every model, translates joined sentences whole and part by part, and states what held."""
    side = texts.prepare(config, run)
    found = fits.measure(config, side, run)
    results.show(config, side, found, run)
