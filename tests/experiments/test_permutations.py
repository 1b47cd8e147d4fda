"""Permutation tasks: the target is the source in the order that the alignment says."""

from __future__ import annotations

import pytest

from fingerpost.errors import InvalidValueError
from fingerpost.experiments._permutations import KINDS, ORDERS, SPECIAL, segmenter_of, task, text_of


@pytest.mark.parametrize("kind", KINDS)
def test_every_target_word_is_the_source_word_that_the_alignment_says(kind: str) -> None:
    made = task(kind, 50, (1, 9), 12, seed=0, distinct=True)
    assert len(made) == 50
    for source, target, alignment in zip(made.source, made.target, made.alignment):
        assert [source[j] for j in alignment] == target
        assert source[-1] == target[-1] == 3
        assert len(set(source)) == len(source)
        assert min(source[:-1]) >= SPECIAL
        assert max(source) < made.size
        marked = int(kind == "random")
        assert sorted(alignment) == list(range(marked, len(source)))


def test_each_order_is_the_one_that_its_name_says() -> None:
    expected = {
        "copy": [0, 1, 2, 3, 4],
        "reverse": [4, 3, 2, 1, 0],
        "swap": [1, 0, 3, 2, 4],
        "rotate": [1, 2, 3, 4, 0],
        "halves": [2, 3, 4, 0, 1],
    }
    assert {name: order(5).tolist() for name, order in ORDERS.items()} == expected


def test_the_first_word_of_a_random_sentence_names_its_order() -> None:
    made = task("random", 200, (4, 6), 10, seed=1)
    names = list(ORDERS)
    assert {names[source[0] - SPECIAL - 10] for source in made.source} == set(ORDERS)
    for source, alignment, order in zip(made.source, made.alignment, made.orders):
        assert names[source[0] - SPECIAL - 10] == order
        assert [j - 1 for j in alignment[:-1]] == ORDERS[order](len(source) - 2).tolist()


def test_the_same_seed_draws_the_same_sentences_and_lengths_span_the_range() -> None:
    one, same, other = (task("copy", 300, (2, 5), 8, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one.source != other.source
    assert {len(source) - 1 for source in one.source} == {2, 3, 4, 5}


def test_the_text_of_a_task_has_its_ids() -> None:
    made = task("random", 20, (3, 9), 30, seed=0)
    text, segmenter = text_of(made), segmenter_of(made)
    assert segmenter.size == made.size
    assert [segmenter.encode(line) for line in text.source] == made.source
    assert [segmenter.encode(line) for line in text.target] == made.target


@pytest.mark.parametrize(
    ("kind", "count", "lengths", "words", "words_of_error"),
    [
        ("shuffle", 1, (1, 2), 4, "kind is 'shuffle'"),
        ("copy", 0, (1, 2), 4, "count is 0"),
        ("copy", 1, (0, 2), 4, r"lengths\[0\] is 0"),
        ("copy", 1, (3, 2), 4, "less than the fewest"),
        ("copy", 1, (1, 5), 4, "need as many words"),
    ],
)
def test_tasks_that_cannot_be_are_refused(
    kind: str, count: int, lengths: tuple[int, int], words: int, words_of_error: str
) -> None:
    with pytest.raises(InvalidValueError, match=words_of_error):
        task(kind, count, lengths, words, seed=0, distinct=True)
