"""The text of attention-length: a user's pairs or numbers in words, and the same pairs joined, so many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fingerpost._lazy import require_extra
from fingerpost.attention import ParallelText, SpaceTokenizer
from fingerpost.errors import ConfigError, InvalidValueError
from fingerpost.experiments import _attention_translation_text as own
from fingerpost.experiments._translation import Corpus
from fingerpost.experiments.attention_length import LEAST
from fingerpost.lab import Run, derive_seed

if TYPE_CHECKING:
    from fingerpost.experiments.attention_length import Config

END = "."
"""What every number of the text without files ends in."""


class Side(NamedTuple):
    """What is trained on and tested.

    Args:
      text: Pairs as they are: test pairs among them, and how words are told apart.
      places: For 1, 2, … the test pairs that each joined sentence is made of, (joined sentences, so many).
    """

    text: own.Direction
    places: list[Any]

    def joined(self, lines: Sequence[str], count: int) -> list[str]:
        """Lines of the single test pairs, joined as the test pairs are."""
        return joined(lines, self.places[count - 1])

    @property
    def references(self) -> list[str]:
        """The words of each single test pair's translation, with spaces between them."""
        return [" ".join(self.text.target_words.tokenize(line)) for line in self.text.test.target]

    @property
    def part_lengths(self) -> Any:
        """Pieces of each single test pair's source, (n,)."""
        return np.array([len(self.text.corpus.source.split(line)) for line in self.text.test.source])


def joined(lines: Sequence[str], places: Iterable[Sequence[int]]) -> list[str]:
    """Lines joined by spaces; those that are empty leave nothing."""
    return [" ".join(lines[place] for place in row if lines[place]) for row in places]


def places_of(pairs: int, count: int, seed: int) -> Any:
    """Which pairs `ParallelText.joined` puts together, (joined sentences, count)."""
    numbers = [str(k) for k in range(pairs)]
    rows = ParallelText(numbers, numbers).joined(count, seed=seed).source
    return np.array([row.split() for row in rows], dtype=np.int64)


def prepare(config: Config, run: Run) -> Side:
    """Reads or makes the text, joins its pairs, and says what it is.

    Raises:
      ConfigError: If a file is not as it must be, there are too few pairs, or the run began with another text.
    """
    text = own.load(config) if config.source_file else numbers(config)  # pyright: ignore[reportArgumentType]
    if len(text.test) < LEAST * config.longest:
        raise ConfigError(
            f"there are {len(text.test)} pairs to test on; {config.longest} joined, {LEAST} times, need "
            f"{LEAST * config.longest}: lower --longest, raise --tests (without test files, at most a tenth of the text), or "
            "give test files"
        )
    side = Side(
        direction(config, text),
        [places_of(len(text.test), count, config.draw) for count in range(1, config.longest + 1)],
    )
    own.keep(text, run)
    describe(config, text, side, run)
    return side


def direction(config: Config, text: own.Text) -> own.Direction:
    """The pairs joined to train on, with words and ids."""
    files = config.source_file, config.target_file
    asked = config.source_language, config.target_language
    words: list[Any] = [SpaceTokenizer(config.lower)] * 2
    names = ["numbers in English", "in French"]
    if config.source_file:
        flags = "source-language", "target-language"
        words = [own.words_of(a, file, config.lower, flag) for a, file, flag in zip(asked, files, flags)]
        names = [own.named(a, file) or side for a, file, side in zip(asked, files, ("source", "target"))]
    sides = zip((text.train.source, text.train.target), words)
    ids = [own.segmenter_of(config, lines, cut) for lines, cut in sides]  # pyright: ignore[reportArgumentType]
    corpus = Corpus(mixture(text.train, config), mixture(text.held, config), *ids)
    return own.Direction("", " → ".join(names), corpus, text.test, *words)


def mixture(text: ParallelText, config: Config) -> ParallelText:
    """Every pair alone, every pair in a two, … and in a joined one of `trained`.

    Raises:
      ConfigError: If there are too few pairs.
    """
    if len(text) < config.trained:
        raise ConfigError(
            f"trained is {config.trained} and there are {len(text)} pairs to join; give more text, or more --held"
        )
    parts = [text.joined(count, seed=config.draw) for count in range(1, config.trained + 1)]
    return ParallelText(
        [line for part in parts for line in part.source], [line for part in parts for line in part.target]
    )


def numbers(config: Config) -> own.Text:
    """0, 1, … in English and French words, a full stop at the end of each.

    Raises:
      ConfigError: If there are too few numbers for what is asked.
    """
    write = require_extra("num2words", "text", "numbers in words").num2words
    ids = range(config.numbers + 1)
    whole = ParallelText(
        *([spelt(write(number, lang=language)) for number in ids] for language in ("en", "fr"))
    )
    try:
        rest, test = whole.split(config.tests, seed=derive_seed(config.draw, "test"))
        rest, held = rest.split(config.held, seed=derive_seed(config.draw, "held"))
    except InvalidValueError as error:
        raise ConfigError(
            f"--numbers: {config.numbers + 1} numbers are too few to train on, for {config.tests} tests and {config.held} held "
            f"out: {error}"
        ) from error
    train = own.some(rest, config.examples or len(rest), config, "train")  # pyright: ignore[reportArgumentType]
    return own.Text(train, held, test, 0, ("test", "held"))


def spelt(words: str) -> str:
    """A number's words with spaces between them, and its end."""
    return " ".join([*words.lower().replace("-", " ").replace(",", " ").split(), END])


def describe(config: Config, text: own.Text, side: Side, run: Run) -> None:
    """The paragraph on the text."""
    words = np.array([len(side.text.source_words.tokenize(line)) for line in text.train.source])
    given = "Without files: numbers in English words and in French words, a full stop at the end of each"
    if config.source_file:
        names = " and ".join(
            name.rsplit("/", 1)[-1] for name in (config.source_file, config.target_file) if name
        )
        given = f"{names}, {side.text.name}; {text.too_long:,} pairs with a line of more than {config.limit} words are left out"
    corpus, trained = side.text.corpus, config.trained
    counts = ", ".join(f"{len(places)} of {len(places[0])}" for places in side.places)
    run.text(
        "The text",
        f"{given}. {len(text.train):,} pairs to train on, with {words.mean():.1f} source words a pair ({words.min()} to "
        f"{words.max()}); {len(text.held):,} to watch with, {len(text.test):,} to test on. Pairs are drawn without replacement "
        f"and joined by spaces on both sides. Trained on {len(corpus.train):,} sentences: every pair once at each of 1 to "
        f"{trained} at a time. Tested at 1 to {config.longest} at a time, every test pair once at each ({counts}): what is to "
        f"be said is the same at every length, but for left-overs. {corpus.source.size:,} and {corpus.target.size:,} ids.",
    )
