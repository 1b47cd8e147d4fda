"""From a line of text to ids and back: what a model is trained on and what a translator reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from fingerpost._lazy import require_extra
from fingerpost.attention.vocabulary import UNK, Vocabulary, fingerprint_of
from fingerpost.errors import InvalidTypeError, InvalidValueError


class AbstractSegmenter(ABC):
    """Cuts a line into pieces that have ids: words or subwords. Ids 0 to 3 are PAD, UNK, BOS and EOS."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ids: what a model takes as `source_size` or `target_size`."""

    @property
    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What JSON can hold and `load_segmenter` reads."""

    @abstractmethod
    def encode(self, line: str) -> list[int]:
        """The ids of a line, EOS at the end."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The line of ids, up to the first EOS."""

    @abstractmethod
    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The text of each id but EOS, PAD and BOS: the labels of an alignment's rows and columns."""

    @abstractmethod
    def split(self, line: str) -> list[str]:
        """The pieces of a line as they are written, unknown ones too."""

    def unknowns(self, line: str) -> int:
        """How many pieces of a line have no id: 0 for the sentences of a "no unknown words" subset."""
        return self.encode(line).count(UNK)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the state: a model refuses ids from a segmenter with another one (`check_fingerprint`)."""
        return fingerprint_of(self.state)


class Tokenizer(Protocol):
    """Cuts a line into words, and puts words together."""

    def tokenize(self, line: str) -> list[str]:
        """The words of a line."""
        ...

    def detokenize(self, words: Iterable[str]) -> str:
        """The line of words."""
        ...

    @property
    def state(self) -> dict[str, Any]:
        """Its arguments."""
        ...


class SpaceTokenizer(NamedTuple):
    """Words are what lies between spaces: for text that is tokenised already.

    Args:
      lower: Whether to make all letters small.

    >>> SpaceTokenizer(lower=True).tokenize("A red  hat .")
    ['a', 'red', 'hat', '.']
    """

    lower: bool = False

    def tokenize(self, line: str) -> list[str]:
        """The words of a line."""
        return (line.lower() if self.lower else line).split()

    def detokenize(self, words: Iterable[str]) -> str:
        """The words with spaces between them."""
        return " ".join(words)

    @property
    def state(self) -> dict[str, Any]:
        """Its arguments."""
        return {"kind": "space", "lower": self.lower}


class WordTokenizer:
    """Words and punctuation apart, by the rules of Moses: needs sacremoses, of the extra "text".

    Koehn and others (2007), Moses: open source toolkit for statistical machine translation,
    https://aclanthology.org/P07-2045. Nothing is escaped. What it puts together again may differ from the line in spaces.

    Args:
      language: Its two letters, such as "en" or "fr": for abbreviations and apostrophes.
      lower: Whether to make all letters small.

    Raises:
      InvalidValueError: If there are no rules for the language.
      MissingExtraError: If sacremoses is not installed.

    >>> tokenizer = WordTokenizer("fr", lower=True)
    >>> words = tokenizer.tokenize("L'homme attend, seul.")
    >>> words, tokenizer.detokenize(words)
    (["l'", 'homme', 'attend', ',', 'seul', '.'], "l'homme attend, seul.")
    """

    def __init__(self, language: str, *, lower: bool = False) -> None:
        moses = require_extra("sacremoses", "text", "tokenising words")
        known = _moses_languages()
        if language not in known:
            raise InvalidValueError(
                f"language is {language!r}; there are tokenising rules for {', '.join(known)}. Give the two letters, or use "
                "Subwords, which need no rules"
            )
        self.language, self.lower = language, lower
        self._split, self._join = moses.MosesTokenizer(language), moses.MosesDetokenizer(language)

    def tokenize(self, line: str) -> list[str]:
        """The words of a line."""
        words = self._split.tokenize(line, escape=False)
        return (
            [word.lower() for word in words] if self.lower else words
        )  # abbreviations are known by capitals

    def detokenize(self, words: Iterable[str]) -> str:
        """The line of words, punctuation where it belongs."""
        return self._join.detokenize(list(words), unescape=False)

    @property
    def state(self) -> dict[str, Any]:
        """Its arguments."""
        return {"kind": "moses", "language": self.language, "lower": self.lower}


def _moses_languages() -> list[str]:
    corpus = require_extra("sacremoses.corpus", "text", "tokenising words")
    # sacremoses takes any language it does not know for English, without a word
    return sorted(set(corpus.NonbreakingPrefixes().available_langs.values()) | {"ja", "ko"})


class WordSegmenter(AbstractSegmenter):
    """Whole words with ids from a vocabulary, as in the paper: a word without an id is UNK.

    Args:
      vocabulary: The words that have ids.
      tokenizer: How a line is cut into words: `WordTokenizer`, or `SpaceTokenizer` for text that is tokenised.

    >>> segmenter = WordSegmenter.train(["a red hat", "a cat"])
    >>> segmenter.encode("a blue cat"), segmenter.decode([4, 7, 6, 3])
    ([4, 1, 5, 3], 'a red hat')
    """

    def __init__(self, vocabulary: Vocabulary, tokenizer: Tokenizer | None = None) -> None:
        self.vocabulary, self.tokenizer = vocabulary, tokenizer or SpaceTokenizer()

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        size: int = 30_000,
        *,
        minimum: int = 1,
        tokenizer: Tokenizer | None = None,
    ) -> WordSegmenter:
        """The most frequent words of lines: see `Vocabulary.build`."""
        tokenizer = tokenizer or SpaceTokenizer()
        words = (tokenizer.tokenize(line) for line in check_lines(lines))
        return cls(Vocabulary.build(words, size, minimum), tokenizer)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.vocabulary.size

    def split(self, line: str) -> list[str]:
        """The words of a line."""
        return self.tokenizer.tokenize(line)

    def encode(self, line: str) -> list[int]:
        """The ids of a line's words, EOS at the end."""
        return self.vocabulary.encode(self.split(line))

    def decode(self, ids: Iterable[int]) -> str:
        """The line of ids, `<unk>` for UNK."""
        return self.tokenizer.detokenize(self.pieces(ids))

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The word of each id but EOS, PAD and BOS."""
        return self.vocabulary.decode(ids)

    @property
    def state(self) -> dict[str, Any]:
        """What JSON can hold and `load_segmenter` reads."""
        return {"kind": "words", "vocabulary": self.vocabulary.state, "tokenizer": self.tokenizer.state}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> WordSegmenter:
        """The segmenter of a `state`."""
        return cls(Vocabulary.from_state(state["vocabulary"]), load_tokenizer(state["tokenizer"]))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the state."""
        return fingerprint_of(self.state)


def load_tokenizer(state: dict[str, Any]) -> Tokenizer:
    """The tokenizer of a state.

    Raises:
      InvalidValueError: If its kind is not known.
    """
    if state.get("kind") == "space":
        return SpaceTokenizer(state["lower"])
    if state.get("kind") == "moses":
        return WordTokenizer(state["language"], lower=state["lower"])
    raise InvalidValueError(f"a tokenizer's kind is {state.get('kind')!r}; expected 'space' or 'moses'")


def load_segmenter(state: dict[str, Any]) -> AbstractSegmenter:
    """The segmenter of a `state`, whichever it is.

    Raises:
      InvalidValueError: If it is no segmenter's state.

    >>> load_segmenter(WordSegmenter.train(["a red hat"]).state).encode("a hat")
    [4, 5, 3]
    """
    from fingerpost.attention.subwords import Subwords  # subwords are a segmenter

    kinds: dict[str, Any] = {"words": WordSegmenter, "subwords": Subwords}
    kind = state.get("kind") if isinstance(state, dict) else None
    if kind not in kinds:
        raise InvalidValueError(f"a segmenter's kind is {kind!r}; expected one of {', '.join(kinds)}")
    try:
        return kinds[kind].from_state(state)
    except KeyError as error:
        raise InvalidValueError(f"a segmenter's state lacks {error}; it was cut or changed") from None


def check_lines(lines: Iterable[str]) -> Iterable[str]:
    """The lines; raises if one is no text, or all is one text."""
    if isinstance(lines, (str, bytes)):
        raise InvalidTypeError("lines is one text; expected a list of lines: split it first")
    for number, line in enumerate(lines, 1):
        if not isinstance(line, str):
            raise InvalidTypeError(f"line {number} is {type(line).__name__}; expected text")
        yield line
