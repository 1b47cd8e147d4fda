"""transfer-curves in small: that it repeats, that its parts measure what they say, and that its claims can fail."""

from __future__ import annotations

import dataclasses

import pytest

from fingerpost.errors import ConfigError
from fingerpost.experiments import _transfer_curves_results as results
from fingerpost.experiments import load_experiment, transfer_curves

from experiments.carrying import carry_out, results_of  # isort: skip

TINY = {
    "n": 4000, "degree": 200, "k": 8, "r": 93, "lowered": (0, 3), "lowered_k_a": (0,), "recall": (0, 6), "graphs": 2,
    "pairs": 2, "fractions": (0.5, 0.7, 0.8, 0.9, 0.95, 1.0),
}  # fmt: skip


def test_it_repeats_to_the_bit_and_what_it_shows_in_small_points_the_way_it_should(tmp_path):
    first = carry_out("transfer-curves", tmp_path / "first", **TINY)
    carry_out("transfer-curves", tmp_path / "second", **TINY)
    assert results_of(tmp_path / "first") == results_of(tmp_path / "second")
    claims = {claim.name: claim for claim in first.claims()}
    assert {
        "join-no-upper-margin",
        "join-degrades",
        "lowering-needs-the-link",
        "link-steepens",
        "theory-join",
    } <= set(claims)
    for name in ("join-no-upper-margin", "lowering-needs-the-link", "theory-join"):
        assert claims[name].holds, claims[name]


def test_full_input_fires_all_of_a_join_and_none_fires_none():
    config = dataclasses.replace(transfer_curves.Config(), **TINY)
    for curves in transfer_curves._on_graph(config, 0):
        assert curves["join-16"][-1] == curves["two-step"][-1] == curves["recall-6"][-1] == 1
        assert curves["outside-0"] == [0.0] * 6
        assert curves["outside-6"][-1] > 0
        assert all(0 <= share <= 1 for name in curves if "outside" not in name for share in curves[name])


def test_a_curve_above_the_line_refutes_that_join_has_no_upper_margin():
    config = dataclasses.replace(transfer_curves.Config(), **TINY)
    under = [[{"join-16": [0.0, 0.1, 0.2, 0.4, 0.6, 1.0]}]] * 2
    over = [[{"join-16": [0.0, 0.1, 0.2, 0.4, 0.97, 1.0]}]] * 2
    assert results._largest_gain(config, under, "join-16")[0] < 0
    assert results._largest_gain(config, over, "join-16")[0] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "cuda"}, "cpu"),
        ({"degree": 0}, "degree"),
        ({"r": 0}, "r is 0"),
        ({"graphs": 1}, "at least 2"),
        ({"lowered": (1,)}, "0 is among"),
        ({"recall": (0, 32)}, "above 0"),
        ({"lowered_k_a": (0, 16)}, "above 0"),
        ({"fractions": (0.5, 1.0)}, "at least three"),
        ({"fractions": (0.5, 0.4, 1.0)}, "increasing"),
        ({"fractions": (0.5, 0.6, 0.9)}, "last is 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        transfer_curves.check(
            dataclasses.replace(load_experiment("transfer-curves").PRESETS["quick"], **changes)
        )
