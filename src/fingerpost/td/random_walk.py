"""Sutton's random walk, of any size, with its exact values."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from fingerpost.errors import InvalidTypeError, InvalidValueError, ShapeError
from fingerpost.td._checks import OutcomeSequence, check_number, check_unit

_BLOCK = 2**21  # steps drawn at once


class RandomWalk:
    r"""Walks on a line of states, one step left or right at a time, until they leave it at one of its ends.

    With five states, the start in the middle, outcome 0 on the left and 1 on the right, it is the example of Sutton (1988),
    section 3.2, https://doi.org/10.1007/BF00115009: the expected outcomes are 1/6, 1/3, 1/2, 2/3 and 5/6.

    Args:
      states: n, how many states are not an end.
      start: The state that walks begin in, counted from 0 on the left; the middle, ⌊n/2⌋, unless given.
      right: Probability of a step to the right, in (0, 1).
      outcomes: z at the left and at the right end.
      features: What is observed in each state, shape (n, d); unit vectors unless given.
      dtype: Of what is sampled and computed.

    >>> walk = RandomWalk(5)
    >>> [round(v, 3) for v in walk.true_values.tolist()]
    [0.167, 0.333, 0.5, 0.667, 0.833]
    >>> sequence = walk.sample(torch.Generator().manual_seed(0), 1)[0]
    >>> tuple(sequence.observations.shape), float(sequence.outcome)
    ((5, 5), 0.0)
    """

    def __init__(
        self,
        states: int = 5,
        *,
        start: int | None = None,
        right: float = 0.5,
        outcomes: tuple[float, float] = (0.0, 1.0),
        features: Tensor | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        if not isinstance(states, int) or states < 1:
            raise InvalidValueError(f"states is {states!r}; expected a whole number, at least 1")
        if not 0 < check_number(right, "right") < 1:
            raise InvalidValueError(
                f"right is {right:g}; expected a probability in (0, 1): walks have to end on both sides"
            )
        self.states, self.right, self.dtype = states, float(right), dtype
        self.start = states // 2 if start is None else start
        if not isinstance(self.start, int) or not 0 <= self.start < states:
            raise InvalidValueError(f"start is {start!r}; expected a state in 0 … {states - 1}")
        self.outcomes = (check_number(outcomes[0], "outcomes[0]"), check_number(outcomes[1], "outcomes[1]"))
        self.features = (
            torch.eye(states, dtype=dtype) if features is None else _features(features, states, dtype)
        )

    def __repr__(self) -> str:
        return (
            f"RandomWalk({self.states}, start={self.start}, right={self.right:g}, outcomes={self.outcomes})"
        )

    def sample(self, generator: torch.Generator, count: int) -> list[OutcomeSequence]:
        """Draws `count` walks.

        Args:
          generator: Of the draws, on the CPU.
          count: How many.

        Returns:
          Sequences whose observations are the features of the states that were visited, shape (m, d).
        """
        walks = self.sample_states(generator, count)
        left, right = (torch.tensor(z, dtype=self.dtype) for z in self.outcomes)
        return [OutcomeSequence(self.features[path], right if out else left) for path, out in walks]

    def sample_states(self, generator: torch.Generator, count: int) -> list[tuple[Tensor, bool]]:
        """Draws `count` walks as the states visited, (m,) int64, and whether they left on the right."""
        if not isinstance(generator, torch.Generator):
            raise InvalidTypeError(f"generator is {type(generator).__name__}; expected a torch.Generator")
        if not isinstance(count, int) or count < 1:
            raise InvalidValueError(f"count is {count!r}; expected a whole number, at least 1")
        paths: list[list[Tensor]] = [[torch.tensor([self.start])] for _ in range(count)]
        ends = [False] * count
        here, walking = torch.full((count,), self.start), torch.arange(count)
        while len(walking):
            length = max(1, min(4 + self.states**2, _BLOCK // len(walking)))
            draws = torch.rand(len(walking), length, generator=generator, dtype=torch.float64)
            path = here[:, None] + (2 * (draws < self.right).long() - 1).cumsum(1)
            outside = (path < 0) | (path >= self.states)
            ended = outside.any(1)
            stops = torch.where(ended, outside.int().argmax(1), length)
            for row, i, stop, out in zip(path, walking.tolist(), stops.tolist(), ended.tolist()):
                paths[i].append(row[:stop])
                if out:
                    ends[i] = bool(row[stop] >= self.states)
            here, walking = path[~ended, -1], walking[~ended]
        return [(torch.cat(pieces), end) for pieces, end in zip(paths, ends)]

    # what is known exactly

    @cached_property
    def transition(self) -> Tensor:
        """P, the probability of a step from one state to another, shape (n, n); rows of states beside an end sum to less."""
        ones = torch.ones(self.states - 1, dtype=self.dtype)
        return self.right * torch.diag(ones, 1) + (1 - self.right) * torch.diag(ones, -1)

    @cached_property
    def ending(self) -> Tensor:
        """The expected outcome of the next step, shape (n,): 0 away from the ends."""
        expected = torch.zeros(self.states, dtype=self.dtype)
        expected[0] += (1 - self.right) * self.outcomes[0]
        expected[-1] += self.right * self.outcomes[1]
        return expected

    @cached_property
    def true_values(self) -> Tensor:
        """The expected outcome from each state, shape (n,)."""
        return self.values()

    def values(self, gamma: float = 1.0) -> Tensor:
        """The expected discounted outcome E γ^(steps) z from each state, shape (n,)."""
        check_unit(gamma, "gamma")
        eye = torch.eye(self.states, dtype=self.dtype)
        return torch.linalg.solve(eye - gamma * self.transition, gamma * self.ending)

    @cached_property
    def visits(self) -> Tensor:
        """The expected number of visits to each state in one walk, shape (n,); their sum is the expected length."""
        eye = torch.eye(self.states, dtype=self.dtype)
        return torch.linalg.solve((eye - self.transition).T, eye[self.start])

    def expected_map(self, lam: float, gamma: float = 1.0) -> tuple[Tensor, Tensor]:
        r"""E M and E b of `sequence_map` over walks: after k walks, E w_k = E w_{k−1} + α (E b − E M E w_{k−1}).

        E M = Φᵀ D (I − γλP)⁻¹ (I − γP) Φ and E b = γ Φᵀ D (I − γλP)⁻¹ r, with D the expected visits, r the expected outcome of
        a step and Φ the features; the sum of traces is that of Sutton (1988), eq. 4, in expectation.

        Args:
          lam: λ in [0, 1].
          gamma: γ in [0, 1].

        Returns:
          E M, shape (d, d), and E b, shape (d,).
        """
        decay = check_unit(lam, "lam") * check_unit(gamma, "gamma")
        eye = torch.eye(self.states, dtype=self.dtype)
        right = torch.cat([(eye - gamma * self.transition) @ self.features, gamma * self.ending[:, None]], 1)
        solved = torch.linalg.solve(eye - decay * self.transition, right)
        both = self.features.T @ (self.visits[:, None] * solved)
        return both[:, :-1], both[:, -1]

    def rms_error(self, weights: Tensor) -> Tensor:
        """Root of the mean over states of the squared error of the predictions, for weights (..., d): shape (...)."""
        if not isinstance(weights, Tensor) or weights.shape[-1:] != self.features.shape[1:]:
            shape = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
            raise ShapeError(f"weights are {shape}; expected (..., {self.features.shape[1]})")
        return (weights.to(self.dtype) @ self.features.T - self.true_values).square().mean(-1).sqrt()


def _features(features: Any, states: int, dtype: torch.dtype) -> Tensor:
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != states:
        shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ShapeError(f"features are {shape}; expected a tensor ({states}, d), a row for each state")
    if not bool(torch.isfinite(features).all()):
        raise InvalidValueError("features have NaN or infinity")
    return features.to(dtype)
