"""join-instability in small: that it repeats, what its chains record, and that its claims can fail."""

from __future__ import annotations

import dataclasses

import pytest

from fingerpost.errors import ConfigError
from fingerpost.experiments import _join_chains as chains
from fingerpost.experiments import _join_instability_results as results
from fingerpost.experiments import _join_valiant as valiant
from fingerpost.experiments import join_instability, load_experiment
from fingerpost.neuroidal import theory

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "n": 3000, "degree": 100, "k": 8, "r": 157, "r_two_step": 178, "graphs": 3, "pairs": 3, "chain_graphs": 2, "chains": 3,
    "length": 6, "depth": 3, "stored": 6,
}  # fmt: skip


def test_it_repeats_to_the_bit_and_what_it_shows_in_small_points_the_way_it_should(tmp_path):
    first = carry_out("join-instability", tmp_path / "first", **TINY)
    carry_out("join-instability", tmp_path / "second", **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in first.claims()}
    assert set(claims) == {
        "theory-sizes", "small-variations-amplified", "stored-copy", "stored-graph", "ends-one-step-chain",
        "ends-two-step-chain", "chains-as-theory", "valiants-r", "unstable-everywhere",
    }  # fmt: skip
    for name in (
        "theory-sizes",
        "stored-copy",
        "stored-graph",
        "chains-as-theory",
        "valiants-r",
        "unstable-everywhere",
    ):
        assert claims[name].holds, claims[name]
    assert claims["small-variations-amplified"].measured > 3


def test_a_chain_ends_where_nothing_is_left_and_keeps_its_length():
    graph = join_instability.graph(dataclasses.replace(join_instability.Config(), **TINY), 0)
    assert chains.chain(graph, 40, 8, 1, 5, seed=0) == [40, 0, 0, 0, 0, 0]
    assert chains.chain(graph, 1500, 8, 1, 3, seed=0)[1:] == [3000, 3000, 3000]


def test_a_tree_has_half_as_many_items_at_each_level():
    graph = join_instability.graph(dataclasses.replace(join_instability.Config(), **TINY), 0)
    assert [len(level) for level in chains.tree(graph, 157, 8, 1, 3, seed=1)] == [8, 4, 2, 1]


def test_the_stationary_size_is_where_a_join_keeps_it():
    cell = (100_000, 512, 16, 2)
    r = valiant.stationary(cell)
    assert abs(valiant.expected(cell, r) - r) <= min(
        abs(valiant.expected(cell, s) - s) for s in (r - 1, r + 1)
    )
    assert r < theory.solve_r(*cell)


def test_a_wrong_size_refutes_the_size_curve():
    config = dataclasses.replace(join_instability.Config(), sizes=(0.95, 1.0, 1.05), graphs=2, pairs=2)
    right = [results._theory(config, size) for size in config.sizes]
    curve = [[[value - 0.001, value + 0.001] for value in right] for _ in range(2)]
    assert max(abs(results._scores(config, curve, place)[0]) for place in range(3)) < 1
    curve[0][1] = curve[1][1] = [1.2, 1.21]
    theory, printed = results._scores(config, curve, 1)
    assert theory > 3
    assert printed > 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "cuda"}, "cpu"),
        ({"graphs": 1}, "at least 2"),
        ({"chains": 0}, "at least 1"),
        ({"depth": 13}, "days"),
        ({"degree": 100_000}, "between 0 and n"),
        ({"k": 257}, "2 k must be"),
        ({"sizes": (1.0,)}, "at least two"),
        ({"sizes": (1.0, 100.0)}, "at most n"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        join_instability.check(
            dataclasses.replace(load_experiment("join-instability").PRESETS["quick"], **changes)
        )
