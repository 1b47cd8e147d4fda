"""Sutton's random walk: Figures 3, 4 and 5 of the paper on many training sets, held against what the paper prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fingerpost._lazy import lazy_import
from fingerpost.errors import ConfigError
from fingerpost.experiments import _td_sutton_results as results
from fingerpost.lab import Run, derive_seed

torch = lazy_import("torch")
td = lazy_import("fingerpost.td")

LAMBDAS = tuple(k / 10 for k in range(11))
FINE = 5
ALPHAS = tuple(k / 100 for k in range(61))
"""Step sizes on a grid of 0.01; every `FINE`-th is on the paper's grid of 0.05."""
PAPER_SETS = 100
CHUNK = 10
"""Repetitions of the paper that are computed together."""
START = 0.5
LARGEST_CHECKED = 0.3
"""Step sizes up to here are held against the exact expected weights; above, means of heavy tails are no normal variables."""


@dataclass(frozen=True)
class Config:
    """Settings; the defaults are the full preset.

    Args:
      seed: Seed of the walks.
      repetitions: How often the paper's 100 training sets are drawn anew.
      counts: Sequences in a training set; 5 and 10 are among them.
      presentations: Presentations of a training set with a small step, to reach the limit without solving for it.
      small_alpha: That step.
    """

    seed: int = 0
    repetitions: int = 200
    counts: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 10, 12)
    presentations: int = 20_000
    small_alpha: float = 0.01


PRESETS = {
    "quick": Config(repetitions=40, counts=(4, 5, 6, 10), presentations=10_000),
    "full": Config(),
}


def check(config: Config) -> None:
    """Raises ConfigError for settings that can't work."""
    if not {5, 10} <= set(config.counts):
        raise ConfigError(
            f"counts are {config.counts}; 5 and 10, which the printed figures are held against, must be there"
        )
    if min(config.counts) < 1:
        raise ConfigError("counts are numbers of sequences in a training set, at least 1")
    if config.repetitions < 16:
        raise ConfigError(
            f"repetitions is {config.repetitions}; a joint test of 11 printed values needs at least 16"
        )
    if config.presentations < 1 or config.small_alpha <= 0:
        raise ConfigError("presentations must be at least 1 and small_alpha above 0")


def run(config: Config, run: Run) -> None:
    """Draws the training sets, trains on all of them, and states which figures are met."""
    found = {
        count: run.once(f"sets-of-{count}", lambda c=count: simulate(config, c))
        for count in run.progress(sorted(config.counts), "sequences per training set")
    }
    limits = run.once("limits", lambda: limit_checks(config))
    results.show(config, run, found, limits)


def simulate(config: Config, count: int) -> dict[str, Any]:
    """The paper's experiment, again and again, with `count` sequences in a training set.

    Returns:
      For each repetition (rows) and each λ (columns) ``limit``, the mean over its 100 sets of the root mean square error in
      the limit (Figure 3), and ``limit_square``, the mean of its square; ``best``, ``best_square`` and ``best_fine``, the
      same at the best α after one presentation (Figure 5), ``alpha``, the best α; by λ and α ``mean`` and ``error``, the
      mean over all and its standard error (Figure 4); ``unseen``, the share of sets in which a state was never visited;
      ``expected``, the largest |z| of mean weights against their exact expectation.
    """
    walk = td.RandomWalk(5)
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "walks", count))
    limits, errors, weights, unseen = [], [], [], 0
    for first in range(0, config.repetitions, CHUNK):
        blocks = min(CHUNK, config.repetitions - first)
        sets = training_sets(walk, generator, blocks * PAPER_SETS, count)
        unseen += sum(int(not seen_all(rows)) for rows in sets)
        limits.append(
            walk.rms_error(td.batch_fixed_point(sets, LAMBDAS, w0=START)).unflatten(0, (blocks, -1))
        )
        w = td.sweep(sets, LAMBDAS, ALPHAS, w0=START)
        errors.append(walk.rms_error(w).unflatten(0, (blocks, -1)))
        weights.append(w[:, :, ::FINE].unflatten(0, (blocks, -1)).mean(1))
    return {
        **_figures([torch.stack([e.mean(1), e.square().mean(1)]) for e in limits], errors),
        "unseen": unseen / (config.repetitions * PAPER_SETS),
        "expected": _against_expectation(walk, torch.cat(weights), count),
    }


def training_sets(walk: Any, generator: Any, sets: int, count: int) -> list[list[Any]]:
    """Training sets of `count` walks each."""
    walks = walk.sample(generator, sets * count)
    return [walks[k : k + count] for k in range(0, len(walks), count)]


def seen_all(rows: list[Any]) -> bool:
    """Whether every state was visited in a training set."""
    return bool(torch.cat([row.observations for row in rows]).any(0).all())


def _figures(limits: list[Any], errors: list[Any]) -> dict[str, Any]:
    limit = torch.cat(limits, 1)
    mean = torch.cat([e.mean(1) for e in errors])  # (repetitions, λ, α)
    square = torch.cat([e.square().mean(1) for e in errors])
    coarse = mean[..., ::FINE]
    best = coarse.min(-1)
    return {
        "limit": limit[0].tolist(),
        "limit_square": limit[1].tolist(),
        "best": best.values.tolist(),
        "best_square": square[..., ::FINE].min(-1).values.tolist(),
        "best_fine": mean.min(-1).values.tolist(),
        "alpha": [[ALPHAS[FINE * k] for k in row] for row in best.indices.tolist()],
        "mean": coarse.mean(0).tolist(),
        "error": (coarse.std(0) / len(coarse) ** 0.5).tolist(),
    }


def _against_expectation(walk: Any, means: Any, count: int) -> float:
    """Largest |z| of mean weights, by repetition (R, λ, α, 5), against E w after `count` walks, which is known exactly."""
    alphas = torch.tensor(ALPHAS[::FINE], dtype=torch.float64)[:, None]
    chosen = (alphas[:, 0] > 0) & (alphas[:, 0] <= LARGEST_CHECKED)
    z = []
    for place, lam in enumerate(LAMBDAS):
        M, b = walk.expected_map(lam)
        w = torch.full((len(alphas), walk.states), START, dtype=torch.float64)
        for _ in range(count):
            w = w + alphas * (b - w @ M.T)
        found = means[:, place]
        z.append((found.mean(0) - w) / (found.std(0) / len(found) ** 0.5))
    return float(torch.stack(z)[:, chosen].abs().max())


def limit_checks(config: Config) -> dict[str, float]:
    """What the paper says of the limits, on 100 training sets of 10 sequences in which every state was visited.

    Returns:
      Largest differences of weights: ``presented``, of repeated presentation to the limit; ``started``, of what is presented
      to two initial weights; ``chain``, at λ = 0 to the values of the chain that the data look like; ``average``, at λ = 1 to
      the mean outcome after each state's visits; ``fixed``, of the exact fixed point of the expected rule to the true values.
    """
    walk = td.RandomWalk(5)
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "limits"))
    sets = [rows for rows in training_sets(walk, generator, PAPER_SETS, 10) if seen_all(rows)]
    limits = td.batch_fixed_point(sets, LAMBDAS, w0=START)
    few = sets[:20]
    presented = [
        td.sweep(few, LAMBDAS, [config.small_alpha], w0=w0, presentation="batch", passes=config.presentations)
        for w0 in (START, 0.0)
    ]
    maps = [walk.expected_map(lam) for lam in LAMBDAS]
    fixed = torch.stack([torch.linalg.solve(M, b) for M, b in maps])
    return {
        "presented": float((presented[0][:, :, 0] - limits[: len(few)]).abs().max()),
        "started": float((presented[0] - presented[1]).abs().max()),
        "chain": max(float((chain_values(rows) - w[0]).abs().max()) for rows, w in zip(sets, limits)),
        "average": max(float((mean_outcomes(rows) - w[-1]).abs().max()) for rows, w in zip(sets, limits)),
        "fixed": float((fixed - walk.true_values).abs().max()),
    }


def chain_values(rows: list[Any]) -> Any:
    """Expected outcomes of the Markov chain whose transition probabilities are the counted frequencies, shape (5,)."""
    moves, ends = torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for row in rows:
        path = row.observations.argmax(1)
        for here, there in zip(path.tolist(), path.tolist()[1:]):
            moves[here, there] += 1
        ends[path[-1]] += row.outcome
    visits = sum(row.observations.sum(0) for row in rows)
    return torch.linalg.solve(torch.diag(visits) - moves, ends)


def mean_outcomes(rows: list[Any]) -> Any:
    """The mean outcome over the visits to each state, shape (5,)."""
    visits = sum(row.observations.sum(0) for row in rows)
    return sum(row.observations.sum(0) * row.outcome for row in rows) / visits
