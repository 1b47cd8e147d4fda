"""Every form of the corpus by real growth of memory, in a process of its own, against what the guard says there."""

from __future__ import annotations

import pytest

from fingerpost.errors import RunError
from fingerpost.experiments._leak_growth import BACKWARD, CURED, PLAIN, Task, measured_in_child
from fingerpost.leakwatch.corpus import FORMS


@pytest.fixture(scope="module")
def measured():
    return measured_in_child(Task(ways=(PLAIN, CURED, BACKWARD), passes=3, rows=16, width=8))


def test_a_form_grows_exactly_if_it_is_a_leaking_one_and_by_the_guards_bytes(measured):
    assert set(measured) == set(FORMS)
    for name, ways in measured.items():
        live, leaks = ways[PLAIN]["live"], ways[PLAIN]["leaks"]
        assert (live[-1] > 0) == FORMS[name].leaks, name
        assert live[-1] == 3 * sum(leak["nbytes"] for leak in leaks), name
        assert [leak["line"] for leak in leaks] == [ways[PLAIN]["line"]] * FORMS[name].leaks, name
        if CURED in ways:
            assert ways[CURED]["live"] == [0, 0, 0], name


def test_with_a_backward_pass_the_memory_is_lost_all_the_same(measured):
    for name, ways in measured.items():
        assert (ways[BACKWARD]["live"][-1] > 0) == FORMS[name].leaks, name
    assert "modified by an inplace operation" in measured["x /= norm(x)"][BACKWARD]["error"]


def test_a_child_that_fails_says_why():
    with pytest.raises(RunError, match="KeyError"):
        measured_in_child(Task(("no such form",)))
