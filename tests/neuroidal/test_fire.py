"""fire: the neurons with k inputs, the same for every tile and executor."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from fingerpost.errors import InvalidTypeError, InvalidValueError
from fingerpost.neuroidal.fire import fire, fire_jointly
from fingerpost.neuroidal.graphs import ImplicitGraph, StoredGraph

N, K = 10_000, 8
GRAPH = ImplicitGraph(N, 200, seed=3, block=1024)
A, B = np.arange(0, 300), np.arange(5000, 5300)


def expected(*sets, k=K):
    counts = [GRAPH.counts(firing) for firing in sets]
    return np.flatnonzero(np.min(counts, axis=0) >= k)


@pytest.mark.parametrize("tile", [None, 1, 777, 1024, 4096, 10**9])
@pytest.mark.parametrize("kernels", ["numba", "numpy"])
def test_any_tile_gives_the_neurons_with_k_inputs(tile, kernels):
    if tile == 1:
        graph, firing = ImplicitGraph(130, 20, 1, "source", kernels, 64), np.arange(60)
        assert np.array_equal(fire(graph, firing, 9, tile=1), np.flatnonzero(graph.counts(firing) >= 9))
        return
    graph = ImplicitGraph(N, 200, 3, "source", kernels, 1024)
    found = fire(graph, A, K, tile=tile)
    assert found.dtype == np.int64
    assert 300 < len(found) < 3000
    assert np.array_equal(found, expected(A))
    assert np.array_equal(fire_jointly(graph, [A, B], K, tile=tile), expected(A, B))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("tile", [None, 100, 3000])
def test_threads_give_the_same(workers, tile):
    with ThreadPoolExecutor(workers) as executor:
        found = fire(GRAPH, [A, B], K, tile=tile, executor=executor, progress=True)
        both = fire_jointly(GRAPH, [A, B], K, tile=tile, executor=executor)
    assert [part.tolist() for part in found] == [expected(A).tolist(), expected(B).tolist()]
    assert np.array_equal(both, expected(A, B))


def test_processes_give_the_same():
    graph = ImplicitGraph(N, 200, 3, "source", "numpy", 1024)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert np.array_equal(fire(graph, A, K, tile=2048, executor=executor), expected(A))


def test_an_executor_is_handed_few_pieces_however_small_the_tiles():
    class Counting(ThreadPoolExecutor):
        pieces = 0

        def submit(self, *arguments, **named):
            self.pieces += 1
            return super().submit(*arguments, **named)

    with Counting(1) as executor:
        assert np.array_equal(fire(GRAPH, A, K, tile=10, executor=executor), expected(A))
    assert executor.pieces <= 64


def test_a_failure_in_an_executor_comes_out_and_what_is_left_is_not_started(monkeypatch):
    calls = []

    def failing(*arguments):
        calls.append(arguments)
        raise ValueError("the tile failed")

    monkeypatch.setattr(ImplicitGraph, "counts", failing)
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="the tile failed"):
        fire(GRAPH, A, K, tile=1, executor=executor)
    assert 1 <= len(calls) <= 64


def test_many_at_once_are_each_alone():
    assert [len(found) for found in fire(GRAPH, [A, [], B], K)] == [len(expected(A)), 0, len(expected(B))]
    pairs = fire_jointly(GRAPH, [[A, B], (B, A), [A]], K)
    assert [found.tolist() for found in pairs] == [expected(A, B).tolist()] * 2 + [expected(A).tolist()]
    assert fire(GRAPH, [A], K)[0].tolist() == fire(GRAPH, list(range(300)), K).tolist()
    assert fire(GRAPH, [], K) == []


def test_an_object_with_neurons_is_a_firing_set():
    item = SimpleNamespace(neurons=A)
    assert np.array_equal(fire(GRAPH, item, K), expected(A))
    assert np.array_equal(fire(GRAPH, [item], K)[0], expected(A))
    assert np.array_equal(fire_jointly(GRAPH, [item, B], K), expected(A, B))


@pytest.mark.parametrize(
    "graph", [StoredGraph.from_graph(GRAPH), ImplicitGraph(N, 200, 3, "target", block=1024)]
)
def test_other_graphs_fire_by_their_own_counts(graph):
    assert np.array_equal(fire(graph, A, K, tile=3000), np.flatnonzero(graph.counts(A) >= K))


def test_a_progress_bar_counts_the_tiles(capsys):
    fire(GRAPH, A, K, tile=1000, progress=True)
    shown = capsys.readouterr().err
    assert "targets" in shown
    assert "10/10" in shown


def test_bad_input_is_refused_before_work_starts(monkeypatch):
    monkeypatch.setattr(ImplicitGraph, "counts", lambda *_: pytest.fail("counted"))
    for call, firing in ((fire, A), (fire_jointly, [A, B])):
        for k in (0, 201, -3):
            with pytest.raises(
                InvalidValueError, match=f"k must be from 1 to the graph's degree 200.*got {k}"
            ):
                call(GRAPH, firing, k)
        for k in (1.5, True):
            with pytest.raises(InvalidTypeError, match="k is a number of inputs"):
                call(GRAPH, firing, k)
        for tile in (0, -5, 2.5):
            with pytest.raises(InvalidValueError, match="tile is a number of targets"):
                call(GRAPH, firing, K, tile=tile)
    with pytest.raises(InvalidValueError, match="neuron 10000, outside a graph of 10000 neurons"):
        fire(GRAPH, [A, [N]], K)
    with pytest.raises(InvalidValueError, match="neuron -1"):
        fire_jointly(GRAPH, [A, [-1]], K)
    with pytest.raises(InvalidValueError, match="at least one firing set"):
        fire_jointly(GRAPH, [], K)
