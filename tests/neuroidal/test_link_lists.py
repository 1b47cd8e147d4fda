"""Many cues at once, and thresholds that are lowered at recall."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fingerpost.errors import InvalidValueError
from fingerpost.neuroidal import Item, fire, join_link, link

from neuroidal.small import GRAPH, K, items  # isort: skip

A, B, C, D = items(4, seed=8)


@pytest.mark.parametrize("relay", [True, False])
def test_a_list_of_cues_fires_what_each_cue_fires(relay):
    cues = [A, A | D, D, A.neurons[:60]]
    one = link(GRAPH, A, B, K, relay=relay)
    assert one.fire(cues, k=K - 1) == [one.fire(cue, k=K - 1) for cue in cues]
    both = join_link(GRAPH, A, B, C, k_m=11, k_a=K, relay=relay)
    with ThreadPoolExecutor(2) as executor:
        found = both.fire(cues, k_m=10, executor=executor, tile=300)
    assert found == [both.fire(cue, k_m=10) for cue in cues]
    assert one.fire([]) == both.fire([]) == []
    assert [part.tolist() for part in one.relays(cues)] == [one.relays(cue).tolist() for cue in cues]


@pytest.mark.parametrize("relay", [True, False])
def test_a_lower_threshold_at_recall_never_fires_less(relay):
    both = join_link(GRAPH, A, B, C, k_m=11, k_a=K, relay=relay)
    cue = np.concatenate([A.neurons[:60], B.neurons[:60]])
    sizes = [len(both.fire(cue, k_m=k_m, k_a=k_a)) for k_m, k_a in ((11, K), (9, K), (9, K - 2), (7, K - 3))]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_an_item_of_a_graph_of_another_size_is_refused_as_a_cue():
    other = Item([1, 2], 5)
    one, both = link(GRAPH, A, B, K), join_link(GRAPH, A, B, C, k_m=11, k_a=K)
    for call in (
        lambda: fire(GRAPH, other, K),
        lambda: fire(GRAPH, [A, other], K),
        lambda: one.fire(other),
        lambda: link(GRAPH, A, B, K, relay=False).fire(other),
        lambda: both.fire([A, other]),
    ):
        with pytest.raises(InvalidValueError, match="graph of 5 neurons; this graph has 2000"):
            call()
