"""Sentences of made-up words and the same words in another order: translation whose true alignment is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost.errors import InvalidValueError

np = lazy_import("numpy")
attention = lazy_import("fingerpost.attention")

SPECIAL = 4
"""Ids below are PAD, UNK, BOS and EOS."""


def copied(n: int) -> Any:
    """0, 1, …, n − 1."""
    return np.arange(n)


def reversed_order(n: int) -> Any:
    """From n − 1 down to 0."""
    return np.arange(n)[::-1]


def swapped(n: int) -> Any:
    """1, 0, 3, 2, …: neighbouring pairs change places; the last of an odd number stays."""
    order = np.arange(n)
    even = n - n % 2
    order[:even] = order[:even].reshape(-1, 2)[:, ::-1].ravel()
    return order


def rotated(n: int) -> Any:
    """1, 2, …, n − 1, 0: the first word comes last."""
    return np.roll(np.arange(n), -1)


def halves(n: int) -> Any:
    """The second half comes first: n // 2, …, n − 1, 0, …, n // 2 − 1."""
    return np.roll(np.arange(n), -(n // 2))


ORDERS: dict[str, Callable[[int], Any]] = {
    "copy": copied,
    "reverse": reversed_order,
    "swap": swapped,
    "rotate": rotated,
    "halves": halves,
}
"""Which of n source words each target word is, in the order of the target."""
KINDS = (*ORDERS, "random")


class Task(NamedTuple):
    """Pairs of a permutation task.

    Args:
      source: Ids of each source sentence, EOS (3) at the end.
      target: Ids of each target sentence, EOS at the end.
      alignment: For each target sentence the place of each word's true source word, from 0; EOS belongs to EOS.
      orders: Each sentence's order, a name of `ORDERS`.
      size: Number of ids of either side.
    """

    source: list[list[int]]
    target: list[list[int]]
    alignment: list[list[int]]
    orders: list[str]
    size: int

    def __len__(self) -> int:
        return len(self.source)


def task(
    kind: str, count: int, lengths: tuple[int, int], words: int, seed: int, *, distinct: bool = False
) -> Task:
    """Draws sentences of words 0 … words − 1 (ids from 4 on) and puts them into another order.

    A "random" sentence has one of `ORDERS`, each as likely, and begins with a word of its own kind that names it: the word
    after the others', number ``list(ORDERS).index(order)``. That word has no translation.

    Args:
      kind: One of `KINDS`.
      count: Number of pairs.
      lengths: Fewest and most words of a sentence, without EOS and the word that names the order; all as likely.
      words: Number of words.
      seed: Seeds the draws.
      distinct: Whether a sentence has each word at most once: then there is no other place to find it.

    Raises:
      InvalidValueError: If the kind is unknown, a number is out of range, or there are too few words to be distinct.
    """
    _check(kind, count, lengths, words, distinct)
    draw = np.random.default_rng((seed, KINDS.index(kind)))
    marked = kind == "random"
    made = Task([], [], [], [], SPECIAL + words + (len(ORDERS) if marked else 0))
    names = list(ORDERS)
    for n in draw.integers(lengths[0], lengths[1], size=count, endpoint=True).tolist():
        name = names[draw.integers(len(names))] if marked else kind
        order = ORDERS[name](n)
        drawn = draw.permutation(words)[:n] if distinct else draw.integers(words, size=n)
        ids = SPECIAL + drawn
        first = [SPECIAL + words + names.index(name)] if marked else []
        made.source.append([*first, *ids.tolist(), attention.EOS])
        made.target.append([*ids[order].tolist(), attention.EOS])
        made.alignment.append([*(order + len(first)).tolist(), n + len(first)])
        made.orders.append(name)
    return made


def names_of(size: int) -> list[str]:
    """What the words of a task of `size` ids are written as: a, b, …, and w26, w27, … where letters run out."""
    return [chr(97 + k) if k < 26 else f"w{k}" for k in range(size - SPECIAL)]


def text_of(made: Task) -> Any:
    """The pairs as a `ParallelText`; `segmenter_of` gives back their ids."""
    names = names_of(made.size)
    sides = [
        [" ".join(names[word - SPECIAL] for word in ids[:-1]) for ids in side]
        for side in (made.source, made.target)
    ]
    return attention.ParallelText(*map(tuple, sides))


def segmenter_of(made: Task) -> Any:
    """The segmenter of either side: a word's id is the task's."""
    return attention.WordSegmenter(attention.Vocabulary(names_of(made.size)))


def _check(kind: str, count: int, lengths: tuple[int, int], words: int, distinct: bool) -> None:
    if kind not in KINDS:
        raise InvalidValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    for name, number in {"count": count, "words": words, "lengths[0]": lengths[0]}.items():
        if number < 1:
            raise InvalidValueError(f"{name} is {number}; it must be at least 1")
    if lengths[1] < lengths[0]:
        raise InvalidValueError(f"lengths are {lengths}; the most is less than the fewest")
    if distinct and words < lengths[1]:
        raise InvalidValueError(
            f"words is {words}, and sentences have up to {lengths[1]}; to be distinct they need as many words"
        )
