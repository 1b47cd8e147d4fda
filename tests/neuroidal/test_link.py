"""link and join_link: relays, raised synapses and what they fire, against a dense matrix of weights."""

from __future__ import annotations

import numpy as np
import pytest

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.neuroidal import ImplicitGraph, Item, join, join_link, link

from neuroidal.small import DENSE, GRAPH, N, OTHER, OTHER_DENSE, K, inputs, items  # isort: skip

A, B, C, D = items(4, seed=1)


class Weights:
    """Synapses as a matrix of weights, which training raises from 0 to 1/k: the model to the letter."""

    def __init__(self, dense: np.ndarray, second: np.ndarray, k: int, relay: bool) -> None:
        self.dense, self.second, self.k, self.relay = dense, second, k, relay
        self.weights = np.zeros(second.shape)

    def relays(self, firing: np.ndarray) -> np.ndarray:
        active = np.zeros(N, bool)
        active[firing] = True
        return inputs(self.dense, firing) >= self.k if self.relay else active

    def train(self, source: np.ndarray, target: np.ndarray) -> None:
        into = np.zeros(N, bool)
        into[target] = True
        self.weights[np.outer(self.relays(source), into) & (self.second > 0)] = 1.0

    def fire(self, firing: np.ndarray, target: np.ndarray, k: int | None = None) -> list[int]:
        total = self.weights[self.relays(firing)].sum(0)
        return [int(neuron) for neuron in target if total[neuron] >= (self.k if k is None else k)]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("relay", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_a_link_fires_what_the_matrix_of_weights_fires(stored, relay, own):
    projection, second = (OTHER, OTHER_DENSE) if own else (GRAPH, DENSE)
    model = Weights(DENSE, second, K, relay)
    model.train(A.neurons, B.neurons)
    found = link(GRAPH, A, B, K, relay=relay, projection=projection, stored=stored)
    for cue in (A, Item(A.neurons[:80], N), C, A | C):
        assert found.fire(cue).neurons.tolist() == model.fire(cue.neurons, B.neurons)
    assert found.fire(A, k=K - 2).neurons.tolist() == model.fire(A.neurons, B.neurons, K - 2)
    source, target = found.synapses()
    assert len(source) == int(model.weights.sum())
    assert (model.weights[source, target] == 1).all()


def test_with_relays_a_link_fires_nearly_all_for_its_source_and_little_for_another():
    found = link(GRAPH, A, B, K)
    assert B.fraction_firing(found.fire(A)) > 0.99
    assert B.fraction_firing(link(GRAPH, A, B, 9).fire(D)) < 0.5


@pytest.mark.parametrize("relay", [True, False])
def test_join_link_is_a_join_and_then_a_link(relay):
    memory = join_link(GRAPH, A, B, C, k_m=11, k_a=K, relay=relay)
    joined = join(GRAPH, A, B, k=K, k_m=11)
    model = Weights(DENSE, DENSE, K, relay)
    model.train(joined.neurons, C.neurons)
    assert memory.target == C
    for cue in (A | B, A, A | D, Item((A | B).neurons[::2], N)):
        middle = np.flatnonzero(inputs(DENSE, cue.neurons) >= 11)
        assert memory.fire(cue).neurons.tolist() == model.fire(middle, C.neurons)
    lowered = np.flatnonzero(inputs(DENSE, A.neurons) >= 9)
    assert memory.fire(A, k_m=9).neurons.tolist() == model.fire(lowered, C.neurons)


def test_lists_give_the_same_links():
    many = link(GRAPH, [A, B], [C, D], K)
    for one, (source, target) in zip(many, ((A, C), (B, D)), strict=True):
        alone = link(GRAPH, source, target, K)
        assert one.fire(source) == alone.fire(source)
        assert np.array_equal(one.trained, alone.trained)
    memories = join_link(GRAPH, [A, B], [B, D], [C, C], k_m=12, k_a=K)
    assert memories[1].fire(B | D) == join_link(GRAPH, B, D, C, k_m=12, k_a=K).fire(B | D)
    assert link(GRAPH, [], [], K) == []


def test_a_projection_by_target_gives_the_same_synapses_as_one_that_is_searched():
    graph = ImplicitGraph(N, 80, 2, "target")
    found = link(GRAPH, A, B, K, projection=graph)
    source, target = graph.edges_into(B.neurons)
    kept = np.isin(source, found.trained)
    assert np.array_equal(found.synapses()[0], source[kept])
    assert np.array_equal(found.synapses()[1], target[kept])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: link(GRAPH, A, B, 0), InvalidValueError, "k must be from 1"),
        (lambda: link(GRAPH, A, B, 81), InvalidValueError, "from 1 to the graph's degree 80"),
        (lambda: link(GRAPH, A, Item([1], 9), K), InvalidValueError, "target is an item of a graph of 9"),
        (lambda: link(GRAPH, A, [B], K), InvalidTypeError, "one of each"),
        (lambda: link(GRAPH, [A], [B, C], K), ShapeError, "1 sources and 2 targets"),
        (
            lambda: link(GRAPH, A, B, K, projection=ImplicitGraph(50, 5)),
            InvalidValueError,
            "projection has 50 neurons and graph 2000",
        ),
        (lambda: join_link(GRAPH, A, B, C, k_m=90, k_a=K), InvalidValueError, "k_m must be from 1"),
        (lambda: join_link(GRAPH, A, B, C, k_m=12, k_a=0), InvalidValueError, "k_a must be from 1"),
        (lambda: link(GRAPH, A, B, K).fire(A, k=99), InvalidValueError, "k must be from 1"),
        (lambda: link(GRAPH, A, B, K).fire([N]), InvalidValueError, "outside a graph of 2000"),
    ],
)
def test_what_can_not_be_linked_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
