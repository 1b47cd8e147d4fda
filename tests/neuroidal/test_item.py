"""Items: sets of neurons, immutable, of one graph."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.neuroidal import Item

SETS = st.sets(st.integers(0, 49))


@given(SETS, SETS)
def test_items_are_the_sets_that_they_stand_for(a, b):
    one, other = Item(list(a), 50), Item(list(b), 50)
    assert one.neurons.tolist() == sorted(a)
    assert (one | other).neurons.tolist() == sorted(a | b)
    assert (one & other).neurons.tolist() == sorted(a & b)
    assert one.overlap(other) == len(a & b)
    assert one.fraction_firing(other) == (len(a & b) / len(a) if a else 0.0)
    assert (one == other) == (a == b)
    assert all((neuron in one) == (neuron in a) for neuron in range(50))


@pytest.mark.parametrize(("firing", "known"), [([1, 2], False), ([1, 2, 3], True), ([], False)])
def test_more_than_half_has_to_fire(firing, known):
    assert Item([1, 2, 3, 4], 10).recognised(firing) is known


def test_random_items_have_r_neurons_each_alike_likely():
    draw = np.random.default_rng(0)
    counts = np.zeros(40)
    for _ in range(4_000):
        item = Item.random(40, 10, draw)
        assert len(item) == 10
        counts[item.neurons] += 1
    chi_square = ((counts - 1000) ** 2 / (1000 * 0.75)).sum()  # variance of each is n p (1 − p)
    assert chi_square < 72  # 39 degrees of freedom, p = 0.001


def test_the_same_generator_gives_the_same_item():
    assert Item.random(10**9, 100, np.random.default_rng(3)) == Item.random(
        10**9, 100, np.random.default_rng(3)
    )


def test_an_item_can_not_be_changed():
    item = Item([1, 2], 5)
    with pytest.raises(AttributeError, match="immutable"):
        item.n = 6
    with pytest.raises(ValueError, match="read-only"):
        item.neurons[0] = 4


def test_an_item_survives_pickling_and_is_a_key():
    item = Item([3, 1], 5)
    assert {item: 1}[pickle.loads(pickle.dumps(item))] == 1


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Item([1, 10], 10), InvalidValueError, "neuron 10 is outside a graph of 10 neurons"),
        (lambda: Item([-1], 10), InvalidValueError, "neuron -1 is outside"),
        (lambda: Item([0.5], 10), InvalidTypeError, "integers in one dimension"),
        (lambda: Item([[1]], 10), InvalidTypeError, r"shape \(1, 1\)"),
        (lambda: Item([1], 0), InvalidValueError, "at least 1"),
        (lambda: Item.random(10, 11, np.random.default_rng(0)), InvalidValueError, "from 0 to n = 10"),
        (lambda: Item.random(10, 2, 0), InvalidTypeError, "default_rng"),
        (lambda: Item([1], 10) | Item([1], 11), InvalidValueError, "10 and 11"),
        (lambda: Item([1], 10).overlap([1]), InvalidTypeError, "expected an Item"),
        (lambda: Item([1], 10).fraction_firing([12]), InvalidValueError, "neuron 12"),
    ],
)
def test_what_is_no_item_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
