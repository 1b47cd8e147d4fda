"""Number words of one language into another: attention beside two models with one context, trained on short numbers."""

from __future__ import annotations

from dataclasses import dataclass

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _translation as translation
from fingerpost.lab import Run

fits = lazy_import("fingerpost.experiments._attention_numbers_fits")
results = lazy_import("fingerpost.experiments._attention_numbers_results")
texts = lazy_import("fingerpost.experiments._attention_numbers_text")

SHORTEST = 5
"""Fewest words of the longest trained source: BLEU needs four, and there must be shorter and longer ones."""


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      source_language: What numbers are translated from, by num2words's code.
      target_language: What they are translated to; German and Dutch say units before tens.
      digits: Digits of the largest number.
      longest: Words of the longest source that is trained on.
      examples: Pairs to train on, at most.
      tests: Numbers of each source length to test on, at most.
      held: Numbers to watch the training with, at most.
      draw: Seeds which numbers are drawn, so that trainings of all seeds see one text.
      seeds: Trainings of each model, for the intervals over trainings.
      seed: First seed; seed, seed + 1, … give weights and batches.
      reuse: Run folders of this experiment, separated by commas, whose models are taken, so that each can train its own seeds.
      embedding: Numbers of a word's embedding.
      hidden: Units of encoder, decoder, alignment and read-out.
      dropout: Fraction of numbers that training drops.
      epochs: Passes over the pairs.
      batch_size: Pairs per update.
      rate: Adam's learning rate; it falls to a twentieth in the second half.
      beam: Hypotheses of a sentence.
      device: Where to compute.
    """

    source_language: str = "en"
    target_language: str = "de"
    digits: int = 30
    longest: int = 20
    examples: int = 20_000
    tests: int = 40
    held: int = 400
    draw: int = 0
    seeds: int = 3
    seed: int = 0
    reuse: str = ""
    embedding: int = 64
    hidden: int = 128
    dropout: float = 0.0
    epochs: int = 8
    batch_size: int = 64
    rate: float = 0.002
    beam: int = 5
    device: str = "cpu"


PRESETS = {
    "quick": Config(
        digits=15, longest=16, examples=6_000, held=100, seeds=2, embedding=32, hidden=64, epochs=4, batch_size=32,
        rate=0.004, beam=1,
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work, MissingExtraError without num2words; imports no torch."""
    translation.check_least(config, 1, "digits", "tests", "held", "seeds")
    translation.check_least(config, 0, "draw", "seed")
    if config.longest < SHORTEST or config.examples < config.longest:
        raise ConfigError(
            f"longest is {config.longest} and examples {config.examples}; expected at least {SHORTEST} words, and as many pairs"
        )
    if config.source_language == config.target_language:
        raise ConfigError(
            f"source_language and target_language are both {config.source_language!r}; give two"
        )
    translation.check_recipe(config)
    texts.check_languages(config)


def run(config: Config, run: Run) -> None:
    """Draws numbers, trains every model on short ones, translates short and long ones, and states what held."""
    text = texts.text_of(config)
    found = fits.measure(config, text, run)
    results.show(config, text, found, run)
