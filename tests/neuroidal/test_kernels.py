"""The kernels: the table of the binomial is exact, and numba and numpy draw the same edges to the last bit."""

from __future__ import annotations

import importlib.util
import sys
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import data, floats, integers, lists, sampled_from

from fingerpost.errors import InvalidValueError, MissingExtraError
from fingerpost.neuroidal import _kernels_numba as compiled
from fingerpost.neuroidal import _kernels_numpy as plain
from fingerpost.neuroidal._binomial import BlockLaw
from fingerpost.neuroidal._hash import base_key, block_salt, mix, row_keys
from fingerpost.neuroidal._kernels import kernels_named
from fingerpost.neuroidal.graphs import ImplicitGraph, StoredGraph

LAWS = {
    "full block": BlockLaw(1024, 0.02),
    "odd size": BlockLaw(1000, 0.02),
    "mostly repeats": BlockLaw(64, 0.95),
    "odd and mostly repeats": BlockLaw(37, 0.97),
    "rarely an edge": BlockLaw(1024, 0.0003),
    "one position": BlockLaw(1, 0.3),
    "a mouse's block": BlockLaw(1 << 16, 7800 / 1.6e7),
    "no power of two, large": BlockLaw(50_001, 0.01),
}


@pytest.mark.parametrize(("size", "p"), [(1, 0.25), (5, 0.5), (40, 0.03125), (40, 0.96875), (300, 0.1)])
def test_thresholds_are_the_distribution_function_rounded_down_to_64_bits(size, p):
    exact, total, expected = Fraction(p), Fraction(0), []
    for k in range(size + 1):
        total += comb(size, k) * exact**k * (1 - exact) ** (size - k)
        if (threshold := int(total * 2**64 + Fraction(1, 2**96))) < 2**64:
            expected.append(threshold)
    assert BlockLaw(size, p).thresholds.tolist() == expected


@pytest.mark.parametrize(
    ("size", "p"), [(1 << 16, 7800 / 1.6e7), (1 << 21, 2.4e-6), (1 << 16, 0.5), (1 << 16, 0.9)]
)
def test_thresholds_of_large_blocks_are_exact_to_the_last_bit(size, p):
    with localcontext(Context(prec=80, Emin=-999_999, Emax=999_999)):
        exact, expected = Decimal(p), []
        weight = total = (1 - exact) ** size
        for k in range(size):
            if total * 2**64 + Decimal(2) ** -96 >= 2**64:
                break
            expected.append(int(total * 2**64 + Decimal(2) ** -96))
            weight *= exact * (size - k) / ((k + 1) * (1 - exact))
            total += weight
    assert BlockLaw(size, p).thresholds.tolist() == expected


def test_words_are_those_of_splitmix64():
    # The first words of SplitMix64 from state 1234567, as its reference implementation prints them.
    stride = np.uint64(0x9E3779B97F4A7C15)
    states = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * stride
    assert mix(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("kernels", [plain, compiled], ids=["numpy", "numba"])
def test_edges_follow_the_definition_word_by_word(name, kernels):
    law = LAWS[name]
    keys, salt = row_keys(np.arange(5, 45), base_key(7, "source")), block_salt(3)
    rows, positions = kernels.edges(keys, salt, law, None)
    for i, key in enumerate(keys[:12]):
        assert positions[rows == i].tolist() == sorted(by_the_book(int(key), int(salt), law))


def by_the_book(key: int, salt: int, law: BlockLaw) -> list[int]:
    """The positions of one row in one block in Python's integers."""
    words, state = 2**64, (key + salt) % 2**64
    state = int(mix(np.array([state], np.uint64))[0])
    number = sum(int(t) <= state for t in law.thresholds)
    found: list[int] = []
    draw = 0
    while len(found) < number:
        draw += 1
        word = int(mix(np.array([(state + draw * 0x9E3779B97F4A7C15) % words], np.uint64))[0])
        for lane in range(law.lanes):
            product = (word >> (lane * law.bits)) % 2**law.bits * law.size
            position = product >> law.bits
            if product % 2**law.bits >= 2**law.bits % law.size and position not in found:
                found.append(position)
            if len(found) == number:
                break
    return found


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("masked", [False, True])
def test_both_kernels_draw_the_same_edges(name, masked):
    law, draw = LAWS[name], np.random.default_rng(1)
    keys, salt = row_keys(np.unique(draw.integers(0, 10**10, 700)), base_key(3, "target")), block_salt(12345)
    mask = draw.random(law.size) < 0.3 if masked else None
    for ours, theirs in zip(plain.edges(keys, salt, law, mask), compiled.edges(keys, salt, law, mask)):
        assert ours.dtype == theirs.dtype == np.int64
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("kernels", [plain, compiled], ids=["numpy", "numba"])
def test_scatter_counts_the_edges(name, kernels):
    law = LAWS[name]
    keys, salt = row_keys(np.arange(500), base_key(0, "source")), block_salt(0)
    rows, positions = kernels.edges(keys, salt, law, None)
    out = np.full(law.size, 3, np.uint16)
    kernels.scatter(keys, salt, law, out)
    assert np.array_equal(out, 3 + np.bincount(positions, minlength=law.size))
    assert (np.diff(rows * law.size + positions) > 0).all()


@pytest.mark.parametrize("kernels", [plain, compiled], ids=["numpy", "numba"])
def test_more_rows_than_stamps_are_counted_rightly(kernels):
    law, rows = BlockLaw(16, 0.6), 2 * compiled.STAMPS + 77
    keys = row_keys(np.arange(rows), base_key(0, "source"))
    out = np.zeros(law.size, np.uint32)
    kernels.scatter(keys, block_salt(1), law, out)
    _, positions = kernels.edges(keys, block_salt(1), law, None)
    assert np.array_equal(out, np.bincount(positions))
    assert abs(out.sum() / (rows * 16) - 0.6) < 5 * (0.24 / (rows * 16)) ** 0.5


def test_stored_matrices_are_counted_alike_by_both_kernels():
    graph = StoredGraph.random(800, 60, seed=1)
    firing = np.arange(0, 800, 3)
    for start, stop in ((0, 800), (13, 413), (5, 5)):
        ours, theirs = np.zeros((2, stop - start), np.uint16)
        for kernels, out in ((plain, ours), (compiled, theirs)):
            kernels.csr_scatter(graph.matrix.indptr, graph.matrix.indices, firing, start, stop, out)
        assert np.array_equal(ours, theirs)
        assert np.array_equal(ours, graph.matrix[firing, start:stop].toarray().sum(0))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(data())
def test_both_kernels_give_one_graph_for_any_size_block_and_range(draw):
    n = draw.draw(integers(2, 3000), "n")
    degree = draw.draw(floats(1e-3, 0.97), "density") * n
    block = 1 << draw.draw(integers(4, 12), "bits")
    seed, orient = (
        draw.draw(integers(0, 2**64 - 1), "seed"),
        draw.draw(sampled_from(("source", "target")), "rows"),
    )
    ours, theirs = (ImplicitGraph(n, degree, seed, orient, kernels, block) for kernels in ("numba", "numpy"))
    start, stop = sorted(draw.draw(integers(0, n), "end") for _ in range(2))
    firing = np.unique(draw.draw(lists(integers(0, n - 1), max_size=30), "firing")).astype(np.int64)
    counts = ours.counts(firing, start, stop)
    assert np.array_equal(counts, theirs.counts(firing, start, stop))
    source, target = ours.edges_out_of(firing, start, stop)
    assert np.array_equal(counts, np.bincount(target - start, minlength=stop - start))
    for found, other in zip((source, target), theirs.edges_out_of(firing, start, stop)):
        assert np.array_equal(found, other)
    for found, other in zip(ours.edges_into(firing, firing), theirs.edges_into(firing, firing)):
        assert np.array_equal(found, other)


def test_without_numba_auto_means_numpy_and_the_graph_is_the_same(monkeypatch):
    firing = np.arange(0, 3000, 7)
    before = ImplicitGraph(3000, 100, seed=5).counts(firing)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "numba" else find(name))
    monkeypatch.setitem(sys.modules, "numba", None)
    assert kernels_named("auto") is plain
    assert np.array_equal(ImplicitGraph(3000, 100, seed=5).counts(firing), before)
    with pytest.raises(MissingExtraError, match=r"pip install 'fingerpost\[neuroidal\]'"):
        ImplicitGraph(3000, 100, kernels="numba")


def test_an_unknown_kernel_is_refused():
    with pytest.raises(InvalidValueError, match="kernels must be 'auto', 'numba' or 'numpy'; got 'cuda'"):
        ImplicitGraph(100, 10, kernels="cuda")
