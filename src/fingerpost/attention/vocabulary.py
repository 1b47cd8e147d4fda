"""Words and their ids: the ids that every vocabulary shares, and the most frequent words of a text."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fingerpost.errors import InvalidTypeError, InvalidValueError

PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""Padding, an unknown word, the beginning that a decoder is fed first, and the end of a sentence."""

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
"""How these four are written where a person reads them. A word of a text that is written so has an id of its own."""


class Vocabulary:
    """The words that have an id, as the paper's shortlist: every other word is UNK.

    Bahdanau, Cho and Bengio (2014), section 4.1, https://arxiv.org/abs/1409.0473, keep the 30,000 most frequent words of each
    language. Ids 0 to 3 are PAD, UNK, BOS and EOS; words follow in the order given.

    Args:
      words: The words that have an id, each once.

    Raises:
      InvalidTypeError: If a word is no text.
      InvalidValueError: If a word is there twice or is empty.

    >>> vocabulary = Vocabulary.build([["a", "red", "hat"], ["a", "cat"]])
    >>> vocabulary.words
    ('a', 'cat', 'hat', 'red')
    >>> vocabulary.encode(["a", "blue", "hat"]), vocabulary.decode([4, 1, 6, 3])
    ([4, 1, 6, 3], ['a', '<unk>', 'hat'])
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)
        for place, word in enumerate(self.words):
            if not isinstance(word, str):
                raise InvalidTypeError(
                    f"word {place} of a vocabulary is {type(word).__name__}; expected text"
                )
            if not word:
                raise InvalidValueError(f"word {place} of a vocabulary is empty")
        self._ids = {word: number for number, word in enumerate(self.words, len(SPECIAL))}
        if len(self._ids) < len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise InvalidValueError(f"a vocabulary has the word {twice!r} twice; each word has one id")
        self._surfaces = SPECIAL + self.words

    @classmethod
    def build(cls, sentences: Iterable[Sequence[str]], size: int = 30_000, minimum: int = 1) -> Vocabulary:
        """The most frequent words of sentences, the more frequent first; as frequent ones in alphabetical order.

        Args:
          sentences: Lists of words.
          size: Most words to keep, beside the four shared ids.
          minimum: Least times that a word must be there.

        Raises:
          InvalidTypeError: If a sentence is one text, not a list of words.
          InvalidValueError: If `size` or `minimum` is below 1, or no word is left.
        """
        if size < 1 or minimum < 1:
            raise InvalidValueError(f"size is {size} and minimum {minimum}; both must be at least 1")
        counts: Counter[str] = Counter()
        for number, words in enumerate(sentences, 1):
            if isinstance(words, str):
                raise InvalidTypeError(
                    f"sentence {number} is a text, {words[:40]!r}; expected a list of words: split it first"
                )
            counts.update(words)
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [word for word, count in ranked[:size] if count >= minimum]
        if not kept:
            raise InvalidValueError(
                f"no word is there {minimum} times or more; the sentences hold {len(counts)} different words"
            )
        return cls(kept)

    def __len__(self) -> int:
        return len(self._surfaces)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    @property
    def size(self) -> int:
        """Number of ids, the four shared ones among them: what a model takes as `source_size` or `target_size`."""
        return len(self)

    def encode(self, words: Iterable[str]) -> list[int]:
        """The ids of words, UNK for what has none, and EOS at the end."""
        return [*(self._ids.get(word, UNK) for word in words), EOS]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of ids up to the first EOS, `<unk>` for UNK, without padding and BOS.

        Raises:
          InvalidValueError: If an id is not in the vocabulary.
        """
        return [self._surfaces[i] for i in until_end(ids, len(self))]

    def unknown_rate(self, sentences: Iterable[Sequence[str]]) -> float:
        """The share of words that have no id, in [0, 1].

        Raises:
          InvalidValueError: If the sentences hold no words.
        """
        counts = Counter(word for words in sentences for word in words)
        total = sum(counts.values())
        if not total:
            raise InvalidValueError("an unknown rate needs at least one word; the sentences hold none")
        return sum(count for word, count in counts.items() if word not in self._ids) / total

    @property
    def state(self) -> dict[str, Any]:
        """What JSON can hold and `from_state` reads."""
        return {"kind": "vocabulary", "words": list(self.words)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Vocabulary:
        """The vocabulary of a `state`.

        Raises:
          InvalidValueError: If it is no vocabulary's state.
        """
        if not isinstance(state, dict) or state.get("kind") != "vocabulary" or "words" not in state:
            raise InvalidValueError("this is no vocabulary's state: it has no list called 'words'")
        return cls(state["words"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the words in their order: two vocabularies with the same one give the same ids."""
        return fingerprint_of(self.state)

    def save(self, path: str | Path) -> None:
        """Writes the vocabulary to a JSON file."""
        Path(path).write_text(json.dumps(self.state, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Reads what `save` wrote.

        Raises:
          InvalidValueError: If there is no such file, or it holds no vocabulary.
        """
        return cls.from_state(read_state(path))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self.words)} words, fingerprint {self.fingerprint[:12]})"


def until_end(ids: Iterable[int], size: int) -> list[int]:
    """Ids up to the first EOS, without padding and BOS; raises if one is not among `size` ids."""
    kept = []
    for i in map(int, ids):
        if not 0 <= i < size:
            raise InvalidValueError(
                f"id {i} is not in this vocabulary, whose ids are 0 to {size - 1}; was it made with another one?"
            )
        if i == EOS:
            break
        if i not in (PAD, BOS):
            kept.append(i)
    return kept


def fingerprint_of(state: dict[str, Any]) -> str:
    """SHA-256 of a state, whatever the order of its keys."""
    text = json.dumps(state, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_state(path: str | Path) -> dict[str, Any]:
    """A state from a JSON file; raises if there is none."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InvalidValueError(f"there is no file {str(path)!r}")
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidValueError(f"{file} is no JSON in UTF-8: {error}") from None


def check_fingerprint(name: str, found: str, wanted: str) -> None:
    """Raises unless a vocabulary is the one that a model was trained with.

    Args:
      name: Whose vocabulary: "source" or "target".
      found: Fingerprint of the vocabulary at hand.
      wanted: Fingerprint kept with the model.

    Raises:
      InvalidValueError: If the two differ.
    """
    if found != wanted:
        raise InvalidValueError(
            f"the {name} vocabulary is from another run: its fingerprint is {found[:12]} and the model was trained with "
            f"{wanted[:12]}; its ids would mean other words. Load the vocabulary that was saved beside the model"
        )
