"""Graphs: counts and edges agree with a stored matrix, for every kind of graph, range and kernel."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import sparse

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.neuroidal.graphs import ImplicitGraph, StoredGraph
from fingerpost.neuroidal.graphs import stored as storing

SHAPES = {
    "one block": (300, 20, None),
    "blocks of 64, the last of 44": (300, 20, 64),
    "dense": (200, 150, 32),
    "last block of one": (257, 9, 256),
    "large block": (5000, 40, 1 << 14),
}
GRAPHS = {
    f"{shape}, {orient}, {kernels}": ImplicitGraph(n, degree, 11, orient, kernels, block)
    for shape, (n, degree, block) in SHAPES.items()
    for orient in ("source", "target")
    for kernels in ("numba", "numpy")
}
GRAPHS |= {f"stored, {kernels}": StoredGraph.random(400, 30, 1) for kernels in ("numba", "numpy")}


def matrix_of(graph) -> np.ndarray:
    dense = np.zeros((graph.n, graph.n), int)
    source, target = graph.edges_out_of(np.arange(graph.n))
    assert len(np.unique(source * graph.n + target)) == len(source)
    dense[source, target] = 1
    return dense


@pytest.fixture(scope="module", params=GRAPHS)
def case(request):
    graph = GRAPHS[request.param]
    return graph, matrix_of(graph)


def test_counts_are_column_sums_over_any_range(case):
    graph, matrix = case
    firing = np.random.default_rng(0).choice(graph.n, graph.n // 3, replace=False)
    for start, stop in (
        (0, None),
        (0, graph.n),
        (1, graph.n - 1),
        (60, 70),
        (64, 128),
        (graph.n - 3, None),
        (9, 9),
    ):
        found = graph.counts(firing, start, stop)
        assert found.dtype == np.uint16
        assert np.array_equal(found, matrix[firing, start:stop].sum(0))


def test_edges_out_of_are_the_rows(case):
    graph, matrix = case
    sources = np.arange(3, graph.n, 7)
    for start, stop in ((0, None), (5, graph.n - 2), (70, 71)):
        source, target = graph.edges_out_of(sources, start, stop)
        rows, columns = np.nonzero(matrix[sources, start:stop])
        assert np.array_equal(source, sources[rows])
        assert np.array_equal(target, columns + start)


def test_edges_into_are_the_columns(case):
    graph, matrix = case
    targets, among = np.arange(2, graph.n, 9), np.arange(0, graph.n, 4)
    source, target = graph.edges_into(targets)
    columns, rows = np.nonzero(matrix[:, targets].T)
    assert np.array_equal(source, rows)
    assert np.array_equal(target, targets[columns])
    source, target = graph.edges_into(targets, among)
    columns, rows = np.nonzero(matrix[np.ix_(among, targets)].T)
    assert np.array_equal(source, among[rows])
    assert np.array_equal(target, targets[columns])


def test_nobody_fires_nothing(case):
    graph, _ = case
    assert not graph.counts([]).any()
    for found in (graph.edges_out_of([]), graph.edges_into([]), graph.edges_into([1], [])):
        assert [part.size for part in found] == [0, 0]
        assert all(part.dtype == np.int64 for part in found)


def test_order_and_repeats_of_the_firing_set_do_not_matter(case):
    graph, _ = case
    assert np.array_equal(graph.counts([9, 4, 9, 100]), graph.counts(np.array([4, 9, 100], np.uint16)))


@pytest.mark.parametrize("name", [name for name in GRAPHS if "numba" in name])
def test_a_stored_copy_is_the_same_graph(name):
    graph = GRAPHS[name]
    copy = StoredGraph.from_graph(graph)
    assert (copy.n, copy.degree, copy.seed) == (graph.n, graph.degree, graph.seed)
    assert np.array_equal(copy.matrix.toarray(), matrix_of(graph))


def test_seed_orientation_block_and_degree_make_another_graph_and_kernels_do_not():
    def edges(**changes):
        graph = ImplicitGraph(**({"n": 500, "degree": 25, "seed": 1, "block": 64} | changes))
        return set(zip(*(part.tolist() for part in graph.edges_out_of(range(500), stop=500))))

    first = edges()
    assert first == edges(kernels="numpy") == edges(kernels="numba")
    expected = 500 * 25 * 0.05  # two independent graphs share p of their edges
    for changes in (
        {"seed": 2},
        {"orient": "target"},
        {"block": 128},
        {"seed": 2**64 - 1},
        {"degree": 25.001},
        {"n": 501},
    ):
        assert abs(len(first & edges(**changes)) - expected) < 5 * expected**0.5


def test_the_graph_of_a_seed_never_changes():
    graph = ImplicitGraph(1_000_003, 40, seed=2024)
    source, target = graph.edges_out_of([3, 999_999])
    assert (len(source), int(target.sum())) == (67, 33730148)
    human = ImplicitGraph(10**10, 24_000, seed=1)
    assert human.edges_out_of([7_000_000_000], stop=10**6)[1].tolist() == [359266, 422871]


def test_ids_near_ten_thousand_million_do_not_wrap():
    for orient in ("source", "target"):
        graph = ImplicitGraph(10**10, 24_000, 3, orient)
        firing = 10**10 - 1 - np.arange(3000) * 2
        start = 10**10 - 10**6
        targets = np.arange(start, 10**10) if orient == "source" else np.arange(10**10 - 50, 10**10)
        source, target = graph.edges_into(targets[-50:], firing)
        counted = graph.counts(firing, 10**10 - 50)
        assert np.array_equal(np.bincount(target - (10**10 - 50), minlength=50), counted)
        if orient == "source":
            found = graph.counts(firing, start)
            assert abs(int(found.sum()) - 7200) < 5 * 7200**0.5
            source, target = graph.edges_out_of(firing, start)
            assert np.array_equal(np.bincount(target - start, minlength=10**6), found)
            assert source.min() > 9 * 10**9


def test_pickled_and_rebuilt_graphs_are_the_same():
    graph = ImplicitGraph(1000, 20, 4, "target", "numpy", 64)
    for copy in (pickle.loads(pickle.dumps(graph)), ImplicitGraph(**graph.parameters), eval(repr(graph))):
        assert copy == graph
        assert hash(copy) == hash(graph)
        assert np.array_equal(copy.counts(range(50)), graph.counts(range(50)))
    assert graph != ImplicitGraph(1000, 20, 5, "target", "numpy", 64)
    assert pickle.loads(pickle.dumps(graph)).kernels == "numpy"
    stored = StoredGraph.random(300, 20, 3)
    assert np.array_equal(pickle.loads(pickle.dumps(stored)).counts(range(50)), stored.counts(range(50)))


def test_more_firing_neurons_than_16_bits_count_need_32():
    graph = ImplicitGraph(66_000, 50, seed=0)
    firing = np.arange(66_000)
    assert graph.counts(firing[:65_535]).dtype == np.uint16
    found = graph.counts(firing)
    assert found.dtype == np.uint32
    assert np.array_equal(found - graph.counts(firing[:65_535]), graph.counts(firing[65_535:]))
    assert abs(int(found.sum()) - 3_300_000) < 5 * 3_300_000**0.5


@pytest.mark.parametrize("kind", [sparse.coo_array, sparse.csr_array, sparse.csc_array, sparse.csr_matrix])
def test_stored_graphs_take_any_matrix_forget_its_weights_and_leave_it_alone(kind):
    weights = kind(sparse.coo_array(([2.0, 0.0, 1.0, 3.0], ([0, 1, 2, 2], [1, 2, 1, 0])), shape=(3, 3)))
    before = (weights.data.tolist(), weights.nnz)
    graph = StoredGraph(weights)
    assert graph.counts([0, 1, 2]).tolist() == [1, 2, 0]
    assert graph.edges_into([1])[0].tolist() == [0, 2]
    assert graph.degree == 1
    assert (weights.data.tolist(), weights.nnz) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 100), "below n = 100; got 100"),
        ((100, 250), "below n = 100; got 250"),
        ((100, 0), "above 0"),
        ((0, 0.5), r"n must be between 1 and 2\*\*53; got 0"),
        ((2**60, 10), "between 1 and"),
        ((100, 10, -1), r"seed must be between 0 and 2\*\*64 - 1; got -1"),
        ((100, 10, 0, "both"), "orient must be 'source' or 'target'; got 'both'"),
        ((100, 10, 0, "source", "auto", 100), "block must be a power of two"),
        ((100, 10, 0, "source", "auto", 1 << 22), "block must be a power of two"),
        ((100, float("nan")), "below n"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(InvalidValueError, match=message):
        ImplicitGraph(*arguments)


@pytest.mark.parametrize(
    "arguments", [(100.0, 10), (True, 0.5), (100, 10, 1.5), (100, "10"), (100, 10, 0, "source", "auto", 64.0)]
)
def test_settings_of_a_wrong_type_are_refused(arguments):
    with pytest.raises(InvalidTypeError, match=r"integer|a number"):
        ImplicitGraph(*arguments)


@pytest.mark.parametrize(
    "graph", [ImplicitGraph(100, 10), StoredGraph.random(100, 10)], ids=["implicit", "stored"]
)
def test_neurons_and_ranges_outside_the_graph_are_refused(graph):
    for bad in ([100], [-1, 5]):
        for call in (graph.counts, graph.edges_out_of, graph.edges_into, lambda x: graph.edges_into([1], x)):
            with pytest.raises(InvalidValueError, match="outside a graph of 100 neurons"):
                call(bad)
    for start, stop in ((-1, 5), (7, 5), (0, 101)):
        for call in (graph.counts, graph.edges_out_of):
            with pytest.raises(InvalidValueError, match="no range of a graph of 100 neurons"):
                call([1], start, stop)
    for bad in ([0.5], [[1, 2]], [True]):
        with pytest.raises(InvalidTypeError, match="must be a list of neurons"):
            graph.counts(bad)


def test_what_would_not_fit_is_refused_before_anything_is_drawn(monkeypatch):
    def drawn(*_):
        raise AssertionError("an edge was drawn")

    mouse = ImplicitGraph(16_000_000, 7800)
    monkeypatch.setattr(ImplicitGraph, "edges_out_of", drawn)
    monkeypatch.setattr(np.random, "default_rng", drawn)
    with pytest.raises(InvalidValueError, match=r"takes about 1\.62e\+03 GB.*an ImplicitGraph needs no room"):
        StoredGraph.from_graph(mouse, limit=10**11)
    with pytest.raises(InvalidValueError, match="are free"):
        StoredGraph.random(16_000_000, 7800)
    with pytest.raises(InvalidValueError, match="below n"):
        StoredGraph.random(10, 10)


def test_free_memory_is_read_or_unknown(monkeypatch):
    assert storing.free_memory() > 1 << 20
    monkeypatch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(OSError()))
    assert storing.free_memory() is None or storing.free_memory() > 1 << 20


def test_a_stored_graph_needs_a_square_sparse_matrix():
    with pytest.raises(InvalidTypeError, match="ndarray"):
        StoredGraph(np.eye(3))
    with pytest.raises(ShapeError, match=r"square.*\(2, 3\)"):
        StoredGraph(sparse.csr_array((2, 3)))
