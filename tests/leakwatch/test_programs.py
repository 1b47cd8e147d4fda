"""The guard on random programs: no false alarm at all, and hardly a leak that it does not see."""

from __future__ import annotations

import gc

import pytest
import torch

from fingerpost.leakwatch import LeakGuard

from leakwatch.programs import run_program, still_alive  # isort: skip

COUNT = 300


@pytest.fixture(scope="module")
def verdicts():
    """For each seed: whether the guard reported, and whether something stayed."""
    gc.collect()
    gc.freeze()  # the collector runs after each program, and need not look at all of torch
    try:
        found = {}
        for seed in range(COUNT):
            with LeakGuard("record") as guard:
                references = run_program(seed)
            found[seed] = bool(guard.report.leaks), still_alive(references)
            assert guard.report.notes == []
        return found
    finally:
        gc.unfreeze()


def test_a_report_means_that_memory_stays(verdicts):
    assert [seed for seed, (reported, alive) in verdicts.items() if reported and not alive] == []


def test_what_stays_is_reported(verdicts):
    assert [seed for seed, (reported, alive) in verdicts.items() if alive and not reported] == []


def test_the_programs_are_of_both_kinds(verdicts):
    leaking = sum(alive for _, alive in verdicts.values())
    assert COUNT / 5 < leaking < COUNT * 4 / 5


def test_programs_repeat(verdicts):
    with torch.random.fork_rng(devices=[]):
        assert len(run_program(3)) == len(run_program(3))
