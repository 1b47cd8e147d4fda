"""mouse-cortex in small: what it counts repeats, its claims hold and can fail, and its theory is right."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from fingerpost.errors import ConfigError, RunError
from fingerpost.experiments import _cortex_child as child
from fingerpost.experiments import _mouse_cortex_results as results
from fingerpost.experiments import load_experiment, mouse_cortex

from experiments.carrying import carry_out  # isort: skip

TINY = {"n": 100_000, "degree": 512, "joins": 3, "human_n": 2_000_000, "human_degree": 1000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return carry_out("mouse-cortex", tmp_path_factory.mktemp("run") / "cortex", **TINY)


def test_all_claims_hold_in_small_but_that_few_synapses_are_drawn(folder):
    claims = {claim.name: claim for claim in folder.claims()}
    assert set(claims) == {
        "size-two-step", "spread-two-step", "size-one-step", "spread-one-step", "size-human-tile", "inputs-are-binomial",
        "mouse-time", "human-time", "mouse-memory", "human-memory", "few-synapses", "storing-is-refused",
    }  # fmt: skip
    # An item is 2.3 % of so small a graph, and the whole of it fits into memory.
    assert {name for name, claim in claims.items() if not claim.holds} == {
        "few-synapses",
        "storing-is-refused",
    }
    assert 0.05 < claims["mouse-memory"].measured < 1


@pytest.mark.parametrize("kernels", ["numba", "numpy"])
def test_what_is_counted_is_what_the_library_gives(folder, kernels):
    config = mouse_cortex.Config(**TINY, kernels=kernels)
    tasks = {"mouse": mouse_cortex.mouse_task(config)}
    if kernels == "numba":
        tasks["human"] = mouse_cortex.human_task(config)
    for stage, task in tasks.items():
        found, again = stage_of(folder, stage), child.measure(task)
        for kind in ("two", "one"):
            sizes = [(join["size"], join["shared"]) for join in found[kind]]
            assert sizes == [(join["size"], join["shared"]) for join in again[kind]]
        assert again["inputs"] == found["inputs"]


def stage_of(folder, name):
    return json.loads((folder.directory / "stages" / f"{name}.json").read_text())["result"]


def test_a_wrong_theory_would_be_noticed(folder):
    config, joins = mouse_cortex.Config(**TINY), stage_of(folder, "mouse")["two"]
    for degree, agrees in ((512, True), (520, False)):
        parts = [
            (join["size"], *results.expected(dataclasses.replace(config, degree=degree), join, 2, 2338))
            for join in joins
        ]
        z = sum((size - mean) / deviation for size, mean, deviation in parts) / math.sqrt(len(parts))
        assert (abs(z) < 3.3) == agrees


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"degree": 16_000_000}, "0 < degree < n"),
        ({"human_degree": 0}, "0 < degree < n"),
        ({"k": 5000}, "at most the degree"),
        ({"k": 0}, "at least 1"),
        ({"joins": 1}, "at least 2"),
        ({"kernels": "cuda"}, "auto, numba or numpy"),
        ({"device": "cuda"}, "on the cpu"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    module = load_experiment("mouse-cortex")
    with pytest.raises(ConfigError, match=message):
        module.check(dataclasses.replace(module.PRESETS["quick"], **changes))


def test_a_child_that_fails_says_why():
    with pytest.raises(RunError, match="degree is the expected number of edges"):
        child.measured_in_child(child.Task(n=10, degree=20, r=2, k=1))
