"""Sequences from Gymnasium environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td._checks import OutcomeSequence


def from_gymnasium(
    env: Any,
    policy: Callable[[Any], Any],
    episodes: int,
    *,
    features: Callable[[Any], Any] | None = None,
    value: Callable[[Tensor], Any] | None = None,
    max_steps: int | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> list[OutcomeSequence]:
    r"""Episodes of an environment under a policy, as sequences with rewards.

    c_{t+1} is the reward of the step after observation x_t. Where the environment terminates nothing is to come, and the
    outcome is z = 0: TD(λ) then learns the expected (discounted) return. The extra ``gym`` installs Gymnasium, which is not
    imported here: anything with its `reset` and `step` will do.

    Args:
      env: A Gymnasium environment (not a vectorised one). It is not closed.
      policy: From an observation, as the environment gives it, to an action.
      episodes: How many, at least 1.
      features: From an observation to d numbers. Unless given, numbers are flattened, and one of n discrete states becomes
        a unit vector (n,).
      value: The prediction for an observation's features, shape (d,), which is the outcome of an episode that was cut off:
        how it would have gone on is not known.
      max_steps: After how many steps an episode is cut off, besides the environment's own limit.
      seed: Of the environment at the first reset; later episodes go on from it.
      dtype: Of the sequences.

    Returns:
      One `OutcomeSequence` for each episode.

    Raises:
      InvalidValueError: If an episode was cut off and no `value` was given, or an argument is out of range.
      ShapeError: If features are no row of numbers.

    >>> class Corridor:
    ...     observation_space = None
    ...     def reset(self, seed=None):
    ...         self.left = 3
    ...         return [float(self.left)], {}
    ...     def step(self, action):
    ...         self.left -= action
    ...         return [float(self.left)], -1.0, self.left == 0, False, {}
    >>> episode = from_gymnasium(Corridor(), lambda observation: 1, 1)[0]
    >>> episode.observations.tolist(), episode.rewards.tolist(), float(episode.outcome)
    ([[3.0], [2.0], [1.0]], [-1.0, -1.0, -1.0], 0.0)
    """
    _check(env, episodes, max_steps)
    encode = _encoder(env, features, dtype)
    return [
        _episode(env, policy, encode, value, max_steps, seed if number == 0 else None, number, dtype)
        for number in range(episodes)
    ]


def _check(env: Any, episodes: int, max_steps: int | None) -> None:
    for name in ("reset", "step"):
        if not callable(getattr(env, name, None)):
            raise InvalidTypeError(
                f"env is {type(env).__name__}, without {name}(); expected a Gymnasium environment"
            )
    if hasattr(env, "num_envs"):
        raise InvalidTypeError(
            "env is vectorised; expected one environment: its episodes are one after the other"
        )
    for name, number in (("episodes", episodes), ("max_steps", max_steps)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InvalidValueError(f"{name} is {number!r}; expected a whole number, at least 1")


def _episode(
    env: Any, policy: Callable[[Any], Any], encode: Callable[[Any], Tensor], value: Callable[[Tensor], Any] | None,
    max_steps: int | None, seed: int | None, number: int, dtype: torch.dtype,
) -> OutcomeSequence:  # fmt: skip
    observation, _ = env.reset(seed=seed)
    rows, rewards = [], []
    while True:
        rows.append(encode(observation))
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        rewards.append(float(reward))
        if terminated:
            outcome = 0.0
            break
        if truncated or len(rows) == max_steps:
            if value is None:
                raise InvalidValueError(
                    f"episode {number} was cut off after {len(rows)} steps, and what would have come is not known: give "
                    "value, a prediction for its last observation, or more steps"
                )
            outcome = float(value(encode(observation)))
            break
    return OutcomeSequence(
        torch.stack(rows), torch.tensor(outcome, dtype=dtype), torch.tensor(rewards, dtype=dtype)
    )


def _encoder(env: Any, features: Callable[[Any], Any] | None, dtype: torch.dtype) -> Callable[[Any], Tensor]:
    space = getattr(env, "observation_space", None)
    count, first = getattr(space, "n", None), int(getattr(space, "start", 0))

    def encode(observation: Any) -> Tensor:
        if features is None and count is not None:
            return torch.nn.functional.one_hot(torch.tensor(int(observation) - first), int(count)).to(dtype)
        found = observation if features is None else features(observation)
        try:
            row = torch.as_tensor(np.asarray(found)).to(dtype)
        except (TypeError, ValueError) as error:
            raise ShapeError(
                f"an observation is {type(found).__name__}, no numbers ({error}); give features"
            ) from None
        if features is not None and row.ndim != 1:
            raise ShapeError(f"features gave {tuple(row.shape)}; expected (d,)")
        return row.flatten()

    return encode
