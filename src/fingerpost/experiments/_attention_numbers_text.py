"""Numbers as words of two languages: names by num2words, cut into words, and which are trained on and which are tested."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fingerpost._lazy import lazy_import, require_extra
from fingerpost.errors import ConfigError, did_you_mean
from fingerpost.experiments._translation import Corpus
from fingerpost.lab import derive_seed

if TYPE_CHECKING:
    from fingerpost.experiments.attention_numbers import Config

attention = lazy_import("fingerpost.attention")

PURPOSE = "the words of numbers"
JOINTS = {
    "de": ("ein", "eine", "und", "hundert", "tausend"),
    "nl": ("een", "en", "ën", "honderd", "duizend"),
    "da": ("en", "et", "og", "hundrede", "tusind", "tusinde"),
}
"""Of languages that write a number as one long word: what they put between the names of small numbers."""
SMALL = (*range(21), *range(30, 100, 10))
PART = 5
"""At most one number in so many of a length is tested or held out, so that short ones are trained on as well."""
PATIENCE = 300
"""Draws for a length that find nothing new, one after another, after which it is taken to have no more numbers."""


class Language:
    """How one language says numbers.

    Args:
      code: num2words's name of it, such as "en".

    >>> " ".join(Language("de").words(121_000)), Language("en").words(23)
    ('ein hundert ein und zwanzig tausend', ('twenty', 'three'))
    """

    def __init__(self, code: str) -> None:
        library: Any = require_extra("num2words", "text", PURPOSE)
        if code not in library.CONVERTER_CLASSES:
            known = sorted(library.CONVERTER_CLASSES)
            raise ConfigError(
                f"num2words has no language {code!r}{did_you_mean(code, known)}; it has {', '.join(known)}"
            )
        self.code, self._name = code, lambda number: library.num2words(number, lang=code)

    def words(self, number: int) -> tuple[str, ...]:
        """The words of a number, in small letters; hyphens and commas part words, and long words are cut.

        Raises:
          ConfigError: If num2words can't say it.
        """
        return tuple(piece for word in self._plain(number) for piece in self._cut(word) or [word])

    def _plain(self, number: int) -> list[str]:
        try:
            return re.sub(r"[-,]", " ", self._name(number).lower()).split()
        except (OverflowError, NotImplementedError, TypeError) as error:
            raise ConfigError(
                f"num2words can't say {number} in {self.code!r} ({error}); choose fewer digits or another language"
            ) from None

    @cached_property
    def _pieces(self) -> list[str]:
        joints = JOINTS.get(self.code, ())
        names = {word for number in SMALL for word in self._plain(number)} if joints else set()
        # the longest first: sechzehn is one word, not sechs and what is left
        return sorted(names | set(joints), key=lambda piece: (-len(piece), piece))

    def _cut(self, word: str) -> list[str] | None:
        """The pieces of a word, none of them left over; None if there are no such."""
        if not word:
            return []
        for piece in self._pieces:
            if word.startswith(piece) and (rest := self._cut(word[len(piece) :])) is not None:
                return [piece, *rest]
        return None

    @cached_property
    def _twos(self) -> tuple[int, int, frozenset[tuple[str, ...]]] | None:
        """Places of the units and the tens in 21 … 99, and the words of all such numbers; None if they have no such places."""
        words, units, tens = self.words(23), self.words(3), self.words(20)
        if len(units) != 1 or len(tens) != 1 or units[0] not in words or tens[0] not in words:
            return None
        said = (self.words(10 * ten + unit) for ten in range(2, 10) for unit in range(1, 10))
        alike = frozenset(name for name in said if len(name) == len(words))
        return words.index(units[0]), words.index(tens[0]), alike

    @property
    def units_first(self) -> bool | None:
        """Whether it says three and twenty, not twenty-three; None if the two can't be told apart in its words."""
        return None if self._twos is None else self._twos[0] < self._twos[1]

    def twos(self, words: Sequence[str]) -> list[tuple[int, int]]:
        """Places of the words for units and for tens, in each part of a number that is like 23.

        >>> Language("de").twos("ein hundert drei und zwanzig tausend vier".split())
        [(2, 4)]
        """
        if self._twos is None:
            return []
        units, tens, said = self._twos
        width = len(self.words(23))
        return [
            (start + units, start + tens)
            for start in range(len(words) - width + 1)
            if tuple(words[start : start + width]) in said
        ]


@lru_cache(maxsize=16)
def language(code: str) -> Language:
    """A language by its code."""
    return Language(code)


class Part(NamedTuple):
    """Numbers and their lines in both languages."""

    numbers: list[int]
    source: list[str]
    target: list[str]

    @property
    def lengths(self) -> list[int]:
        """Words of each source."""
        return [len(line.split()) for line in self.source]


class Text(NamedTuple):
    """What is trained on, what the training is watched with, and what is tested; no number is in two of them."""

    train: Part
    held: Part
    test: Part


def text_of(config: Config) -> Text:
    """Draws the numbers; each length in words is as frequent as any other, as far as there are so many.

    Numbers of one word are trained on, all of them, and not tested: most words are such numbers.

    Raises:
      ConfigError: If a language can't say such numbers, or writes some as words that no other has.
    """
    source, target = language(config.source_language), language(config.target_language)
    alone = [number for number in range(1, 100) if len(source.words(number)) == 1]
    train: list[int] = []
    held: list[int] = []
    test: list[int] = []
    for length, numbers in enumerate(_pool(config, source), 1):
        beyond = length > config.longest
        tests = min(config.tests, len(numbers) if beyond else len(numbers) // PART)
        watched = 0 if beyond else min(-(-config.held // config.longest), len(numbers) // PART)
        test += numbers[:tests]
        held += numbers[tests : tests + watched]
        train += [] if beyond else numbers[tests + watched :]
    order = np.random.default_rng(derive_seed(config.draw, "order")).permutation(len(train))
    train = alone + [train[k] for k in order[: max(0, config.examples - len(alone))]]
    return Text(*(_said(numbers, source, target) for numbers in (train, held, test)))


def _said(numbers: list[int], source: Language, target: Language) -> Part:
    return Part(numbers, *([" ".join(side.words(n)) for n in numbers] for side in (source, target)))


def _pool(config: Config, source: Language) -> list[list[int]]:
    """Different numbers of two words and more by their words in the source, in the order in which they were drawn."""
    share = -(-config.examples // config.longest)
    most = max(len(source.words(10**config.digits - 1)), config.longest)
    room = [share + config.tests + config.held if k < config.longest else config.tests for k in range(most)]
    room[0] = 0
    pool: list[list[int]] = [[] for _ in room]
    draw, seen = np.random.default_rng(derive_seed(config.draw, "numbers")), {0}
    failed = [0] * most
    while open_places := [k for k in range(most) if len(pool[k]) < room[k] and failed[k] < PATIENCE]:
        wanted = open_places[draw.integers(len(open_places))]
        number = _drawn(draw, wanted + 1, config.digits)
        place = most if number in seen else len(source.words(number)) - 1
        seen.add(number)
        found = place < most and len(pool[place]) < room[place]
        failed[wanted] = 0 if found else failed[wanted] + 1
        if found:
            pool[place].append(number)
    return pool


def _drawn(draw: Any, length: int, digits: int) -> int:
    """A number that may have so many words: languages say a digit that is not 0 in one to three of them."""
    filled = draw.integers(-(-length // 3), length + 1).clip(1, digits)
    places = draw.choice(digits, size=filled, replace=False)
    return sum(
        int(digit) * 10 ** int(place) for digit, place in zip(draw.integers(1, 10, size=filled), places)
    )


def corpus_of(text: Text) -> Corpus:
    """Pairs and segmenters whose words are what lies between spaces.

    Raises:
      ConfigError: If a word that is tested is in no pair that is trained on.
    """
    sides = [attention.WordSegmenter.train(lines) for lines in (text.train.source, text.train.target)]
    for segmenter, name in zip(sides, ("source", "target")):
        for line in getattr(text.test, name):
            if segmenter.unknowns(line):
                raise ConfigError(
                    f"{name}_language: {line!r} has words that were not in {len(text.train.numbers)} pairs; train on more, or "
                    "choose a language that does not write numbers as one word"
                )
    pairs = [attention.ParallelText(part.source, part.target) for part in (text.train, text.held)]
    return Corpus(*pairs, *sides)


def check_languages(config: Config) -> None:
    """Raises ConfigError for a language that num2words lacks, or that can't say numbers of so many digits."""
    for code in (config.source_language, config.target_language):
        language(code).words(10**config.digits - 1)
