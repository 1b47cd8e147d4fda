"""The random walk: exact values, the law of its samples, the expected map, bad input."""

import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td import RandomWalk, sequence_map

float64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_suttons_walk_has_suttons_values():
    torch.testing.assert_close(RandomWalk(5).true_values, torch.arange(1, 6, dtype=float64) / 6)


@pytest.mark.parametrize("n", [1, 2, 9, 50])
def test_a_fair_walks_values_are_linear_and_its_length_is_gamblers_ruins(n):
    walk = RandomWalk(n, outcomes=(-1.0, 1.0))
    torch.testing.assert_close(walk.true_values, 2 * torch.arange(1, n + 1, dtype=float64) / (n + 1) - 1)
    k = walk.start + 1
    assert float(walk.visits.sum()) == pytest.approx(k * (n + 1 - k))


def test_a_drifting_walks_values_are_gamblers_ruins():
    walk = RandomWalk(6, right=0.7)
    ratio = torch.tensor(0.3 / 0.7, dtype=float64)
    k = torch.arange(1, 7, dtype=float64)
    torch.testing.assert_close(walk.true_values, (1 - ratio**k) / (1 - ratio**7))


def test_discounted_values_solve_bellmans_equation():
    walk = RandomWalk(7, right=0.4, outcomes=(-2.0, 3.0))
    v = torch.cat([torch.tensor([-2.0], dtype=float64), walk.values(0.9), torch.tensor([3.0], dtype=float64)])
    torch.testing.assert_close(v[1:-1], 0.9 * (0.6 * v[:-2] + 0.4 * v[2:]))


def test_walks_begin_at_the_start_step_to_neighbours_and_leave_at_the_end_they_name():
    walk = RandomWalk(4, start=1, outcomes=(-1.0, 2.0))
    for x, z, _ in walk.sample(generator(), 200):
        path = x.argmax(1)
        assert path[0] == 1
        assert (path.diff().abs() == 1).all()
        assert path[-1] == (3 if z == 2.0 else 0)


def test_samples_have_the_laws_visits_and_outcomes():
    walk = RandomWalk(5, right=0.6, start=1)
    sequences = walk.sample(generator(), 20_000)
    visits = torch.stack([x.sum(0) for x, *_ in sequences])
    error = visits.std(0) / len(sequences) ** 0.5
    assert ((visits.mean(0) - walk.visits).abs() < 4 * error).all()
    mean = torch.stack([z for _, z, _ in sequences]).mean()
    assert abs(mean - walk.true_values[1]) < 4 * 0.5 / len(sequences) ** 0.5


def test_long_walks_are_drawn_in_pieces_that_join(monkeypatch):
    from fingerpost.td import random_walk

    monkeypatch.setattr(random_walk, "_BLOCK", 60)
    walk = RandomWalk(9)
    lengths = []
    for x, z, _ in walk.sample(generator(), 30):
        path = x.argmax(1)
        assert path[0] == 4
        assert (path.diff().abs() == 1).all()
        assert path[-1] == (8 if z == 1 else 0)
        lengths.append(len(path))
    assert max(lengths) > 4


def test_a_walk_repeats_and_leaves_global_generators_alone():
    before = torch.get_rng_state()
    first, second = (RandomWalk(5).sample(generator(3), 5) for _ in range(2))
    assert all(torch.equal(a.observations, b.observations) for a, b in zip(first, second))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_the_expected_map_is_the_mean_of_maps(lam, gamma):
    features = torch.randn(5, 2, generator=generator(5), dtype=float64)
    walk = RandomWalk(5, features=features, right=0.55)
    maps = [sequence_map(x, z, lam, gamma) for x, z, _ in walk.sample(generator(1), 4000)]
    flat = torch.stack([torch.cat([M.flatten(), b]) for M, b in maps])
    M, b = walk.expected_map(lam, gamma)
    error = flat.std(0) / len(flat) ** 0.5
    assert ((flat.mean(0) - torch.cat([M.flatten(), b])).abs() < 4.5 * error).all()


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_the_expected_maps_fixed_point_is_the_true_values_where_features_tell_states_apart(lam):
    walk = RandomWalk(7, right=0.45)
    M, b = walk.expected_map(lam)
    torch.testing.assert_close(torch.linalg.solve(M, b), walk.true_values)


def test_the_error_of_the_true_values_is_zero_and_of_others_their_distance():
    walk = RandomWalk(5)
    assert float(walk.rms_error(walk.true_values)) == 0
    torch.testing.assert_close(
        walk.rms_error(torch.stack([walk.true_values + 0.1, walk.true_values - 0.2])),
        torch.tensor([0.1, 0.2], dtype=float64),
    )


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "said"),
    [
        ((0,), {}, InvalidValueError, "states is 0"),
        ((2.5,), {}, InvalidValueError, "states is 2.5"),
        ((5,), {"start": 5}, InvalidValueError, "start is 5; expected a state in 0 … 4"),
        ((5,), {"right": 1.0}, InvalidValueError, "right is 1"),
        ((5,), {"outcomes": (0.0, float("nan"))}, InvalidValueError, r"outcomes\[1\]"),
        ((5,), {"features": torch.ones(4, 2)}, ShapeError, r"features are \(4, 2\)"),
        ((2,), {"features": torch.full((2, 1), float("nan"))}, InvalidValueError, "features have NaN"),
    ],
)
def test_a_bad_walk_is_refused(arguments, settings, error, said):
    with pytest.raises(error, match=said):
        RandomWalk(*arguments, **settings)


def test_bad_sampling_and_weights_are_refused():
    walk = RandomWalk(3)
    with pytest.raises(InvalidTypeError, match="generator is int"):
        walk.sample(0, 5)
    with pytest.raises(InvalidValueError, match="count is 0"):
        walk.sample(generator(), 0)
    with pytest.raises(ShapeError, match=r"expected \(\.\.\., 3\)"):
        walk.rms_error(torch.ones(4))
