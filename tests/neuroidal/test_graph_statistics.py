"""The implicit graph is G(n, p): degrees, overlaps, reciprocity, blocks and seeds as if it were drawn and stored.

Every test is a test of a hypothesis at a fixed seed: it fails where such a figure would come by chance less
than once in ten thousand times.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse, stats

from fingerpost.neuroidal.graphs import ImplicitGraph, StoredGraph

RARE = 1e-4
N, DEGREE = 12_000, 150
P = DEGREE / N


class Case(NamedTuple):
    matrix: sparse.csr_array
    block: int


CASES = {
    "source": {"orient": "source", "seed": 0, "block": 1024},
    "target": {"orient": "target", "seed": 1, "block": 1024},
    "one block, no power of two": {"seed": 2, "block": 1 << 16},
    "small blocks": {"seed": 3, "block": 64},
    "large seed": {"seed": 2**63 + 12345, "block": 4096},
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    graph = ImplicitGraph(N, DEGREE, **CASES[request.param])
    return Case(sparse.csr_array(StoredGraph.from_graph(graph).matrix, dtype=np.int32), graph.block)


def binomial_fit(values, trials, p) -> float:
    """The p-value of χ² for independent draws of Binomial(trials, p), in about twenty bins."""
    law = stats.binom(trials, p)
    edges = np.unique(law.ppf(np.linspace(0, 1, 21)[1:-1]))
    shares = np.diff(np.concatenate([[0], law.cdf(edges), [1]]))
    kept = shares * len(values) > 5
    observed = np.bincount(np.searchsorted(edges, values), minlength=len(shares))
    observed, shares = (
        np.append(x[kept], x[~kept].sum()) if not kept.all() else x for x in (observed, shares)
    )
    return stats.chisquare(observed, shares * len(values)).pvalue


def z_of(count, trials, p) -> float:
    """Standard deviations between a count and the mean of Binomial(trials, p)."""
    return (count - trials * p) / (trials * p * (1 - p)) ** 0.5


def two_sided(z) -> float:
    return 2 * stats.norm.sf(abs(z))


def test_out_degrees_and_in_degrees_are_binomial(case):
    for axis in (0, 1):
        assert binomial_fit(case.matrix.sum(axis), N, P) > RARE


def test_a_graph_of_slightly_another_degree_would_be_noticed(case):
    for axis in (0, 1):
        assert binomial_fit(case.matrix.sum(axis), N, 1.02 * P) < RARE
        assert binomial_fit(np.round(1.2 * (case.matrix.sum(axis) - DEGREE) + DEGREE), N, P) < RARE


def test_degrees_are_those_of_a_stored_random_graph(case):
    other = StoredGraph.random(N, DEGREE, seed=17).matrix
    for axis in (0, 1):
        ours, theirs = case.matrix.sum(axis), other.sum(axis, dtype=np.int64)
        assert stats.ks_2samp(ours, theirs).pvalue > RARE
        values = np.unique(np.concatenate([ours, theirs]) // 4, return_inverse=True)[1]
        table = np.array([np.bincount(part, minlength=values.max() + 1) for part in np.split(values, 2)])
        assert stats.chi2_contingency(table[:, table.sum(0) > 10]).pvalue > RARE


def test_a_neurons_in_degree_tells_nothing_of_its_out_degree(case):
    r = np.corrcoef(case.matrix.sum(0), case.matrix.sum(1))[0, 1]
    assert two_sided(r * N**0.5) > RARE


@pytest.mark.parametrize("apart", [1, 2, 64, 1024, 5000])
def test_targets_of_two_sources_and_sources_of_two_targets_overlap_by_chance(case, apart):
    for matrix in (case.matrix, sparse.csr_array(case.matrix.T)):
        shared = matrix[:-apart].multiply(matrix[apart:]).sum(1)
        assert two_sided(z_of(shared.sum(), N * (N - apart), P * P)) > RARE
        # Rows i and i + apart, with i in every second stretch of that length: pairs that share no row.
        alone = shared[np.arange(N - apart) // apart % 2 == 0]
        assert binomial_fit(alone, N, P * P) > RARE


def test_edges_are_returned_by_chance(case):
    both = case.matrix.multiply(case.matrix.T)
    pairs = (both.sum() - both.diagonal().sum()) / 2
    assert two_sided(z_of(pairs, N * (N - 1) / 2, P * P)) > RARE


def test_neurons_are_their_own_inputs_by_chance(case):
    assert two_sided(z_of(case.matrix.diagonal().sum(), N, P)) > RARE


def test_triangles_come_by_chance(case):
    few = case.matrix[:3000, :3000]
    ways = few @ few
    cycles = ways.multiply(few.T).sum()
    mean = 3000**3 * P**3
    assert abs(cycles - mean) < 6 * (3 * mean + 9 * 3000**4 * P**5) ** 0.5


def test_numbers_in_neighbouring_blocks_are_independent_and_binomial(case):
    block = min(case.block, N // 2)
    parts = [
        np.asarray(case.matrix[:, i * block : (i + 1) * block].sum(1)) for i in range(min(4, N // block))
    ]
    for part in parts:
        assert binomial_fit(part, block, P) > RARE
    for left, right in itertools.pairwise(parts):
        r = np.corrcoef(left, right)[0, 1]
        assert two_sided(r * N**0.5) > RARE


def test_edges_on_both_sides_of_a_block_boundary_come_by_chance(case):
    last = np.arange(case.block, N, case.block)
    if not len(last):
        pytest.skip("one block has no boundary within")
    for matrix in (case.matrix, case.matrix.T.tocsr()):
        pairs = matrix[:, last - 1].multiply(matrix[:, last]).sum()
        assert two_sided(z_of(pairs, N * len(last), P * P)) > RARE


def test_positions_in_a_block_are_uniform(case):
    places = np.bincount(case.matrix.indices % min(case.block, N), minlength=min(case.block, N))
    widths = np.bincount(np.arange(N) % min(case.block, N))
    kept = widths == widths.max()
    assert stats.chisquare(places[kept]).pvalue > RARE


def test_gaps_between_a_rows_edges_are_geometric(case):
    gaps = np.diff(case.matrix.indices[: case.matrix.indptr[1000]].astype(np.int64))
    gaps = gaps[(gaps > 0) & (gaps < 300)]  # a negative one leads from a row to the next
    lengths = np.arange(1, 300)
    shares = (N - lengths) * (1 - P) ** lengths
    assert stats.chisquare(np.bincount(gaps)[1:], shares / shares.sum() * len(gaps)).pvalue > RARE


@pytest.mark.parametrize("changes", [{"seed": 1}, {"seed": 2**32}, {"orient": "target"}, {"block": 2048}])
def test_two_graphs_share_edges_by_chance(changes):
    first = {"seed": 0, "block": 1024}
    ours, theirs = (
        StoredGraph.from_graph(ImplicitGraph(N, DEGREE, **setting)).matrix
        for setting in (first, first | changes)
    )
    shared = sparse.csr_array(ours, dtype=np.int32).multiply(sparse.csr_array(theirs, dtype=np.int32))
    assert two_sided(z_of(shared.sum(), N * N, P * P)) > RARE
    back = sparse.csr_array(ours, dtype=np.int32).multiply(sparse.csr_array(theirs.T, dtype=np.int32))
    assert two_sided(z_of(back.sum(), N * N, P * P)) > RARE


def test_inputs_from_a_firing_set_are_binomial_at_the_sparsity_of_a_mouse_and_of_a_human_cortex():
    draw = np.random.default_rng(5)
    for n, degree, r, span in ((16_000_000, 7800, 20_000, 100_000), (10**10, 24_000, 300_000, 500_000)):
        graph = ImplicitGraph(n, degree, seed=9)
        firing = np.unique(draw.integers(0, n, r))
        start = int(draw.integers(0, n - span))
        assert binomial_fit(graph.counts(firing, start, start + span), len(firing), degree / n) > RARE
