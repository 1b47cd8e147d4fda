"""join: the neurons that sums of rows of a dense matrix name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.neuroidal import ImplicitGraph, Item, join

from neuroidal.small import DENSE, GRAPH, N, K, inputs, items  # isort: skip

A, B, C, D = items(4)


def expected(a: Item, b: Item, steps: int, k: int) -> list[int]:
    if steps == 1:
        return np.flatnonzero(inputs(DENSE, (a | b).neurons) >= k).tolist()
    return np.flatnonzero(np.minimum(inputs(DENSE, a.neurons), inputs(DENSE, b.neurons)) >= k).tolist()


@pytest.mark.parametrize(("steps", "options", "k"), [(1, {}, 2 * K), (1, {"k_m": 11}, 11), (2, {}, K)])
def test_a_join_is_what_enough_of_both_reach(steps, options, k):
    found = join(GRAPH, A, B, k=K, steps=steps, **options)
    assert found.neurons.tolist() == expected(A, B, steps, k)
    assert 50 < len(found) < 1500


def test_a_neuron_of_both_items_fires_once_in_one_step():
    half = Item(A.neurons[:90], N)
    assert join(GRAPH, A, half, k=K).neurons.tolist() == expected(A, A, 1, 2 * K)


@pytest.mark.parametrize("steps", [1, 2])
def test_lists_threads_and_tiles_change_nothing(steps):
    pairs = [join(GRAPH, a, b, k=K, steps=steps) for a, b in ((A, C), (B, D))]
    with ThreadPoolExecutor(2) as executor:
        assert join(GRAPH, [A, B], [C, D], k=K, steps=steps, executor=executor, tile=333) == pairs
    assert join(GRAPH, [A, B], [C, D], k=K, steps=steps, progress=True) == pairs
    assert join(GRAPH, [], [], k=K, steps=steps) == []


@pytest.mark.parametrize("steps", [1, 2])
def test_compiled_and_plain_kernels_join_alike(steps):
    graphs = [ImplicitGraph(N, 80, 1, kernels=kernels) for kernels in ("numpy", "auto")]
    found = [join(graph, A, B, k=K, steps=steps) for graph in graphs]
    assert found[0] == found[1]
    assert len(found[0]) > 50


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: join(GRAPH, A, B, k=81), InvalidValueError, "from 1 to the graph's degree 80"),
        (lambda: join(GRAPH, A, B, k=41), InvalidValueError, "k_m must be from 1"),
        (lambda: join(GRAPH, A, B, k=0), InvalidValueError, "k must be from 1"),
        (lambda: join(GRAPH, A, B, k=K, steps=3), InvalidValueError, "takes 1 or 2"),
        (lambda: join(GRAPH, A, B, k=K, steps=2, k_m=9), InvalidValueError, "with steps=2 give k alone"),
        (lambda: join(GRAPH, A, Item([1], 9), k=K), InvalidValueError, "b is an item of a graph of 9"),
        (lambda: join(GRAPH, A, [B], k=K), InvalidTypeError, "one of each"),
        (lambda: join(GRAPH, [A, B], [C], k=K), ShapeError, "a has 2 items and b 1"),
        (lambda: join(GRAPH, [A], [[1, 2]], k=K), InvalidTypeError, r"b\[0\] is list"),
    ],
)
def test_what_can_not_be_joined_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
