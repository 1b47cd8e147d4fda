"""What holds for every test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _validation_of_distributions_stays_on() -> Iterator[None]:
    """torch.compile turns torch's validation of distributions off for the whole process; the next test gets it back."""
    yield
    distributions = sys.modules.get("torch.distributions")
    if distributions is not None:
        distributions.Distribution.set_default_validate_args(__debug__)
