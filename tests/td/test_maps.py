"""Sequences as affine maps: against the step-by-step rule, grids, limits, safe steps, bad input."""

from itertools import pairwise

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td import (
    OutcomeSequence,
    RandomWalk,
    batch_fixed_point,
    maps,
    sequence_map,
    stable_alpha,
    sweep,
    td_updates,
)
from td.sequences import (
    draw,
    lengths,
    many,
    returns_by_definition,
    seeds,
    td_by_definition,
    units,
    weights,
    widths,
)

few = hypothesis.settings(max_examples=30, deadline=None)
LAMBDAS, ALPHAS = [0.0, 0.3, 0.8, 1.0], [0.0, 0.02, 0.1]


def plain_loop(training_set, lam, alpha, w, gamma=1.0, presentation="per-sequence", passes=1):
    for _ in range(passes):
        total = torch.zeros_like(w)
        for sequence in training_set:
            change = td_by_definition(sequence, w, lam, alpha, gamma).sum(0)
            if presentation == "batch":
                total = total + change
            else:
                w = w + change
        w = w + total
    return w


@few
@hypothesis.given(lengths, widths, seeds, units, units, st.booleans())
def test_a_sequence_acts_as_its_map(m, d, seed, lam, gamma, rewards):
    x, z, c = draw(m, d, seed, rewards)
    M, b = sequence_map(x, z, lam, gamma, rewards=c)
    w = weights(d)
    found = 0.3 * (b - M @ w)
    expected = td_updates(x, z, w, lam, alpha=0.3, gamma=gamma, rewards=c).sum(0)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("rewards", [False, True])
@pytest.mark.parametrize("passes", [0, 1, 3])
@pytest.mark.parametrize("presentation", ["per-sequence", "batch"])
def test_a_sweep_is_the_plain_loop_to_1e_12(presentation, passes, rewards):
    sets = [many(n, 3, n, rewards) for n in (4, 6, 1)]  # of unequal sizes
    w0 = weights(3)
    found = sweep(sets, LAMBDAS, ALPHAS, gamma=0.95, w0=w0, presentation=presentation, passes=passes)
    assert found.shape == (3, 4, 3, 3)
    for s, rows in enumerate(sets):
        for i, lam in enumerate(LAMBDAS):
            for j, alpha in enumerate(ALPHAS):
                expected = plain_loop(rows, lam, alpha, w0, 0.95, presentation, passes)
                torch.testing.assert_close(found[s, i, j], expected, rtol=1e-12, atol=1e-12)


def test_a_sweep_of_the_walk_is_the_plain_loop_to_1e_12():
    walk = RandomWalk(5)
    sets = [walk.sample(torch.Generator().manual_seed(seed), 10) for seed in range(3)]
    found = sweep(sets, [0.0, 0.5, 1.0], [0.05, 0.3], w0=0.5)
    start = torch.full((5,), 0.5, dtype=torch.float64)
    for s in range(3):
        for i, lam in enumerate([0.0, 0.5, 1.0]):
            for j, alpha in enumerate([0.05, 0.3]):
                expected = plain_loop(sets[s], lam, alpha, start)
                torch.testing.assert_close(found[s, i, j], expected, rtol=1e-12, atol=1e-12)


def test_one_training_set_has_no_axis_for_sets_and_is_the_same():
    rows = many(5, 2)
    torch.testing.assert_close(sweep(rows, LAMBDAS, ALPHAS), sweep([rows], LAMBDAS, ALPHAS)[0])
    assert batch_fixed_point(rows, 0.5).shape == (2,)
    assert batch_fixed_point(rows, [0.5]).shape == (1, 2)
    assert batch_fixed_point([rows, rows], 0.5).shape == (2, 2)
    assert batch_fixed_point([rows, rows], [0.0, 0.5, 1.0]).shape == (2, 3, 2)


def test_chunks_do_not_change_the_result(monkeypatch):
    rows = many(20, 3, rewards=True)
    whole = sweep(rows, LAMBDAS, ALPHAS)
    monkeypatch.setattr(maps, "_CHUNK", 40)
    torch.testing.assert_close(sweep(rows, LAMBDAS, ALPHAS), whole, rtol=1e-13, atol=1e-13)


def test_pairs_plain_numbers_and_rewards_in_some_sequences_are_taken():
    x, z, c = draw(4, 2, rewards=True)
    with_some = [OutcomeSequence(x, z, c), OutcomeSequence(x, z)]
    same = [(x, z, c), (x, z, torch.zeros(4, dtype=torch.float64))]
    torch.testing.assert_close(sweep(with_some, [0.5], [0.1]), sweep(same, [0.5], [0.1]))
    listed = [(x.tolist(), float(z), c.tolist()), (x.numpy(), float(z))]
    torch.testing.assert_close(sweep(with_some, [0.5], [0.1]), sweep(listed, [0.5], [0.1]))


def test_what_overflows_is_infinite_and_never_nan():
    x, z, _ = draw(5, 2)
    found = sweep([(10 * x, z)], [0.0, 1.0], [0.001, 1e3], passes=200)
    assert not found.isnan().any()
    assert torch.isfinite(found[:, 0]).all()
    assert torch.isinf(found[:, 1]).all()


# limits


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_the_fixed_point_is_the_limit_of_repeated_presentation(lam, gamma):
    rows = many(6, 2, rewards=True)
    alpha = 0.3 * stable_alpha([(torch.cat([x for x, *_ in rows]), 0.0)], lam, gamma=gamma)
    limit = batch_fixed_point(rows, lam, gamma=gamma)
    found = sweep(rows, [lam], [alpha], gamma=gamma, w0=weights(2), presentation="batch", passes=5000)[0, 0]
    torch.testing.assert_close(found, limit, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_where_a_direction_is_never_observed_the_limit_keeps_it_from_the_start(lam):
    basis = torch.linalg.qr(
        torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    )[0]
    rows = [(x @ basis[:2], z) for x, z, _ in many(6, 2)]  # two of four directions
    w0 = weights(4)
    limit = batch_fixed_point(rows, lam, w0=w0)
    torch.testing.assert_close(basis[2:] @ limit, basis[2:] @ w0)
    alpha = 0.3 * stable_alpha([(torch.cat([x for x, _ in rows]), 0.0)], lam)
    found = sweep(rows, [lam], [alpha], w0=w0, presentation="batch", passes=5000)[0, 0]
    torch.testing.assert_close(found, limit, rtol=1e-8, atol=1e-9)
    least = batch_fixed_point(rows, lam)
    torch.testing.assert_close(basis[2:] @ least, torch.zeros(2, dtype=torch.float64))


def test_at_lambda_one_the_limit_is_least_squares():
    rows = many(8, 3, rewards=True)
    x = torch.cat([row.observations for row in rows])
    y = torch.cat([returns_by_definition(row, 0.9) for row in rows])
    expected = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    torch.testing.assert_close(batch_fixed_point(rows, 1.0, gamma=0.9), expected)


def test_at_lambda_zero_the_limit_is_the_value_of_the_chain_that_the_data_look_like():
    rows = RandomWalk(5).sample(torch.Generator().manual_seed(0), 30)
    counts, ends = torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for x, z, _ in rows:
        path = x.argmax(1)
        for a, b in pairwise(path):
            counts[a, b] += 1
        ends[path[-1]] += z
    visits = sum(x.sum(0) for x, *_ in rows)
    eye = torch.eye(5, dtype=torch.float64)
    values = torch.linalg.solve(eye - counts / visits[:, None], ends / visits)
    torch.testing.assert_close(batch_fixed_point(rows, 0.0), values)


@few
@hypothesis.given(lengths, widths, seeds, units, units)
def test_up_to_twice_the_stable_step_no_sequence_lengthens_a_difference_of_weights(m, d, seed, lam, gamma):
    x, z, _ = draw(m, d, seed)
    M, _ = sequence_map(x, z, lam, gamma)
    alpha = stable_alpha([(x, z)], lam, gamma=gamma)
    eye = torch.eye(d, dtype=torch.float64)
    for factor in (0.5, 1.0, 2.0):
        assert float(torch.linalg.matrix_norm(eye - factor * alpha * M, 2)) <= 1 + 1e-12


def test_the_stable_step_is_sharp_for_one_observation():
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    alpha = stable_alpha([(x, 1.0)], 1.0)
    assert alpha == 0.25
    lengthened = torch.eye(2, dtype=torch.float64) - 2.1 * alpha * sequence_map(x, 1.0, 1.0)[0]
    assert float(torch.linalg.matrix_norm(lengthened, 2)) > 1.05
    assert stable_alpha([(0 * x, 1.0)], 1.0) == float("inf")


# bad input

X = torch.ones(3, 2, dtype=torch.float64)
GOOD = OutcomeSequence(X, torch.tensor(1.0, dtype=torch.float64))
NAN = torch.tensor(float("nan"), dtype=torch.float64)


@pytest.mark.parametrize(
    ("sequences", "error", "said"),
    [
        ([], InvalidValueError, "sequences is empty"),
        ([[]], InvalidValueError, "training set 0 is empty"),
        ([[GOOD], []], InvalidValueError, "training set 1 is empty"),
        (X, InvalidTypeError, "sequences is Tensor"),
        ([GOOD, X], InvalidTypeError, "sequence 1 is Tensor"),
        ([[GOOD], GOOD], InvalidValueError, "training set 1 is OutcomeSequence"),
        ([GOOD, GOOD._replace(outcome=NAN)], InvalidValueError, "sequence 1: outcome is nan"),
        (
            [[GOOD], [GOOD, GOOD._replace(outcome=NAN)]],
            InvalidValueError,
            "set 1, sequence 1: outcome is nan",
        ),
        ([GOOD, GOOD._replace(observations=X * NAN)], InvalidValueError, "sequence 1: observations have NaN"),
        ([GOOD, GOOD._replace(observations=X[:0])], ShapeError, "sequence 1: .*empty sequence"),
        ([GOOD, ([[1.0, 2.0], [3.0]], 1.0)], ShapeError, "sequence 1: .*rows must be of one length"),
        (
            [GOOD, GOOD._replace(observations=X[:, :1])],
            ShapeError,
            "sequence 1 has 1 feature and sequence 0 has 2",
        ),
        ([[GOOD], [GOOD._replace(observations=X[:, :1])]], ShapeError, "1 feature and"),
        ([GOOD, GOOD._replace(observations=X.float())], InvalidTypeError, r"float32.*float64"),
        ([GOOD._replace(rewards=X)], ShapeError, "sequence 0: rewards"),
    ],
)
def test_bad_sequences_are_refused_by_number(sequences, error, said):
    with pytest.raises(error, match=said):
        sweep(sequences, [0.5], [0.1])
    with pytest.raises(error, match=said):
        batch_fixed_point(sequences, 0.5)


@pytest.mark.parametrize(
    ("lambdas", "alphas", "settings", "error", "said"),
    [
        (
            [0.5, 1.1],
            [0.1],
            {},
            InvalidValueError,
            r"lambdas reaches from 0.5 to 1.1; expected numbers in \[0, 1\]",
        ),
        ([-0.5], [0.1], {}, InvalidValueError, "lambdas reaches from -0.5"),
        ([], [0.1], {}, ShapeError, "lambdas has shape"),
        (["a"], [0.1], {}, InvalidTypeError, "lambdas is"),
        ([0.5], [float("nan")], {}, InvalidValueError, "alphas holds NaN"),
        ([0.5], [[0.1]], {}, ShapeError, "alphas has shape"),
        ([0.5], [0.1], {"gamma": -1}, InvalidValueError, "gamma is -1"),
        ([0.5], [0.1], {"passes": -1}, InvalidValueError, "passes is -1"),
        ([0.5], [0.1], {"presentation": "all"}, InvalidValueError, "presentation is 'all'"),
        ([0.5], [0.1], {"w0": torch.zeros(3)}, ShapeError, "w0 has shape"),
        ([0.5], [0.1], {"w0": float("nan")}, InvalidValueError, "w0 has NaN"),
    ],
)
def test_a_bad_grid_is_refused(lambdas, alphas, settings, error, said):
    with pytest.raises(error, match=said):
        sweep([GOOD], lambdas, alphas, **settings)


def test_a_bad_lambda_of_a_limit_is_refused():
    with pytest.raises(InvalidValueError, match=r"expected numbers in \[0, 1\]"):
        batch_fixed_point([GOOD], 1.5)
    with pytest.raises(InvalidValueError, match="lam is -1"):
        sequence_map(X, 1.0, -1.0)
