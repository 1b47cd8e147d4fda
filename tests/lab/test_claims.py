from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fingerpost.errors import InvalidValueError, ShapeError
from fingerpost.lab import Claim, mean_interval, paired_interval

BASE = {"name": "c", "statement": "s", "source": "t", "expected": "≥ 0", "measured": 0.5}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({"low": 0.0}, True),
        ({"low": 0.5, "high": 0.5}, True),
        ({"low": 0.6}, False),
        ({"high": 0.4}, False),
        ({"low": 0.0, "measured": math.nan}, False),
        ({"low": 0.0, "measured": math.inf}, True),
        ({"low": 0.0, "high": 1.0, "measured": math.inf}, False),
        ({"low": 0.0, "interval": (0.1, 0.9), "decided_by": "interval"}, True),
        ({"low": 0.2, "interval": (0.1, 0.9), "decided_by": "interval"}, False),
        ({"low": 0.0, "high": 0.8, "interval": (0.1, 0.9), "decided_by": "interval"}, False),
        ({"low": 0.0, "interval": (math.nan, 0.9), "decided_by": "interval"}, False),
        ({"low": 0.0, "interval": (0.1, 0.9), "decided_by": "interval", "measured": math.nan}, False),
        ({"low": 0.2, "interval": (0.1, 0.9)}, True),
    ],
)
def test_a_claim_holds_when_its_value_or_its_whole_interval_is_inside(changes, holds):
    claim = Claim(**{**BASE, **changes})
    assert claim.holds is holds
    assert claim.to_json()["holds"] is holds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "nothing could refute it"),
        ({"low": 0.0, "decided_by": "interval"}, "give interval"),
        ({"low": 0.0, "decided_by": "vote"}, "'vote'"),
        ({"low": 0.0, "interval": (1.0,)}, r"give \(low, high\)"),
    ],
)
def test_a_claim_that_cannot_be_decided_is_refused(changes, message):
    with pytest.raises(InvalidValueError, match=message):
        Claim(**{**BASE, **changes})


@given(st.floats(allow_infinity=False), st.none() | st.tuples(st.floats(allow_infinity=False), st.just(1.0)))
def test_a_claim_comes_back_from_json(measured, interval):
    claim = Claim(**{**BASE, "measured": measured, "low": 0.0, "interval": interval})
    back = Claim.from_json(claim.to_json())
    assert back.to_json() == claim.to_json()
    assert back.holds == claim.holds


def test_claims_json_rows_have_the_contract_s_names():
    row = Claim(**BASE, low=0.0).to_json()
    names = "name statement source expected low high measured interval unit note holds decided_by"
    assert sorted(row) == sorted(names.split(" "))


def test_a_t_interval_agrees_with_the_textbook():
    # Student's sleep data, difference of the two drugs: mean 1.58, 95 % interval 0.70 to 2.46.
    first = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    second = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    found = paired_interval(first, second)
    assert found == pytest.approx((1.58, 0.7001142, 2.4598858), abs=1e-6)


def test_a_t_interval_covers_at_its_level():
    torch = pytest.importorskip("torch")
    draws = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covered = sum(low <= 0 <= high for _, low, high in (mean_interval(row.tolist(), 0.9) for row in draws))
    assert 0.88 < covered / 2000 < 0.92


def test_intervals_refuse_what_they_cannot_do():
    with pytest.raises(InvalidValueError, match="at least two"):
        mean_interval([1.0])
    with pytest.raises(InvalidValueError, match="level is 95"):
        mean_interval([1.0, 2.0], 95)
    with pytest.raises(ShapeError, match="2 and 1"):
        paired_interval([1.0, 2.0], [1.0])


def test_a_non_finite_value_makes_the_interval_nan():
    assert all(math.isnan(number) for number in mean_interval([1.0, math.nan]))
