"""The pytest fixture ``leak_guard``. Loading this costs nothing: torch waits until a test asks for the fixture."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fingerpost.leakwatch import LeakGuard


@pytest.fixture
def leak_guard() -> Iterator[LeakGuard]:
    """A `LeakGuard` around the test: the test fails if one of its lines keeps memory for ever.

    Its ``report`` can be read in the test. A test that expects a leak empties ``report.leaks``.
    """
    from fingerpost.leakwatch import LeakGuard

    with LeakGuard("record") as guard:
        yield guard


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fails a test whose guard has found something, as a failure of the test and not of its teardown."""
    result = yield
    guard = getattr(item, "funcargs", {}).get("leak_guard")
    if guard is not None and guard.check().leaks:
        pytest.fail(str(guard.report), pytrace=False)
    return result
