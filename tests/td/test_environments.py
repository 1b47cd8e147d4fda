"""Episodes of Gymnasium environments as sequences."""

import pytest
import torch

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td import TDLearner, batch_fixed_point, from_gymnasium


class Line:
    """Steps of 1 from 0 to 4, where it terminates; a reward of −1 a step."""

    observation_space = None

    def __init__(self, cut=None, shape=()):
        self.cut, self.shape, self.seeds = cut, shape, []

    def reset(self, seed=None):
        self.seeds.append(seed)
        self.place = 0
        return self._seen(), {}

    def step(self, action):
        self.place += action
        return self._seen(), -1.0, self.place == 4, self.place == self.cut, {}

    def _seen(self):
        return torch.full(self.shape, float(self.place)).numpy()


def forward(observation):
    return 1


def test_an_episode_has_an_observation_for_each_reward_and_nothing_to_come():
    (only,) = from_gymnasium(Line(), forward, 1)
    assert only.observations.tolist() == [[0], [1], [2], [3]]
    assert only.rewards.tolist() == [-1] * 4
    assert float(only.outcome) == 0


def test_the_environment_is_seeded_once():
    env = Line()
    from_gymnasium(env, forward, 3, seed=7)
    assert env.seeds == [7, None, None]


@pytest.mark.parametrize("settings", [{"max_steps": 2}, {}])
def test_a_cut_episode_ends_in_the_value_of_its_last_observation(settings):
    env = Line(cut=None if settings else 2)
    with pytest.raises(InvalidValueError, match=r"episode 0 was cut off after 2 steps.*give value"):
        from_gymnasium(env, forward, 1, **settings)
    (only,) = from_gymnasium(env, forward, 1, value=lambda x: x[0] - 4, **settings)
    assert len(only.observations) == 2
    assert float(only.outcome) == -2


def test_numbers_are_flattened_or_made_into_features():
    assert from_gymnasium(Line(shape=(2, 3)), forward, 1)[0].observations.shape == (4, 6)
    (only,) = from_gymnasium(Line(), forward, 1, features=lambda o: [1.0, float(o) ** 2])
    assert only.observations.tolist() == [[1, 0], [1, 1], [1, 4], [1, 9]]


@pytest.mark.parametrize(
    ("make", "settings", "error", "said"),
    [
        (object, {}, InvalidTypeError, r"object, without reset\(\)"),
        (Line, {"episodes": 0}, InvalidValueError, "episodes is 0"),
        (Line, {"max_steps": 0}, InvalidValueError, "max_steps is 0"),
        (Line, {"features": lambda o: [[1.0]]}, ShapeError, r"features gave \(1, 1\)"),
        (Line, {"features": lambda o: "far"}, ShapeError, "no numbers"),
    ],
)
def test_bad_input_is_refused_and_named(make, settings, error, said):
    with pytest.raises(error, match=said):
        from_gymnasium(make(), forward, **{"episodes": 1, **settings})


def test_states_of_a_gymnasium_environment_become_unit_vectors_and_their_values_are_learned():
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("CliffWalking-v1")
    path = {36: 0, 35: 2, **dict.fromkeys(range(24, 35), 1)}  # up, along the cliff, down
    rows = from_gymnasium(env, lambda state: path[int(state)], 2, seed=0)
    assert rows[0].observations.shape == (13, 48)
    values = batch_fixed_point(rows, 0.5)
    assert float(values[36]) == pytest.approx(-13)
    assert float(values[35]) == pytest.approx(-1)
    assert TDLearner(lam=0.5).fit(rows).n_features_in_ == 48


def test_a_vectorised_environment_is_refused():
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(InvalidTypeError, match="vectorised"):
        from_gymnasium(env, forward, 1)
    env.close()


def test_cart_pole_under_a_fixed_action_falls():
    gymnasium = pytest.importorskip("gymnasium")
    rows = from_gymnasium(gymnasium.make("CartPole-v1"), forward, 5, seed=0)
    assert all(row.observations.shape[1] == 4 and len(row.rewards) < 20 for row in rows)
