"""Your own parallel text: attention beside two models with one context, by length, by known words, and in pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _translation as translation
from fingerpost.lab import Run

texts = lazy_import("fingerpost.experiments._attention_translation_text")
fits = lazy_import("fingerpost.experiments._attention_translation_fits")
results = lazy_import("fingerpost.experiments._attention_translation_results")

HOW_TO_GIVE = (
    "give --source-file and --target-file, line i of one a translation of line i of the other (UTF-8, plain or gzipped), or "
    "--source-file alone with both on a line, a tab between them"
)
SEGMENTATIONS = ("words", "bpe", "unigram")


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      source_file: Lines to translate from, UTF-8, plain or gzipped; or both sides with a tab between them.
      target_file: Their translations, line by line.
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
      examples: Pairs to train on, drawn at random, at most; 0 is all.
      tests: Pairs to test on, at most; without test files also at most a tenth of the text.
      held: Pairs to watch the training with, at most, and as tests.
      draw: Seeds which pairs are drawn, so that trainings of all seeds see one text.
      both_directions: Whether to train and test the other direction too.
      models: What is trained: search, and of fixed and encdec what is to be beside it.
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
      edges: Longest source of each bucket but the last, in words; none takes the test set's quantiles.
      target_bleu: Tokenised BLEU without case that attention is claimed to reach; 0 claims none.
      target_bleu_back: The same for the other direction.
      target_gap: BLEU that attention is claimed to be above each other model; 0 claims more than none.
      target_minutes: CPU minutes within which attention is claimed to be trained; 0 claims none, nor does a GPU.
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
    limit: int = 100
    examples: int = 0
    tests: int = 2_000
    held: int = 2_000
    draw: int = 0
    both_directions: bool = False
    models: tuple[str, ...] = ("search", "fixed", "encdec")
    seeds: int = 3
    seed: int = 0
    reuse: str = ""
    embedding: int = 256
    hidden: int = 256
    dropout: float = 0.3
    epochs: int = 5
    batch_size: int = 64
    rate: float = 0.002
    beam: int = 5
    edges: tuple[int, ...] = ()
    target_bleu: float = 0.0
    target_bleu_back: float = 0.0
    target_gap: float = 0.0
    target_minutes: float = 0.0
    device: str = "cpu"


PRESETS = {
    "quick": Config(
        examples=4_000, tests=600, held=200, seeds=1, embedding=128, hidden=128, dropout=0.2, epochs=5, batch_size=32,
        rate=0.005,
    ),
    "full": Config(),
}  # fmt: skip


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work, among them missing files; imports no torch."""
    if not config.source_file:
        raise ConfigError(
            f"attention-translation reads your own text, and --source-file is not given: {HOW_TO_GIVE}"
        )
    check_text(config)
    translation.check_least(config, 1, "minimum", "limit", "tests", "held", "seeds")
    translation.check_least(config, 0, "vocabulary", "examples", "draw", "seed")
    edges = config.edges
    if list(edges) != sorted(set(edges)) or min(edges, default=1) < 1:
        raise ConfigError(f"edges are {edges}; give lengths in words, at least 1 and increasing")
    translation.check_recipe(config)


def check_text(config: Any) -> None:
    """Raises ConfigError for files, segmentation or models that another experiment's `Config` asks for in the same fields."""
    _check_files(config)
    if config.segmentation not in SEGMENTATIONS:
        raise ConfigError(
            f"segmentation is {config.segmentation!r}; expected one of {', '.join(SEGMENTATIONS)}"
        )
    _check_models(config)


def _check_files(config: Any) -> None:
    for part in ("", "test_", "held_"):
        source, target = f"{part}source_file", f"{part}target_file"
        if getattr(config, target) and not getattr(config, source):
            raise ConfigError(f"--{target} is given without --{source}".replace("_", "-"))
        for name in (source, target):
            given = getattr(config, name)
            if given and not Path(given).expanduser().is_file():
                flag = name.replace("_", "-")
                raise ConfigError(f"--{flag}: there is no file {given!r}; {HOW_TO_GIVE}")


def _check_models(config: Any) -> None:
    known, asked = translation.MODELS, config.models
    if "search" not in asked or len(set(asked)) != len(asked) or not set(asked) <= set(known):
        raise ConfigError(
            f"models are {', '.join(asked) or 'none'}; give search, and beside it any of {', '.join(list(known)[1:])}"
        )


def run(config: Config, run: Run) -> None:
    """Reads the text, trains and tests every model in each direction, writes predictions, and states what held."""
    results.metrics()  # a library that is missing is told before anything is trained
    text = texts.load(config)
    sides = texts.directions(config, text)
    texts.keep(text, run)
    texts.describe(config, text, sides, run)
    for side in sides:
        found = fits.measure(config, side, run)
        fits.write_predictions(side, found, run)
        results.show(config, side, found, run)
