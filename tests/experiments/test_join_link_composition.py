"""join-link-composition in small: that it repeats, that circuits are what they say, and theory by enumeration."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import sparse

from fingerpost.errors import ConfigError
from fingerpost.experiments import _join_link_claims as claims
from fingerpost.experiments import _neuroidal_circuits as circuits
from fingerpost.experiments import _neuroidal_crowd as crowd
from fingerpost.experiments import join_link_composition, load_experiment
from fingerpost.experiments._neuroidal_intervals import share
from fingerpost.neuroidal import StoredGraph, theory
from fingerpost.neuroidal.link import join_link, link

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "n": 4000, "degree": 200, "k": 8, "r": 93, "lowered": (0, 1, 3), "links": 4, "first": (1.0, 0.9), "partners": (0.95,),
    "probed": 2, "graphs": 2, "memories": (1, 4, 8), "crowd_probes": 2, "sample": 400,
}  # fmt: skip


def test_it_repeats_to_the_bit_and_what_it_shows_in_small_points_the_way_it_should(tmp_path):
    first = carry_out("join-link-composition", tmp_path / "first", **TINY)
    carry_out("join-link-composition", tmp_path / "second", **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    stated = {claim.name: claim for claim in first.claims()}
    assert {
        "stable-size",
        "composition-first",
        "composition-every",
        "specific-lowered",
        "join-link-usable",
    } <= set(stated)
    assert stated["specific-lowered"].measured >= stated["specific-unlowered"].measured
    assert stated["direct-link-specific"].holds, stated["direct-link-specific"]


def ring(n, *steps):
    """Each neuron has edges to those `steps` further on."""
    matrix = np.zeros((n, n))
    for step in steps:
        matrix[np.arange(n), (np.arange(n) + step) % n] = 1
    return StoredGraph(sparse.csr_array(matrix))


def test_each_circuit_reaches_the_layer_that_it_says():
    on = ring(10, 1, 2)
    wired = [
        circuits.Circuit("link", 0, 1),
        circuits.Circuit("via-join", 2, 1),
        circuits.Circuit("join-link", 2, 1),
    ]
    found = {
        circuit.form: np.flatnonzero(mask)
        for circuit, mask in circuits.reach(on, np.array([3, 4]), wired).items()
    }
    assert found["link"].tolist() == [3, 4]
    assert found["via-join"].tolist() == [5]
    assert found["join-link"].tolist() == [6, 7]


def test_a_neuron_fires_by_its_raised_synapses_only():
    synapses = circuits.Synapses(ring(10, 1, 2), np.array([2, 7]))
    trained, reached = np.zeros(10, bool), np.zeros(10, bool)
    trained[[0, 1, 5]] = True
    reached[[0, 1, 5, 6]] = True
    assert synapses.inputs(trained, reached).tolist() == [2, 1]
    assert synapses.fired(trained, reached, 2).tolist() == [2]


def test_the_direct_link_balances_what_it_misses_against_what_it_takes_for_the_pair():
    n, degree, r = 100_000, 512, 2134
    k = circuits.best_direct(n, degree, r).k_a

    def worse(threshold):
        missed = 1 - theory.binomial_tail(theory.union_size(n, r, r), degree / n, threshold)
        return max(float(missed), float(theory.binomial_tail(r, degree / n, threshold)))

    assert worse(k) <= min(worse(k - 1), worse(k + 1))


@pytest.mark.parametrize("form", circuits.FORMS)
def test_a_circuit_is_the_librarys_memory_of_two_items(form):
    on, into = circuits.graph(4000, 200, 1), circuits.projection(4000, 200, 1)
    a, b, c, d = (circuits.item(4000, 93, which) for which in "abcd")
    circuit = circuits.Circuit(form, 0 if form == "link" else 13, 8)
    pair, cue = a | b, a | d
    if form == "link":
        memory = link(on, pair, c, 8, relay=False, projection=into)
    else:
        memory = join_link(on, a, b, c, k_m=13, k_a=8, relay=form == "join-link", projection=into)
    trained, reached = (circuits.reach(on, firing.neurons, [circuit])[circuit] for firing in (pair, cue))
    fired = circuits.Synapses(into, c.neurons).fired(trained, reached, 8)
    assert fired.tolist() == memory.fire(cue).neurons.tolist()
    assert len(fired) > 0


def false_shares(graphs, circuit, n=4000, r=93):
    """Shares of C that fire for A and another item, on each (graph of A and B, graph of C's synapses)."""
    shares = []
    for seed, (on, into) in enumerate(graphs):
        a, b, c, d = (circuits.item(n, r, seed, which) for which in "abcd")
        trained = circuits.reach(on, (a | b).neurons, [circuit])[circuit]
        reached = circuits.reach(on, (a | d).neurons, [circuit])[circuit]
        shares.append(len(circuits.Synapses(into, c.neurons).fired(trained, reached, circuit.k_a)) / r)
    return np.array(shares)


@pytest.mark.parametrize("circuit", [("join-link", 15, 12), ("via-join", 13, 8), ("link", 0, 8)])
def test_synapses_into_c_on_a_graph_of_their_own_do_as_those_of_one_stored_graph_and_as_theory(circuit):
    circuit = circuits.Circuit(*circuit)
    generated = (
        (circuits.graph(4000, 200, seed), circuits.projection(4000, 200, seed)) for seed in range(24)
    )
    stored = (StoredGraph.random(4000, 200, seed) for seed in range(12))
    expected = theory.interference(4000, 200, 93, circuit, "A and D")
    for graphs in (generated, ((one, one) for one in stored)):
        shares = false_shares(graphs, circuit)
        assert abs(shares.mean() - expected) < 4 * shares.std(ddof=1) / len(shares) ** 0.5 + 0.03


def test_one_memory_among_many_is_the_memory_alone_and_more_memories_never_fire_less():
    config = dataclasses.replace(join_link_composition.Config(), **TINY)
    found = crowd.fill(config, 0)
    for kinds in found.values():
        assert kinds["A and B"][0][1] == 0
        for kind in crowd.KINDS:
            assert kinds[kind][1][1] <= kinds[kind][2][1]


def test_a_limit_is_crossed_between_the_numbers_of_memories_on_either_side():
    memories = np.array([1, 4, 16])
    assert circuits.crossing(memories, [0.0, 0.0, 0.0], 0.01) == float("inf")
    assert circuits.crossing(memories, [0.5, 0.5, 0.5], 0.01) == 1
    assert 4 < circuits.crossing(memories, [0.0, 0.0, 0.02], 0.01) < 16


def test_the_expected_capacity_is_the_first_number_of_memories_beyond_the_limit():
    config = dataclasses.replace(join_link_composition.Config(), **TINY)
    first = claims.expected_capacity(config, circuits.Circuit("via-join", 14, 8))
    shares = theory.crowding(4000, 200, 93, ("via-join", 14, 8), [first - 1, first])
    assert shares[0] <= claims.LIMIT < shares[1]
    assert claims.expected_capacity(config, circuits.Circuit("link", 0, 60)) == float("inf")


def test_a_frontier_holds_no_circuit_that_another_beats():
    best = circuits.frontier(4000, 200, 93, "via-join", range(10, 17), range(5, 12))
    assert len(best) > 1
    assert all(a.false <= b.false and a.upper < b.upper for a, b in itertools.pairwise(best))


def test_false_recognition_and_a_dead_chain_make_a_circuit_unusable():
    config = dataclasses.replace(join_link_composition.Config(), **TINY)
    circuit = circuits.Circuit("via-join", 13, 8)
    signals = {"first 1": [1.0] * 4, "first 0.9": [0.9] * 4, "every 0.95": [1.0] * 4}
    quiet = {"signals": signals, **{kind: [0.1, 0.2] for kind in claims.KINDS}}
    assert claims.usable(config, [{circuit.name: quiet}], circuit)
    loud = quiet | {"A and D": [0.6, 0.2]}
    assert not claims.usable(config, [{circuit.name: loud}], circuit)
    assert claims.worst_kind([{circuit.name: loud}], circuit)[0] == "A and D"
    dead = quiet | {"signals": signals | {"first 0.9": [0.9, 0.6, 0.3, 0.0]}}
    assert not claims.usable(config, [{circuit.name: dead}], circuit)


def test_shares_have_intervals_that_hold_them():
    for hits in (0, 3, 10):
        found = share(hits, 10)
        assert found.low <= found.share <= found.high
    assert share(0, 10).high == pytest.approx(1 - 0.025 ** (1 / 10))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "cuda"}, "cpu"),
        ({"k": 300}, "2 k at most"),
        ({"sample": 0}, "sample"),
        ({"graphs": 1}, "at least 2"),
        ({"probed": 99}, "from 1 to links"),
        ({"lowered": (1, 2)}, "0 is among"),
        ({"lowered": (0, 40)}, "above 0"),
        ({"first": (0.9,)}, "1 is among"),
        ({"partners": (0.0,)}, "shares"),
        ({"memories": (4, 2)}, "increasing"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        join_link_composition.check(
            dataclasses.replace(load_experiment("join-link-composition").PRESETS["quick"], **changes)
        )
