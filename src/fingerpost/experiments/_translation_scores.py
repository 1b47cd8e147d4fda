"""Scores of several trainings on the same sentences: means over trainings, bootstrap over sentences, whole or by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

from fingerpost._lazy import lazy_import
from fingerpost._table import Table, format_interval
from fingerpost.experiments._translation import MODELS
from fingerpost.lab import Claim, MeanInterval, Run, mean_interval

np = lazy_import("numpy")

PAPER = "Bahdanau, Cho and Bengio 2014, https://arxiv.org/abs/1409.0473"
ABOVE_ZERO = 1e-9
"""Bounds are part of what they allow: models of equal translations would hold at 0."""


class Score(NamedTuple):
    """The mean of a metric over trainings, and what other test sentences would give of it."""

    mean: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """The interval alone, as `Claim` takes it."""
        return self.low, self.high

    @property
    def cells(self) -> list[Any]:
        """What a table says: the mean, and the interval."""
        return [self.mean, format_interval(self.interval, 4)]


def trainings_table(
    facts: Mapping[str, Sequence[Mapping[str, Any]]],
    outcomes: Mapping[str, Mapping[str, Sequence[Any]]],
    seed: int,
    title: str = "Trainings",
) -> Table:
    """Every training: what it cost and what came of it.

    Args:
      facts: By model, those of each training, as `_translation.trained` gives them.
      outcomes: By heading, for each model a number for each training.
      seed: The first training's seed.
      title: The table's.
    """
    rows = []
    for kind, each in facts.items():
        for k, one in enumerate(each):
            cost = [one[key] for key in ("parameters", "updates", "cpu_seconds", "words")]
            came = [values[kind][k] for values in outcomes.values()]
            rows.append([MODELS[kind], seed + k, *cost, one["curve"][-1][1], *came, one["device"]])
    heads = ["model", "seed", "parameters", "updates", "CPU seconds", "words a second", "held-out perplexity"]
    caption = "CPU seconds are those of the process, evaluations among them; words are target words over these seconds."
    return Table([*heads, *outcomes, "device"], rows, title=title, caption=caption, digits=4)


def decided(
    run: Run, name: str, statement: str, source: str, expected: str, values: MeanInterval, **rest: Any
) -> None:
    """States a claim that the whole interval of a mean decides."""
    run.claim(
        Claim(
            name=name, statement=statement, source=source, expected=expected, measured=values.mean,
            interval=values.interval, decided_by="interval", **rest,
        )
    )  # fmt: skip


class Scores:
    """A metric of one model's outputs, over trainings and sentences.

    Args:
      outputs: For each training, its n outputs.
      references: The n references.
      metric: A metric with its options, such as `fingerpost.attention.Bleu`.
      resamples: Draws of n sentences with replacement.
      seed: Seeds the draws: scores with the same seed and number of sentences draw the same ones.
    """

    def __init__(
        self,
        outputs: Sequence[Sequence[str]],
        references: Sequence[str],
        metric: Any,
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        self.metric = metric
        self.statistics = np.stack([self.metric.statistics(lines, references) for lines in outputs])
        self.resamples, self.seed = resamples, seed

    def of_each(self, rows: Any = None) -> list[float]:
        """Each training's score, of all sentences or those at `rows` (indices or a mask)."""
        return [float(value) for value in self.metric.score(self._at(rows).sum(1))]

    def score(self, rows: Any = None) -> Score:
        """The mean over trainings, with its interval over sentences."""
        return self._score(self._at(rows), None)

    def gap(self, other: Scores, rows: Any = None) -> Score:
        """How far the mean is above another model's on the same sentences, drawn together."""
        return self._score(self._at(rows), other._at(rows))

    def fall(self, short: Any, long: Any, other: Scores | None = None) -> Score:
        """How much less the sentences at `long` score than those at `short`; less the other model's fall if there is one."""
        parts = [self._values(self._at(rows), salt) for salt, rows in enumerate((short, long))]
        drawn = parts[0] - parts[1]
        if other is not None:
            parts = [other._values(other._at(rows), salt) for salt, rows in enumerate((short, long))]
            drawn = drawn - (parts[0] - parts[1])
        return _percentiles(drawn)

    def kept(self, short: Any, long: Any, other: Scores | None = None) -> Score:
        """Percent of the score at `short` that sentences at `long` reach; less the other model's percent if there is one."""
        drawn = self._kept(short, long)
        return _percentiles(drawn if other is None else drawn - other._kept(short, long))

    def grouped(self, places: Any) -> Scores:
        """The scores of groups of sentences (groups, so many), each drawn or left as a whole."""
        made = copy(self)
        made.statistics = self.statistics[:, np.asarray(places)].sum(2)
        return made

    def loss(self, alone: Scores, other: tuple[Scores, Scores] | None = None) -> Score:
        """How much less than `alone` on the same draws of as many sentences; less what `other` loses, (its own, its alone)."""
        drawn = alone._values(alone.statistics) - self._values(self.statistics)
        if other is not None:
            own, its = other
            drawn = drawn - (its._values(its.statistics) - own._values(own.statistics))
        return _percentiles(drawn)

    def share(self, alone: Scores, other: tuple[Scores, Scores] | None = None) -> Score:
        """Percent of `alone`'s score that is reached, on the same draws; less what `other` reaches, (its own, its alone)."""
        drawn = self._share(alone)
        return _percentiles(drawn if other is None else drawn - other[0]._share(other[1]))

    def over_trainings(self, rows: Any = None) -> tuple[float, float]:
        """Student's t interval of the mean over trainings, on these sentences; NaNs for one training."""
        values = self.of_each(rows)
        return mean_interval(values).interval if len(values) > 1 else (float("nan"), float("nan"))

    def _kept(self, short: Any, long: Any) -> Any:
        # a share of nothing is no number, and holds no claim
        with np.errstate(divide="ignore", invalid="ignore"):
            return 100 * self._values(self._at(long), 1) / self._values(self._at(short), 0)

    def _share(self, alone: Scores) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return 100 * self._values(self.statistics) / alone._values(alone.statistics)

    def _at(self, rows: Any) -> Any:
        return self.statistics if rows is None else self.statistics[:, rows]

    def _score(self, own: Any, other: Any) -> Score:
        drawn = self._values(own)
        return _percentiles(drawn if other is None else drawn - self._values(other))

    def _values(self, statistics: Any, salt: int = 0) -> Any:
        """The mean over trainings: first of the sentences as they are, then of each draw, (1 + resamples,)."""
        n = statistics.shape[1]
        draws = np.random.default_rng((self.seed, salt))
        weights = draws.multinomial(n, np.full(n, 1 / n), size=self.resamples)
        weights = np.concatenate([np.ones((1, n), dtype=weights.dtype), weights]).astype(float)
        return np.mean([self.metric.score(weights @ one) for one in statistics], axis=0)


def _percentiles(values: Any) -> Score:
    with np.errstate(invalid="ignore"):
        low, high = np.percentile(values[1:], [2.5, 97.5]) if len(values) > 1 else (np.nan, np.nan)
    return Score(float(values[0]), float(low), float(high))


class Bucket(NamedTuple):
    """Source lengths from `shortest` to `longest` words (None: any longer), and which sentences have them."""

    shortest: int
    longest: int | None
    rows: Any

    @property
    def label(self) -> str:
        """Its lengths, such as 6–10 or 21+."""
        if self.longest is None:
            return f"{self.shortest}+"
        return f"{self.shortest}–{self.longest}" if self.longest > self.shortest else f"{self.shortest}"


def buckets(lengths: Sequence[int], edges: Sequence[int], fewest: int = 20) -> list[Bucket]:
    """Sentences by source length: up to the first edge, to the next, …, above the last; those with fewer than `fewest` go."""
    sizes, found = np.asarray(lengths), []
    for shortest, longest in zip([1, *(edge + 1 for edge in edges)], [*edges, None]):
        rows = (sizes >= shortest) & (sizes <= (np.inf if longest is None else longest))
        if rows.sum() >= fewest:
            found.append(Bucket(shortest, longest, rows))
    return found
