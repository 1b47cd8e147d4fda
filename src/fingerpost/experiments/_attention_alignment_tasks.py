"""Sentences in which a word's translation depends on what is read behind it, or before it: a class that other words turn."""

from __future__ import annotations

from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost.errors import InvalidValueError
from fingerpost.experiments._permutations import SPECIAL, Task

np = lazy_import("numpy")
attention = lazy_import("fingerpost.attention")

SIDES = ("right", "left")
"""Where the noun that decides stands, seen from the word that agrees with it."""
CLASSES = "mf"
AGREEING, BETWEEN, NOUNS = 3, 4, 4
"""Numbers of words of each kind; of the words between and of the nouns half are of either class."""
SOURCE_NAMES = [
    *(f"w{k}" for k in range(AGREEING)),
    *(f"{'ax'[k % 2]}{k // 2}" for k in range(BETWEEN)),
    *(f"{CLASSES[k % 2]}{k // 2}" for k in range(NOUNS)),
]
TARGET_NAMES = [
    *(f"w{k}{name}" for k in range(AGREEING) for name in CLASSES),
    *SOURCE_NAMES[AGREEING:],
]
CHANCE = 1 / len(CLASSES)
"""How often a word that agrees comes out right if all but its class is known."""


class Agreement(NamedTuple):
    """Pairs, and for each sentence its words that agree: their places, their nouns' places, and whether the phrase is the last.

    Attributes:
      task: The pairs; word for word, so that every alignment is 0, 1, 2, …
      agreeing: For each sentence (place, place of the noun, 1 in the last phrase) of each word that agrees.
    """

    task: Task
    agreeing: list[list[tuple[int, int, int]]]


def agreement(side: str, count: int, phrases: int, between: int, seed: int) -> Agreement:
    """Draws sentences of 1 to `phrases` phrases: a word that agrees, 0 to `between` others, a noun; or in the other order.

    The word that agrees is translated as the noun's class says, m or f, turned round by each word x between the two; all other
    words have one translation. So the class is what an automaton is left with that reads from the noun to the word that agrees.

    Args:
      side: One of `SIDES`.
      count: Number of pairs.
      phrases: Most phrases of a sentence.
      between: Most words between a noun and the word that agrees with it.
      seed: Seeds the draws.

    Raises:
      InvalidValueError: If the side is unknown or a number is out of range.
    """
    if side not in SIDES:
        raise InvalidValueError(f"side is {side!r}; expected one of {', '.join(SIDES)}")
    if min(count, phrases) < 1 or between < 0:
        raise InvalidValueError(
            f"count is {count}, phrases {phrases} and between {between}; expected at least 1, 1 and 0"
        )
    draw = np.random.default_rng((seed, SIDES.index(side)))
    found = Agreement(Task([], [], [], [], SPECIAL + len(TARGET_NAMES)), [])
    for _ in range(count):
        made = [_phrase(draw, between) for _ in range(draw.integers(1, phrases, endpoint=True))]
        _add(found, side, made)
    return found


def _phrase(draw: Any, between: int) -> tuple[list[int], list[int]]:
    """Source and target words of a phrase, the word that agrees first, from 0."""
    first, noun = int(draw.integers(AGREEING)), int(draw.integers(NOUNS))
    others = draw.integers(BETWEEN, size=draw.integers(0, between, endpoint=True)).tolist()
    turned = (noun + sum(word % 2 for word in others)) % 2
    rest = [AGREEING + word for word in others] + [AGREEING + BETWEEN + noun]
    shift = AGREEING * (len(CLASSES) - 1)
    return [first, *rest], [len(CLASSES) * first + turned, *(word + shift for word in rest)]


def _add(found: Agreement, side: str, phrases: list[tuple[list[int], list[int]]]) -> None:
    source: list[int] = []
    target: list[int] = []
    places = []
    for k, (words, translated) in enumerate(phrases):
        ends, last = (len(source), len(source) + len(words) - 1), int(k == len(phrases) - 1)
        step = 1 if side == "right" else -1
        places.append((*ends[::step], last))
        source += words[::step]
        target += translated[::step]
    task = found.task
    task.source.append([*(SPECIAL + word for word in source), attention.EOS])
    task.target.append([*(SPECIAL + word for word in target), attention.EOS])
    task.alignment.append(list(range(len(source) + 1)))
    task.orders.append("copy")
    found.agreeing.append(places)


def sides_of_text() -> tuple[Any, Any]:
    """The segmenters of source and target."""
    names = (SOURCE_NAMES, TARGET_NAMES)
    source, target = (attention.WordSegmenter(attention.Vocabulary(given)) for given in names)
    return source, target


def text_of(made: Agreement) -> Any:
    """The pairs as a `ParallelText`."""
    sides = zip((made.task.source, made.task.target), (SOURCE_NAMES, TARGET_NAMES))
    lines = [[" ".join(names[word - SPECIAL] for word in ids[:-1]) for ids in side] for side, names in sides]
    return attention.ParallelText(*map(tuple, lines))
