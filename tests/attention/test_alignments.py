"""Measures of attention against their definitions by loops, and where their values are known."""

import math
from itertools import product

import pytest
import torch

from fingerpost.attention import alignment_entropy, alignment_error, coverage, monotonicity
from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError


def draw(*shape, seed=0):
    scores = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return scores.mul(2).softmax(-1)


def padded():
    """Two sentences of 4 × 5 and 2 × 3 in one batch, and each alone."""
    alone = [draw(4, 5), draw(2, 3, seed=1)]
    both = torch.zeros(2, 4, 5, dtype=torch.float64)
    both[0], both[1, :2, :3] = alone
    return both, alone


def test_monotonicity_is_kendalls_tau_in_expectation():
    weights = draw(4, 5)
    total = 0.0
    for i in range(4):
        for k in range(i + 1, 4):
            for a, b in product(range(5), repeat=2):
                total += float(weights[i, a] * weights[k, b]) * ((a < b) - (a > b))
    assert float(monotonicity(weights)) == pytest.approx(total / 6, rel=1e-12)


def test_attention_to_all_alike_has_no_order_and_the_greatest_entropy():
    weights = torch.full((3, 7), 1 / 7, dtype=torch.float64)
    assert float(monotonicity(weights)) == pytest.approx(0, abs=1e-14)
    assert float(alignment_entropy(weights)) == pytest.approx(math.log(7), rel=1e-14)
    assert float(alignment_entropy(weights, source_lengths=torch.tensor(7))) == pytest.approx(1, rel=1e-14)


def test_entropy_is_the_mean_over_target_words():
    weights = draw(4, 5)
    wanted = sum(-float(p) * math.log(float(p)) for p in weights.flatten()) / 4
    assert float(alignment_entropy(weights)) == pytest.approx(wanted, rel=1e-12)


def test_one_source_word_has_no_entropy_at_all():
    assert float(alignment_entropy(torch.ones(2, 1), source_lengths=torch.tensor(1))) == 0


def test_padding_changes_no_measure():
    both, alone = padded()
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    positions = torch.tensor([[4, 3, 2, -1], [2, 0, -1, -1]])
    found = coverage(both, source_mask=mask)
    error = alignment_error(both, positions)
    for b, weights in enumerate(alone):
        t, s = weights.shape
        one = coverage(weights)
        right = alignment_error(weights, positions[b, :t])
        pairs = [
            (alignment_entropy(both)[b], alignment_entropy(weights)),
            (monotonicity(both)[b], monotonicity(weights)),
            (found.received[b, :s], one.received),
            (found.missed[b], one.missed),
            (found.repeated[b], one.repeated),
            (error.error[b], right.error),
            (error.mass[b], right.mass),
        ]
        for batched, single in pairs:
            torch.testing.assert_close(batched, single, rtol=1e-13, atol=1e-14)


def test_a_permutation_that_is_followed_has_no_error_full_coverage_and_its_own_order():
    order = torch.tensor([2, 0, 3, 1])
    weights = torch.eye(4, dtype=torch.float64)[order]
    assert alignment_error(weights, order) == (0, 1)
    assert coverage(weights).missed == coverage(weights).repeated == 0
    inversions = sum(order[i] > order[k] for i in range(4) for k in range(i + 1, 4))
    assert float(monotonicity(weights)) == pytest.approx(1 - 2 * int(inversions) / 6)


def test_words_without_a_position_are_not_scored_and_ties_are_wrong():
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    found = alignment_error(weights, torch.tensor([0, 1, -1]))
    assert (float(found.error), float(found.mass)) == (0.5, 0.75)


def test_coverage_adds_up_to_the_number_of_target_words():
    weights = draw(6, 4)
    found = coverage(weights)
    assert float(found.received.sum()) == pytest.approx(6)
    assert float(found.repeated - found.missed) == pytest.approx((6 - 4) / 4)


def test_monotonicity_of_one_word_is_not_defined():
    assert monotonicity(draw(1, 3)).isnan()


GOOD = draw(2, 3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: alignment_entropy([[1.0]]), InvalidTypeError, "floating-point"),
        (lambda: alignment_entropy(torch.ones(2, 2).long()), InvalidTypeError, "floating-point"),
        (lambda: alignment_entropy(torch.ones(2)), ShapeError, r"\(2,\)"),
        (lambda: monotonicity(2 * GOOD), InvalidValueError, r"row at \(0,\) .* sums to 2"),
        (lambda: monotonicity(torch.tensor([[2.0, -1.0]])), InvalidValueError, "no distribution"),
        (lambda: monotonicity(GOOD * math.nan), InvalidValueError, "sums to nan"),
        (lambda: coverage(torch.zeros(2, 3)), InvalidValueError, "without a target word"),
        (lambda: coverage(GOOD, source_mask=torch.ones(2)), ShapeError, "source_mask is"),
        (lambda: coverage(GOOD, source_mask=torch.zeros(3).bool()), InvalidValueError, "without a word"),
        (lambda: alignment_entropy(GOOD, source_lengths=torch.ones(2)), ShapeError, "source_lengths"),
        (lambda: alignment_error(GOOD, torch.ones(2)), InvalidTypeError, "int64"),
        (lambda: alignment_error(GOOD, torch.ones(3).long()), ShapeError, r"\(3,\)"),
        (lambda: alignment_error(GOOD, torch.tensor([0, 3])), InvalidValueError, "positions go from 0 to 3"),
        (lambda: alignment_error(GOOD, torch.tensor([-1, -1])), InvalidValueError, "scores no word"),
        (lambda: alignment_error(padded()[0][1], torch.tensor([0, 1, 1, -1])), InvalidValueError, "padding"),
    ],
)
def test_bad_input_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
