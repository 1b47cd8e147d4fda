"""The text that attention-translation learns from: files, what is held out, words and their ids, the two directions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fingerpost import attention
from fingerpost.attention import ParallelText
from fingerpost.errors import ConfigError, InvalidValueError, MissingExtraError, ShapeError
from fingerpost.experiments._translation import Corpus
from fingerpost.lab import Run, derive_seed

if TYPE_CHECKING:
    from fingerpost.experiments.attention_translation import Config

SIZES = {"words": 30_000, "bpe": 8_000, "unigram": 8_000}
ALREADY = "none"
"""The language of text whose words have spaces between them already."""
SHARE = 10
"""Without files of their own, tests are at most one pair in so many."""


class Text(NamedTuple):
    """Pairs to train on, to watch with and to test on; how many were too long; which parts are not from their own files."""

    train: ParallelText
    held: ParallelText
    test: ParallelText
    too_long: int
    drawn: tuple[str, ...]


class Direction(NamedTuple):
    """One direction of translation: what is trained on, what is tested, how words are told apart to score them."""

    prefix: str
    name: str
    corpus: Corpus
    test: ParallelText
    source_words: Any
    target_words: Any

    @property
    def suffix(self) -> str:
        """What names of claims, tables and figures end in."""
        return "-back" if self.prefix else ""

    @property
    def lengths(self) -> list[int]:
        """Words of each tested source."""
        return [len(self.source_words.tokenize(line)) for line in self.test.source]

    @property
    def seen(self) -> int:
        """Tested sources that are in the text that was trained on as well."""
        trained = set(self.corpus.train.source)
        return sum(line in trained for line in self.test.source)

    @property
    def known(self) -> Any:
        """Which tested pairs have no unknown word in source and reference, (n,)."""
        sides = ((self.corpus.source, self.test.source), (self.corpus.target, self.test.target))
        return np.all([[segmenter.unknowns(line) == 0 for line in lines] for segmenter, lines in sides], 0)


def load(config: Config) -> Text:
    """Reads the files, and draws what has no file of its own.

    Raises:
      ConfigError: If a file is not as it must be; the message names the file and the line.
    """
    try:
        whole = ParallelText.read(config.source_file, config.target_file or None)
        rest = whole.filtered(config.limit)
        parts, drawn = {}, []
        for name, most in (("test", config.tests), ("held", config.held)):
            given = getattr(config, f"{name}_source_file")
            if given:
                other = getattr(config, f"{name}_target_file") or None
                parts[name] = some(ParallelText.read(given, other, limit=config.limit), most, config, name)
            else:
                count = min(most, max(1, len(rest) // SHARE))
                rest, parts[name] = rest.split(count, seed=derive_seed(config.draw, name))
                drawn.append(name)
        too_long = len(whole) - len(whole.filtered(config.limit))
        train = some(rest, config.examples or len(rest), config, "train")
    except (InvalidValueError, ShapeError) as error:
        raise ConfigError(_in_flags(str(error))) from error
    return Text(train, parts["held"], parts["test"], too_long, tuple(drawn))


def some(text: ParallelText, most: int, config: Config, name: str) -> ParallelText:
    """At most so many pairs, drawn at random, in their order."""
    if most >= len(text):
        return text
    order = np.random.default_rng(derive_seed(config.draw, "some", name)).permutation(len(text))
    return text.select(sorted(order[:most].tolist()))


def _in_flags(message: str) -> str:
    """What the reader says of its arguments, in the words of the command line."""
    message = message.replace(", or read with empty='drop'", ", of both files")
    before, raised, _ = message.partition("raise the limit, or leave them out")
    return f"{before}raise --limit, or take these pairs out" if raised else message


# words


def words_of(language: str, file: str, lower: bool, flag: str) -> Any:
    """What tells words apart: rules of the language that is given or that the file's name ends in, or spaces.

    Raises:
      ConfigError: If there are no rules for a language that is given.
    """
    if language == ALREADY:
        return attention.SpaceTokenizer(lower)
    guess = language or language_in(file)
    if not guess:
        return attention.SpaceTokenizer(lower)
    try:
        return attention.WordTokenizer(guess, lower=lower)
    except InvalidValueError as error:
        if not language:
            return attention.SpaceTokenizer(lower)
        raise ConfigError(f"--{flag}: {error}; '{ALREADY}' is for words with spaces between them") from error
    except MissingExtraError as error:
        raise MissingExtraError(f"{error}; or give --{flag} {ALREADY} for text that is tokenised") from error


def language_in(file: str) -> str:
    """The two letters that a name ends in, as in train.en or train.en.gz; empty if there are none."""
    ending = Path(file.removesuffix(".gz")).suffix.removeprefix(".").lower()
    return ending if len(ending) == 2 and ending.isalpha() else ""


def segmenter_of(config: Config, lines: Sequence[str], words: Any) -> Any:
    """What gives ids to the words or subwords of one language.

    Raises:
      ConfigError: If so many can't be had from this text.
    """
    size = config.vocabulary or SIZES[config.segmentation]
    try:
        if config.segmentation == "words":
            return attention.WordSegmenter.train(lines, size, minimum=config.minimum, tokenizer=words)
        return attention.Subwords.train(lines, size, config.segmentation, lower=config.lower)  # pyright: ignore[reportArgumentType]
    except InvalidValueError as error:
        raise ConfigError(f"--vocabulary, --minimum: {error}") from error


def directions(config: Config, text: Text) -> list[Direction]:
    """The direction that is asked for, and the other one if that is too."""
    files = config.source_file, config.target_file
    asked = config.source_language, config.target_language
    flags = "source-language", "target-language"
    words = [
        words_of(language, file, config.lower, flag) for language, file, flag in zip(asked, files, flags)
    ]
    ids = [
        segmenter_of(config, lines, own) for lines, own in zip((text.train.source, text.train.target), words)
    ]
    names = [
        named(language, file) or side for language, file, side in zip(asked, files, ("source", "target"))
    ]
    there = Direction(
        "", " → ".join(names), Corpus(text.train, text.held, ids[0], ids[1]), text.test, words[0], words[1]
    )
    if not config.both_directions:
        return [there]
    corpus = Corpus(text.train.swapped(), text.held.swapped(), ids[1], ids[0])
    return [
        there, Direction("back-", " → ".join(names[::-1]), corpus, text.test.swapped(), words[1], words[0])
    ]  # fmt: skip


def named(language: str, file: str) -> str:
    """What a language is called in headings; empty if nobody said."""
    return language if language and language != ALREADY else language_in(file)


# what is written of it


def keep(text: Text, run: Run) -> None:
    """Keeps what identifies the text in the run's folder.

    Raises:
      ConfigError: If the run began with another text.
    """
    digest = hashlib.sha256()
    for part in (text.train, text.held, text.test):
        for line in (*part.source, *part.target):
            digest.update(line.encode() + b"\n")
        digest.update(b"\n")
    facts = {"pairs": [len(part) for part in text[:3]], "sha256": digest.hexdigest()}
    stood = run.once("text", lambda: facts)
    if stood != facts:
        raise ConfigError(
            f"the text of {run.directory} has changed since the run began: it was {stood['pairs']} pairs to train on, hold out "
            f"and test on, and is {facts['pairs']}, or other lines; start another run"
        )


def describe(config: Config, text: Text, sides: Sequence[Direction], run: Run) -> None:
    """The paragraph on the text."""
    side = sides[0]
    ids = side.corpus.source, side.corpus.target
    unit = "words" if config.segmentation == "words" else f"subwords ({config.segmentation})"
    cut = [_cut(words) for words in (side.source_words, side.target_words)]
    drawn = (
        f" Drawn from the text: {' and '.join(text.drawn)} pairs; those with one source stay together."
        if text.drawn
        else ""
    )
    seen = ", ".join(f"{one.seen} ({one.name})" for one in sides)
    run.text(
        "The text",
        f"{Path(config.source_file).name}{' and ' + Path(config.target_file).name if config.target_file else ''}, {side.name}: "
        f"{len(text.train):,} pairs to train on, {len(text.held):,} to watch the training with, {len(text.test):,} to test on. "
        f"{text.too_long:,} pairs with a line of more than {config.limit} words were left out.{drawn} Tested sources that were "
        f"trained on too: {seen}. Words are told apart by {cut[0]} and {cut[1]}; {ids[0].size:,} and {ids[1].size:,} {unit} "
        f"have ids{', those that are there at least ' + str(config.minimum) + ' times' if unit == 'words' else ''}"
        f"{', all letters small' if config.lower else ''}. {int(side.known.sum()):,} tested pairs have no unknown word.",
    )


def _cut(words: Any) -> str:
    language = words.state.get("language")
    return f"Moses's rules ({language})" if language else "spaces"
